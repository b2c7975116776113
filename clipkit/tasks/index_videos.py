"""`index`: embed the frames of videos that are new or changed, and forget those that are gone."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from clipkit.errors import UsageError
from clipkit.results import Failure, header
from clipkit.video.frames import VideoOptions, embed_videos
from clipkit.video.head import MeanP, pooled
from clipkit.video.index import Entry, Identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from clipkit.media.paths import Source
    from clipkit.models.clip import Clip
    from clipkit.video.head import Head
    from clipkit.video.index import VideoIndex

TASK = "index"

PASSING = {"timeout", "unreadable", "permission", "not_found"}
"""Failures that may be different tomorrow although the file is the same; they are not remembered."""


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """How videos are embedded.

    Attributes:
        video: how they are read and sampled.
        head: what pools frames over time.
    """

    video: VideoOptions = field(default_factory=VideoOptions)
    head: Head = field(default_factory=MeanP)


@dataclass(frozen=True, slots=True)
class Indexed:
    """A video that is in the index: `new`, `known` from before, or `renamed` from a file that was."""

    path: str
    model: str
    weights: str
    status: Literal["new", "known", "renamed"]
    frames: int | None = None
    duration: float | None = None
    task: str = TASK

    columns: ClassVar[tuple[str, ...]] = ("path", "status", "frames", "seconds")

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        found: dict[str, Any] = {"status": self.status}
        if self.frames is not None and self.duration is not None:
            found |= {"frames": self.frames, "seconds": round(self.duration, 3)}
        return header(self.task, self.path, self.model, self.weights) | found

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """One row."""
        seconds = "" if self.duration is None else round(self.duration, 3)
        yield (self.path, self.status, "" if self.frames is None else self.frames, seconds)


@dataclass(slots=True)
class _Todo:
    source: Source
    identity: Identity


def open_space(index: VideoIndex, options: IndexOptions, clip: Clip) -> int:
    """The part of the index that holds this model's embeddings under this sampling and head.

    Raises:
        UsageError: more frames are asked for than the head has positions for.
    """
    sampling, head = options.video.sampling, options.head
    if head.max_frames is not None and (sampling.frames is None or sampling.frames > head.max_frames):
        raise UsageError(
            f"{head.name} has positions for {head.max_frames} frames; ask for at most so many with --frames"
        )
    return index.space(clip.id, clip.weights_hash, sampling.key, head.name)


def run(
    inputs: Iterable[Source | Failure], options: IndexOptions, clip: Clip, index: VideoIndex
) -> Iterator[Indexed | Failure]:
    """One outcome an input, in order. Each video is kept as soon as it is embedded; a second run goes on from there."""
    space = open_space(index, options, clip)
    decided: deque[Indexed | Failure | _Todo] = deque()
    work = _Planner(index, space, clip)

    def todo() -> Iterator[Source | Failure]:
        for item in inputs:
            decision = work.decide(item)
            decided.append(decision)
            if isinstance(decision, _Todo):
                yield decision.source

    for outcome in embed_videos(todo(), clip, options.video):
        while not isinstance(decision := decided.popleft(), _Todo):
            yield decision
        identity = decision.identity
        if isinstance(outcome, Failure):
            if outcome.kind not in PASSING:
                index.put_failure(space, identity, outcome.kind, outcome.message)
            yield outcome.within(TASK, clip.id, clip.weights_hash)
            continue
        source, video = outcome
        frames = options.head.contextualise(video.embeddings)
        index.put(space, identity, duration=video.duration, times=video.times, frames=frames, vector=pooled(frames))
        yield Indexed(source.name, clip.id, clip.weights_hash, "new", len(frames), video.duration)
    for decision in decided:
        assert not isinstance(decision, _Todo)
        yield decision


def prune(index: VideoIndex, inputs: Sequence[str]) -> int:
    """Forget files under the named folders (and named files) that are no longer there; how many rows went.

    Files elsewhere stay, and so does everything under a folder that is itself gone (an unplugged disk).
    """
    folders = [os.fsencode(Path(name).absolute()) + os.sep.encode() for name in inputs if Path(name).is_dir()]
    named = {os.fsencode(Path(name).absolute()) for name in inputs}
    parents = {path for path in named if Path(os.fsdecode(path)).parent.is_dir()}
    gone = [
        path
        for path in index.paths()
        if (path in parents or path.startswith(tuple(folders))) and not os.path.lexists(path)
    ]
    return index.drop(gone)


class _Planner:
    """Decides for each input whether its embeddings are there already."""

    def __init__(self, index: VideoIndex, space: int, clip: Clip) -> None:
        self._index, self._space = index, space
        self._model = (clip.id, clip.weights_hash)
        self._by_content: dict[tuple[int, int, bytes], Entry] | None = None

    def decide(self, item: Source | Failure) -> Indexed | Failure | _Todo:
        if isinstance(item, Failure):
            return item.within(TASK, *self._model)
        if item.path is None:
            return Failure(item.name, "not_a_file", "an index keeps files; save stdin to one first", TASK, *self._model)
        try:
            status = item.path.stat()
            known = self._index.entry(self._space, os.fsencode(item.path.absolute()))
            if known is not None and (known.size, known.mtime_ns) == (status.st_size, status.st_mtime_ns):
                return self._outcome(item, known, "known")
            identity = Identity.of(item.path)
        except OSError as error:
            kind = "not_found" if isinstance(error, FileNotFoundError) else "unreadable"
            return Failure(item.name, kind, f"cannot be read: {error.strerror or error}", TASK, *self._model)
        twin = self._twins().get((identity.size, identity.mtime_ns, identity.sample))
        if twin is not None:
            self._index.adopt(twin, identity)
            return self._outcome(item, twin, "renamed")
        return _Todo(item, identity)

    def _twins(self) -> dict[tuple[int, int, bytes], Entry]:
        if self._by_content is None:
            entries = self._index.entries(self._space).values()
            self._by_content = {(e.size, e.mtime_ns, e.sample): e for e in entries}
        return self._by_content

    def _outcome(self, item: Source, known: Entry, status: Literal["known", "renamed"]) -> Indexed | Failure:
        if known.kind is not None:
            return Failure(item.name, known.kind, known.message or "", TASK, *self._model)
        return Indexed(item.name, *self._model, status)
