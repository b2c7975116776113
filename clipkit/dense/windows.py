"""Sliding windows: where they lie, and the average of what they say where they overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Window:
    """Rows `top:bottom` and columns `left:right`, in pixels."""

    top: int
    left: int
    bottom: int
    right: int


def starts(length: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along one side; the last window is shifted inward so that it ends at the end.

    `max(length - window + stride - 1, 0) // stride + 1` of them, as in mmsegmentation; none is padded.
    """
    count = max(length - window + stride - 1, 0) // stride + 1
    return [max(min(i * stride, length - window), 0) for i in range(count)]


def lay(height: int, width: int, window: int, stride: int) -> list[Window]:
    """All windows over an image, row by row. `window` 0 means one window, the whole image."""
    if window <= 0:
        return [Window(0, 0, height, width)]
    return [
        Window(top, left, min(top + window, height), min(left + window, width))
        for top in starts(height, window, stride)
        for left in starts(width, window, stride)
    ]


def average(
    pixels: Tensor, windows: list[Window], encode: Callable[[Tensor], Tensor], *, cell: int = 1, batch: int = 8
) -> Tensor:
    """Encode every window and average where they overlap.

    Args:
        pixels: one image `(3, H, W)`.
        windows: of equal size; with `cell` > 1 their edges are multiples of it.
        encode: `(N, 3, wh, ww)` -> `(N, C, a, b)`, brought to the window's size (in cells) bilinearly.
        cell: pixels a result cell covers on each side; 1 gives results at pixel resolution.
        batch: windows encoded at a time.

    Returns:
        `(C, H // cell, W // cell)` float32.
    """
    height, width = pixels.shape[1] // cell, pixels.shape[2] // cell
    total: Tensor | None = None
    count = torch.zeros(height, width, device=pixels.device)
    for at in range(0, len(windows), batch):
        some = windows[at : at + batch]
        crops = torch.stack([pixels[:, w.top : w.bottom, w.left : w.right] for w in some])
        maps = encode(crops).float()
        size = (crops.shape[2] // cell, crops.shape[3] // cell)
        if tuple(maps.shape[2:]) != size:
            maps = functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)
        if total is None:
            total = maps.new_zeros(maps.shape[1], height, width)
        for w, result in zip(some, maps, strict=True):
            rows = slice(w.top // cell, w.top // cell + size[0])
            columns = slice(w.left // cell, w.left // cell + size[1])
            total[:, rows, columns] += result
            count[rows, columns] += 1
    if total is None:
        raise ValueError("no windows to encode")
    return total.div_(count)
