"""The `diffvg` rasteriser: an installed `pydiffvg`, for comparison with the original method's renderer.

diffvg takes half-widths, renders one picture at a time and samples pixels at random positions.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

SAMPLES = 2  # a side of the pixel's sample grid, as CLIPasso uses it


def installed() -> bool:
    """Whether `pydiffvg` can be found; it is not imported."""
    return find_spec("pydiffvg") is not None


def rasterise(
    points: Tensor,
    width: Tensor,
    ink: Tensor,
    background: Tensor,
    height: int,
    width_px: int,
    samples: int = SAMPLES,
) -> Tensor:
    """Strokes over a background: (B, C, H, W); arguments as `torch_backend.rasterise`.

    `samples` is the side of the grid of samples in a pixel. diffvg renders on the device it was built for.
    """
    import pydiffvg

    pydiffvg.set_use_gpu(points.device.type == "cuda")
    channels = ink.shape[-1] - 1
    rgba = ink if channels == 3 else torch.cat((ink[..., :1].expand(*ink.shape[:-1], 3), ink[..., 1:]), -1)
    pictures = []
    for curves, widths, colours in zip(points, width, rgba, strict=True):
        shapes = [
            pydiffvg.Path(torch.tensor([2]), curve.contiguous(), is_closed=False, stroke_width=w / 2.0)
            for curve, w in zip(curves, widths, strict=True)
        ]
        groups = [
            pydiffvg.ShapeGroup(torch.tensor([i]), None, stroke_color=colour.contiguous())
            for i, colour in enumerate(colours)
        ]
        scene = pydiffvg.RenderFunction.serialize_scene(width_px, height, shapes, groups)
        pictures.append(pydiffvg.RenderFunction.apply(width_px, height, samples, samples, 0, None, *scene))
    rendered = torch.stack(pictures).permute(0, 3, 1, 2)
    alpha = rendered[:, 3:]
    return alpha * rendered[:, :channels] + (1.0 - alpha) * background
