"""Frames to one vector, in numpy: CLIP4Clip's meanP and ActionCLIP's plain mean. No torch for embedding-only search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit length along the last axis; a zero vector stays zero."""
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norm, np.finfo(np.float32).tiny), np.float32)


def mean_pool(frames: NDArray[np.float32], mask: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """CLIP4Clip's parameter-free pooling (section 3.3, meanP): normalise frames, average, normalise.

    Args:
        frames: (..., N, D) frame embeddings.
        mask: (..., N), False for padding. A video without any frame gives zeros and so a score of 0, not NaN.

    Returns:
        (..., D) unit vectors.
    """
    frames = unit(frames)
    if mask is None:
        return unit(frames.mean(axis=-2))
    weights = mask[..., None].astype(np.float32)
    total = (frames * weights).sum(axis=-2)
    return unit(total / np.maximum(weights.sum(axis=-2), 1.0))


def plain_mean(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """ActionCLIP's meanP: average the frames as they are, (..., N, D) -> (..., D), then normalise."""
    return unit(frames.mean(axis=-2, dtype=np.float32))
