"""`bench retrieve-video`: how well captions find their videos, and videos their captions."""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from clipkit.errors import UsageError
from clipkit.media.paths import Source
from clipkit.results import Failure, header
from clipkit.video.frames import VideoOptions, embed_videos
from clipkit.video.head import MeanP, pooled
from clipkit.video.metrics import RetrievalMetrics, text_to_video_ranks, video_to_text_ranks
from clipkit.video.pooling import unit
from clipkit.video.sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clipkit.models.clip import Clip
    from clipkit.video.head import Head

TASK = "bench retrieve-video"

FRAMES = 12
"""CLIP4Clip's frames a video, at one a second."""

VIDEO_COLUMNS = ("video", "path", "video_id")
CAPTION_COLUMNS = ("caption", "sentence", "text")


@dataclass(frozen=True, slots=True)
class Captioned:
    """Videos and their captions: caption t belongs to video `owner[t]`."""

    path: str
    videos: tuple[Source, ...]
    captions: tuple[str, ...]
    owner: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BenchRetrieveOptions:
    """How videos are read, and the head that pools them."""

    video: VideoOptions = field(default_factory=lambda: VideoOptions(Sampling(frames=FRAMES)))
    head: Head = field(default_factory=MeanP)


@dataclass(frozen=True, slots=True)
class RetrievalScores:
    """What `bench retrieve-video` measures over `count` videos and `captions` captions; `per_second` counts videos."""

    path: str
    model: str
    weights: str
    text_to_video: RetrievalMetrics
    video_to_text: RetrievalMetrics
    count: int
    captions: int
    per_second: float
    task: str = TASK

    columns: ClassVar[tuple[str, ...]] = ("path", "direction", "r1", "r5", "r10", "mdr", "mnr")

    def record(self) -> dict[str, Any]:
        """The JSON object; the numbers at the top level are text to video."""
        return (
            header(self.task, self.path, self.model, self.weights)
            | self.text_to_video.record()
            | {
                "video_to_text": self.video_to_text.record(),
                "count": self.count,
                "captions": self.captions,
                "per_second": round(self.per_second, 2),
            }
        )

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """One row a direction."""
        for name, found in (("text to video", self.text_to_video), ("video to text", self.video_to_text)):
            yield (self.path, name, *found.record().values())


def read_captioned(path: Path) -> Captioned:
    """A CSV with a header: `video` (or path, video_id) and `caption` (or sentence, text); paths relative to the CSV.

    A video named in several lines has several captions. A name without an extension is looked for as .mp4, .webm,
    .mkv and .avi.

    Raises:
        UsageError: no such file, no CSV, no such columns, no lines.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            names = rows.fieldnames or ()
            video = next((c for c in VIDEO_COLUMNS if c in names), None)
            caption = next((c for c in CAPTION_COLUMNS if c in names), None)
            if video is None or caption is None:
                raise UsageError(
                    f"{path}: expected the columns `video` and `caption`, found {', '.join(names) or 'nothing'}"
                )
            pairs = [(row[video] or "", row[caption] or "") for row in rows]
    except FileNotFoundError:
        raise UsageError(f"no such file: {path}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read {path} as CSV: {error}") from error
    if not pairs:
        raise UsageError(f"{path} has no lines")
    number = {name: i for i, name in enumerate(dict.fromkeys(name for name, _ in pairs))}
    videos = tuple(Source(str(place), place) for place in (_found(path.parent / name) for name in number))
    return Captioned(str(path), videos, tuple(text for _, text in pairs), tuple(number[name] for name, _ in pairs))


def run(data: Captioned, options: BenchRetrieveOptions, clip: Clip) -> Iterator[RetrievalScores | Failure]:
    """A `Failure` for each video that cannot be read, then one `RetrievalScores` over those that can."""
    frames: dict[int, NDArray[np.float32]] = {}
    started = time.perf_counter()
    for i, outcome in enumerate(embed_videos(data.videos, clip, options.video)):
        if isinstance(outcome, Failure):
            yield outcome.within(TASK, clip.id, clip.weights_hash)
        else:
            frames[i] = options.head.contextualise(outcome[1].embeddings)
    seconds = time.perf_counter() - started
    if not frames:
        return
    place = {video: row for row, video in enumerate(frames)}
    kept = [t for t, video in enumerate(data.owner) if video in place]
    owner = np.asarray([place[data.owner[t]] for t in kept])
    similarity = _similarity([data.captions[t] for t in kept], list(frames.values()), options.head, clip)
    yield RetrievalScores(
        path=data.path,
        model=clip.id,
        weights=clip.weights_hash,
        text_to_video=RetrievalMetrics.of(text_to_video_ranks(similarity, owner)),
        video_to_text=RetrievalMetrics.of(video_to_text_ranks(similarity, owner)),
        count=len(frames),
        captions=len(kept),
        per_second=len(frames) / seconds,
    )


def _similarity(
    captions: Sequence[str], videos: Sequence[NDArray[np.float32]], head: Head, clip: Clip
) -> NDArray[np.float32]:
    """(T, V)."""
    texts = clip.encode_texts(captions, normalize=False)
    first = head.rerank(texts[0], videos)
    if first is None:
        return unit(texts) @ np.stack([pooled(video) for video in videos]).T
    rows = (head.rerank(text, videos) for text in texts[1:])
    return np.stack([first, *(row for row in rows if row is not None)])


def _found(place: Path) -> Path:
    if place.suffix or place.exists():
        return place
    return next((p for s in (".mp4", ".webm", ".mkv", ".avi") if (p := place.with_suffix(s)).exists()), place)
