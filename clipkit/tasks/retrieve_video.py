"""`retrieve-video`: rank indexed videos, and the moments in them, by words or by a picture (CLIP4Clip)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from clipkit.errors import InputError
from clipkit.media.image import open_image
from clipkit.results import header
from clipkit.video.head import Head, MeanP
from clipkit.video.matrix import frame_matrix
from clipkit.video.moments import all_moments, best_moment
from clipkit.video.pooling import unit
from clipkit.video.shots import shots

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from clipkit.models.clip import Clip
    from clipkit.video.index import VideoIndex
    from clipkit.video.moments import Moment

TASK = "retrieve-video"

CANDIDATES = 50
"""Videos whose moments are compared, at least; chosen by their single best frame."""

ROUNDING = 1e-5
"""Between a frame's score from the matrix of all frames and from its own row, which are summed in another order."""


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """What is looked for: its name in records, and its embedding (D,), not normalised."""

    name: str
    embedding: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class VideoHit:
    """One answer: `score` is the cosine (tightTransf: its logit), `start` and `end` the best moment in seconds."""

    path: str
    model: str
    weights: str
    query: str
    rank: int
    score: float
    start: float
    end: float
    task: str = TASK

    columns: ClassVar[tuple[str, ...]] = ("path", "rank", "score", "start", "end")

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        return header(self.task, self.path, self.model, self.weights) | {
            "query": self.query,
            "rank": self.rank,
            "score": round(self.score, 6),
            "start": round(self.start, 3),
            "end": round(self.end, 3),
        }

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """One row."""
        yield (self.path, self.rank, round(self.score, 6), round(self.start, 3), round(self.end, 3))


@dataclass(frozen=True, slots=True)
class RetrieveOptions:
    """What to answer.

    Attributes:
        top_k: at most so many hits.
        moments: rank moments instead of videos; a video may then answer more than once.
        head: the head the index was made with.
    """

    top_k: int = 10
    moments: bool = False
    head: Head = MeanP()  # noqa: RUF009  stateless


def text_query(text: str, clip: Clip) -> Query:
    """A description in words."""
    return Query(text, clip.encode_texts([text], normalize=False)[0])


def image_query(path: Path, clip: Clip) -> Query:
    """A picture that shows what is looked for.

    Raises:
        InputError: the picture cannot be read.
    """
    try:
        crop = clip.preprocess.crop(open_image(path))
    except InputError as error:
        raise InputError(error.kind, f"{path}: {error}") from None
    return Query(os.fspath(path), clip.encode_images(clip.preprocess.normalize(crop[None]), normalize=False)[0])


def run(
    query: Query,
    options: RetrieveOptions,
    clip: Clip,
    index: VideoIndex,
    space: int,
    *,
    names: Mapping[bytes, str] | None = None,
) -> Iterator[VideoHit]:
    """The best answers, best first; equal scores by path.

    Args:
        query: what is looked for.
        options: how many, and whether videos or moments.
        clip: the model, for the records.
        index: an open index.
        space: the part of it that this model, sampling and head filled.
        names: absolute paths (bytes) of the videos that may answer, and what records call them; None for all.
    """
    search = _Search(query, options, index, space, names)
    found = search.moments() if options.moments else search.videos()
    for rank, (path, score, moment) in enumerate(found, 1):
        yield VideoHit(path, clip.id, clip.weights_hash, query.name, rank, score, moment.start, moment.end)


class _Search:
    def __init__(
        self, query: Query, options: RetrieveOptions, index: VideoIndex, space: int, names: Mapping[bytes, str] | None
    ) -> None:
        self._query, self._options, self._index, self._space = query, options, index, space
        self._unit = unit(query.embedding)
        ids, paths, vectors = index.vectors(space)
        keep = [i for i, path in enumerate(paths) if names is None or path in names]
        self._ids = [ids[i] for i in keep]
        self._names = [os.fsdecode(paths[i]) if names is None else names[paths[i]] for i in keep]
        self._vectors = vectors if len(keep) == len(ids) else vectors[keep]

    def videos(self) -> list[tuple[str, float, Moment]]:
        if not self._ids:
            return []
        scores = self._scores()
        return [
            (self._names[i], float(scores[i]), best_moment(*found))
            for i in np.argsort(-scores, kind="stable")[: self._options.top_k]
            if (found := self._frames(int(i))) is not None
        ]

    def moments(self) -> list[tuple[str, float, Moment]]:
        best = frame_matrix(self._index, self._space).best_of_videos(self._unit)
        scores = np.asarray([best.get(video, -np.inf) for video in self._ids], np.float32)
        hits: list[tuple[str, float, Moment]] = []
        for i in np.argsort(-scores, kind="stable")[: max(CANDIDATES, 2 * self._options.top_k)]:
            if sum(hit[1] > scores[i] + ROUNDING for hit in hits) >= self._options.top_k:
                break  # a moment is no better than its video's best frame
            if (found := self._frames(int(i))) is not None:
                hits += [(self._names[i], moment.score, moment) for moment in all_moments(*found)]
        hits.sort(key=lambda hit: -hit[1])
        return hits[: self._options.top_k]

    def _scores(self) -> NDArray[np.float32]:
        found = (self._index.frames(video) for video in self._ids)
        frames = (np.zeros((0, 0), np.float32) if item is None else item[2] for item in found)
        together = self._options.head.rerank(self._query.embedding, frames)
        return self._vectors @ self._unit if together is None else together

    def _frames(self, i: int) -> tuple[NDArray[np.float32], NDArray[np.float64], float, NDArray[np.intp]] | None:
        """A video's frame scores, times, duration and shots; None where another process has dropped it meanwhile."""
        found = self._index.frames(self._ids[i])
        if found is None:
            return None
        duration, times, frames = found
        frames = unit(frames)
        return frames @ self._unit, times, duration, shots(frames)
