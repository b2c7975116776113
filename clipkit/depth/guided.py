"""The guided filter (He, Sun and Tang 2013): in every window, depth becomes a linear function of the photograph's colours.

So the map takes the photograph's edges and keeps its own values away from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

EPSILON = 1e-2
"""Regularisation in squared colour units ([0, 1]): windows whose colours vary by less than a tenth are smoothed.

Smaller values draw the photograph's texture and noise into the map."""

LONG_SIDE = 640
"""The linear functions are fitted at most this large and then enlarged (He and Sun 2015, "Fast Guided Filter")."""


def guided_filter(
    depth: NDArray[np.float32], image: NDArray[np.uint8], reach: int, epsilon: float = EPSILON
) -> NDArray[np.float32]:
    """Filter a map by a colour guide.

    Args:
        depth: `(H, W)`.
        image: `(H, W, 3)` RGB, the guide.
        reach: windows are `2 reach + 1` pixels wide.
        epsilon: how much variation of colour counts as an edge.

    Returns:
        `(H, W)` float32, the mean of the windows' linear functions, applied to each pixel.
    """
    import cv2

    height, width = depth.shape
    shrink = min(1.0, LONG_SIDE / max(height, width))
    small = (max(round(width * shrink), 1), max(round(height * shrink), 1))
    guide = image if shrink == 1.0 else cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    coarse = depth if shrink == 1.0 else cv2.resize(depth, small, interpolation=cv2.INTER_AREA)
    slopes, offset = linear_functions(
        coarse, guide.astype(np.float32) / np.float32(255), max(round(reach * shrink), 1), epsilon
    )
    if shrink != 1.0:
        slopes = cv2.resize(slopes, (width, height), interpolation=cv2.INTER_LINEAR)
        offset = cv2.resize(offset, (width, height), interpolation=cv2.INTER_LINEAR)
    out = np.array(offset, np.float32)
    for channel in range(3):
        out += slopes[..., channel] * (image[..., channel] * np.float32(1 / 255))
    return out


def linear_functions(
    depth: NDArray[np.float32], guide: NDArray[np.float32], reach: int, epsilon: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Slopes `(H, W, 3)` and offsets `(H, W)`, averaged over the windows that cover each pixel.

    In each window, for a colour guide: `a = (S + epsilon U)^-1 cov(I, p)`, `b = mean(p) - a mean(I)`.
    """
    mean_i = _mean(guide, reach)
    mean_p = _mean(depth, reach)
    covariance = _mean(guide * depth[..., None], reach) - mean_i * mean_p[..., None]
    spread = np.empty((*depth.shape, 3, 3), np.float64)
    for i in range(3):
        for j in range(i, 3):
            spread[..., i, j] = _mean(guide[..., i] * guide[..., j], reach) - mean_i[..., i] * mean_i[..., j]
            spread[..., j, i] = spread[..., i, j]
    spread += epsilon * np.eye(3)
    slopes = np.linalg.solve(spread, covariance[..., None].astype(np.float64))[..., 0].astype(np.float32)
    offset = mean_p - (slopes * mean_i).sum(axis=-1)
    return _mean(slopes, reach), _mean(offset, reach)


def _mean(values: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    """Means over windows; at the border a window is what of it lies inside."""
    import cv2

    side = (2 * reach + 1, 2 * reach + 1)
    total = cv2.boxFilter(values, cv2.CV_32F, side, normalize=False, borderType=cv2.BORDER_CONSTANT)
    ones = np.ones(values.shape[:2], np.float32)
    count = cv2.boxFilter(ones, cv2.CV_32F, side, normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(total / (count if values.ndim == 2 else count[..., None]), np.float32)
