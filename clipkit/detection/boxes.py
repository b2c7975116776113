"""Box arithmetic in one place: boxes are `(N, 4)` arrays of `x0, y0, x1, y1` in pixels, x1 and y1 exclusive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def area(boxes: NDArray[Any]) -> NDArray[np.float64]:
    """`(N,)` areas; boxes turned inside out have none."""
    sides = np.maximum(np.asarray(boxes, np.float64)[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1])


def overlap(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """`(N, M)` areas shared by each box of `a` with each of `b`."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(np.asarray(high, np.float64) - low, 0)
    return np.asarray(sides[..., 0] * sides[..., 1])


def iou(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """`(N, M)` intersections over unions; 0 where both boxes are empty."""
    shared = overlap(a, b)
    union = area(a)[:, None] + area(b)[None] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def grow(boxes: NDArray[Any], factor: float, width: float, height: float) -> NDArray[np.float64]:
    """Sides times `factor` about the same centres, cut at the border of a `width` x `height` picture."""
    boxes = np.asarray(boxes, np.float64)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * factor
    return within(np.concatenate([centre - half, centre + half], axis=1), width, height)


def within(boxes: NDArray[Any], width: float, height: float) -> NDArray[np.float64]:
    """Boxes cut at the border of a `width` x `height` picture."""
    limit = np.array([width, height, width, height], np.float64)
    return np.asarray(np.clip(np.asarray(boxes, np.float64).reshape(-1, 4), 0, limit))
