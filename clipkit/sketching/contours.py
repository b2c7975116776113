"""A guide of contours for models whose features alone cannot hold a line: the strongest edges, as much as will be drawn.

Not part of CLIPasso. A small model's layers say little about where a line belongs; the photograph's own contours say it.
Strokes are pulled to them by the distance of blurred pictures, coarse to fine, so that even a far stroke feels them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from clipkit.sketching.strokes import CANVAS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

LENGTH = 50.0  # of contour a stroke can follow, canvas units
LEVELS = 4
SHORTEST = 8.0  # canvas units
APART = 4.0  # canvas units; a contour that runs beside a better one is the other side of the same line


def strongest_contours(
    rgb: NDArray[np.float32],
    interest: NDArray[np.float32],
    strokes: int,
    *,
    inside: NDArray[np.bool_] | None = None,
    cut: NDArray[np.float32] | None = None,
) -> NDArray[np.bool_]:
    """One-pixel lines (S, S): the contours with the most contrast and interest, about as long as the strokes together.

    Canny's edges of the smoothed colours are joined into contours; each is worth its summed contrast times interest,
    and the best are taken until their length is `LENGTH` a stroke.

    Args:
        rgb: (S, S, 3) in [0, 1].
        interest: (S, S), how much a line matters there; nothing is drawn where it is zero.
        strokes: how many will be drawn.
        inside: (S, S), False on padding, whose border is no contour.
        cut: (S, S, 3), the object cut out over white: its outline is a contour too, of half the contrast.
    """
    import cv2

    unit = rgb.shape[0] / CANVAS

    def smoothed(picture: NDArray[np.float32]) -> NDArray[np.float32]:
        lab = cv2.cvtColor((picture * 255).round().astype(np.uint8), cv2.COLOR_RGB2LAB)
        even = cv2.bilateralFilter(lab, 9, 40, 5 * unit)
        return np.asarray(cv2.GaussianBlur(even, (0, 0), 1.2 * unit), np.float32)

    smooth = smoothed(rgb) if cut is None else np.concatenate((smoothed(rgb), 0.5 * smoothed(cut)), -1)
    across = np.stack([cv2.Sobel(plane, cv2.CV_32F, 1, 0) for plane in np.moveaxis(smooth, -1, 0)], -1)
    down = np.stack([cv2.Sobel(plane, cv2.CV_32F, 0, 1) for plane in np.moveaxis(smooth, -1, 0)], -1)
    strongest = (across**2 + down**2).argmax(-1)[..., None]
    dx = np.take_along_axis(across, strongest, -1)[..., 0]
    dy = np.take_along_axis(down, strongest, -1)[..., 0]
    contrast = np.hypot(dx, dy)
    allowed = np.ones(contrast.shape, np.bool_)
    if inside is not None and not inside.all():
        rim = 2 * max(2, round(3 * unit)) + 1
        framed = np.pad(inside.astype(np.uint8), 1, constant_values=1)
        allowed = cv2.erode(framed, np.ones((rim, rim), np.uint8))[1:-1, 1:-1] > 0
    allowed &= interest > 0.0
    low, high = np.quantile(contrast[allowed], (0.82, 0.93)) if allowed.any() else (0.0, 0.0)
    edges = cv2.Canny(dx.astype(np.int16), dy.astype(np.int16), low, high, L2gradient=True) > 0
    return _best_contours(edges & allowed, contrast * interest, LENGTH * unit * strokes, SHORTEST * unit, APART * unit)


def _best_contours(
    edges: NDArray[np.bool_], worth: NDArray[np.float32], budget: float, shortest: float, apart: float
) -> NDArray[np.bool_]:
    import cv2

    count, parts = cv2.connectedComponents(edges.astype(np.uint8), connectivity=8)
    length = np.bincount(parts[edges], minlength=count)
    value = np.bincount(parts[edges], weights=worth[edges], minlength=count)
    value[length < shortest] = 0.0
    side = 2 * round(apart) + 1
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    chosen = np.zeros(edges.shape, np.bool_)
    beside = np.zeros(edges.shape, np.bool_)
    for part in np.argsort(-value, kind="stable"):
        if chosen.sum() >= budget or value[part] <= 0.0:
            break
        new = (parts == part) & ~beside
        if 2 * new.sum() < length[part]:
            continue
        chosen |= new
        beside |= cv2.dilate((parts == part).astype(np.uint8), brush) > 0
    return chosen


class ContourGuide:
    """How far a sketch's ink is from the contours, relative to no ink at all: 1 for a blank page, 0 when they coincide."""

    def __init__(self, contours: NDArray[np.bool_], width: float, device: torch.device | str = "cpu") -> None:
        """Draw the contours as lines of the strokes' width, in canvas units."""
        import cv2

        side = max(1, round(width * contours.shape[0] / CANVAS))
        brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        lines = cv2.dilate(contours.astype(np.uint8), brush).astype(np.float32)
        self.empty = not contours.any()
        offsets = torch.arange(-4, 5, dtype=torch.float32, device=device)
        kernel = torch.exp(-0.5 * (offsets / 1.5) ** 2)
        self._kernel = kernel / kernel.sum()
        self._target = self._pyramid(torch.from_numpy(lines)[None, None].to(device))
        self._scale = [level.square().mean().clamp_min(1e-12) for level in self._target]

    def __call__(self, pictures: Tensor) -> Tensor:
        """Pictures (B, C, S, S) on white -> (B,)."""
        if self.empty:
            return pictures.new_zeros(len(pictures))
        ink = 1.0 - pictures.mean(1, keepdim=True)
        gaps = [
            (ours - theirs).square().mean((1, 2, 3)) / scale
            for ours, theirs, scale in zip(self._pyramid(ink), self._target, self._scale, strict=True)
        ]
        return torch.stack(gaps).mean(0)

    def _pyramid(self, ink: Tensor) -> list[Tensor]:
        """The ink blurred by 1.5 pixels, at full, half, quarter and eighth size."""
        levels: list[Tensor] = []
        for level in range(LEVELS):
            ink = functional.avg_pool2d(ink, 2) if level else ink
            rows = functional.conv2d(ink, self._kernel.view(1, 1, 1, -1), padding=(0, 4))
            levels.append(functional.conv2d(rows, self._kernel.view(1, 1, -1, 1), padding=(4, 0)))
        return levels
