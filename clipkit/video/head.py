"""What every temporal head offers to the index and the search; meanP, which needs no weights and no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from clipkit.video.pooling import mean_pool

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


class Head(Protocol):
    """CLIP4Clip's similarity calculator (section 3.3): from frame embeddings and a query to a score."""

    @property
    def name(self) -> str:
        """`meanP`, `seqTransf`, `seqLSTM`, `tightTransf`."""

    @property
    def max_frames(self) -> int | None:
        """Most frames the head has positions for; None for any number."""

    def contextualise(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, D) frame embeddings, not normalised -> (N, D), what is pooled and kept in the index."""

    def rerank(self, query: NDArray[np.float32], videos: Iterable[NDArray[np.float32]]) -> NDArray[np.float32] | None:
        """Scores (V,) that look at the query (D,) and the frames together; None where the pooled vectors say it all."""


class MeanP:
    """The parameter-free head: the mean of the unit frames."""

    name = "meanP"
    max_frames: int | None = None

    def contextualise(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """The frames as they are."""
        return frames

    def rerank(self, query: NDArray[np.float32], videos: Iterable[NDArray[np.float32]]) -> NDArray[np.float32] | None:
        """Nothing to add."""
        del query, videos
        return None


def pooled(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, D) contextualised frames -> (D,) unit vector."""
    return np.ascontiguousarray(mean_pool(frames))
