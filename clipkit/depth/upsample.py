"""From a method's coarse map to the photograph's size: plain, or led by the photograph's edges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from clipkit.depth.guided import guided_filter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clipkit.depth.estimator import Estimator

Upsample = Literal["bilinear", "guided"]
# The window reaches as far as one coarse cell blurs; maps of the photograph's size still get a window to smooth in.
LEAST_REACH = 4


def depth_map(
    image: NDArray[np.uint8], estimator: Estimator, *, flip: bool | None = None, upsample: Upsample = "bilinear"
) -> tuple[NDArray[np.float32], float | None]:
    """Depth at the photograph's size.

    Args:
        image: `(H, W, 3)` RGB.
        estimator: the method.
        flip: average with the mirror image's map, mirrored back; None leaves it to the method.
        upsample: `bilinear`, or `guided` by the photograph's edges.

    Returns:
        `(H, W)` float32 metres, within the range of the method's own map; and the field of view it saw, degrees.
    """
    estimate = estimator.estimate(image)
    coarse = estimate.depth
    if estimator.flips if flip is None else flip:
        mirrored = estimator.estimate(np.ascontiguousarray(image[:, ::-1])).depth
        coarse = (coarse + mirrored[:, ::-1]) / np.float32(2)
    size = (image.shape[0], image.shape[1])
    depth = enlarge(coarse, size, corners=estimate.corners)
    if upsample == "guided":
        reach = max(round(max(size[0] / coarse.shape[0], size[1] / coarse.shape[1])), LEAST_REACH)
        depth = guided_filter(depth, image, reach)
    # Neither interpolation nor a local linear fit may invent distances.
    return np.clip(depth, coarse.min(), coarse.max(), out=depth), estimate.fov


def enlarge(depth: NDArray[np.float32], size: tuple[int, int], *, corners: bool) -> NDArray[np.float32]:
    """Bilinear resize of `(h, w)` to `size` (H, W); `corners` as in `Estimate`."""
    import torch
    from torch.nn import functional

    if depth.shape == size:
        return depth.astype(np.float32, copy=True)
    coarse = torch.from_numpy(np.ascontiguousarray(depth, np.float32))[None, None]
    return np.asarray(functional.interpolate(coarse, size=size, mode="bilinear", align_corners=corners)[0, 0].numpy())
