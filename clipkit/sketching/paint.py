"""Finished strokes to pixels: the bridge from arrays to the rasteriser, without gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from clipkit.sketching.rasterize import render
from clipkit.sketching.strokes import CANVAS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from clipkit.sketching.rasterize import Renderer
    from clipkit.sketching.strokes import Strokes


def tensors(strokes: Strokes, size: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """Points (1, N, 4, 2), widths (1, N) in pixels of a `size` x `size` picture, and ink (1, N, 2 or 4)."""
    scale = size / CANVAS
    ink = np.concatenate((strokes.color if strokes.coloured else strokes.color[:, :1], strokes.opacity[:, None]), 1)
    return (
        torch.from_numpy(strokes.points * np.float32(scale)).to(device)[None],
        torch.from_numpy(strokes.width * np.float32(scale)).to(device)[None],
        torch.from_numpy(ink).to(device)[None],
    )


def paint(strokes: Strokes, size: int, *, supersample: int = 2, renderer: Renderer = "torch") -> NDArray[np.uint8]:
    """A `size` x `size` picture over white, (size, size, 3) uint8; `supersample` squared samples smooth sharp turns."""
    fine = size * supersample
    with torch.no_grad():
        if len(strokes):
            picture = render(*tensors(strokes, fine), fine, fine, renderer=renderer)
        else:
            picture = torch.ones(1, 1, fine, fine)
        picture = torch.nn.functional.avg_pool2d(picture, supersample)[0].clamp(0.0, 1.0)
    pixels = (picture.permute(1, 2, 0).expand(size, size, 3) * 255.0).round().to(torch.uint8)
    return np.ascontiguousarray(pixels.numpy())
