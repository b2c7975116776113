"""Retrieval metrics with strict ranks: a tie never counts as found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RetrievalMetrics:
    """R@1, R@5 and R@10 as shares in [0, 1]; median and mean rank, 1 the best."""

    r1: float
    r5: float
    r10: float
    mdr: float
    mnr: float

    @classmethod
    def of(cls, ranks: NDArray[np.int64]) -> RetrievalMetrics:
        """From 1-based ranks."""
        r1, r5, r10 = (float((ranks <= k).mean()) for k in (1, 5, 10))
        return cls(r1, r5, r10, float(np.median(ranks)), float(ranks.mean()))

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "r1": round(self.r1, 6),
            "r5": round(self.r5, 6),
            "r10": round(self.r10, 6),
            "mdr": self.mdr,
            "mnr": round(self.mnr, 3),
        }


def text_to_video_ranks(similarity: NDArray[np.float32], owner: NDArray[np.intp]) -> NDArray[np.int64]:
    """The rank of each caption's video: 1 + the number of other videos that score as high or higher.

    The common way (sort, then look where the score equals the diagonal) finds a tied caption several times
    and calls one of them rank 1; a model that answers the same for everything would score 100 % there and
    comes last here.

    Args:
        similarity: (T, V) captions by videos.
        owner: (T,) the video of each caption.

    Returns:
        (T,).
    """
    own = similarity[np.arange(len(owner)), owner]
    return np.asarray((similarity >= own[:, None]).sum(axis=1), np.int64)


def video_to_text_ranks(similarity: NDArray[np.float32], owner: NDArray[np.intp]) -> NDArray[np.int64]:
    """The rank of each video's best caption among the captions of other videos, strict as above.

    Args:
        similarity: (T, V) captions by videos; every video owns at least one.
        owner: (T,) the video of each caption.

    Returns:
        (V,).
    """
    ranks = np.empty(similarity.shape[1], np.int64)
    for video in range(similarity.shape[1]):
        scores, mine = similarity[:, video], owner == video
        ranks[video] = 1 + int((scores[~mine] >= scores[mine].max()).sum())
    return ranks
