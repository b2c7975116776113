"""In which order to draw: the stroke that brings the picture furthest comes next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from clipkit.sketching.paint import tensors
from clipkit.sketching.rasterize import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from clipkit.sketching.losses import Objective
    from clipkit.sketching.rasterize import Renderer
    from clipkit.sketching.strokes import Strokes

_BATCH = 8


def greedy_order(
    strokes: Strokes, objective: Objective, *, renderer: Renderer = "torch"
) -> tuple[list[int], list[float]]:
    """Indices of the strokes in drawing order, and the plain loss with the first k of them, k = 0 ... N.

    Each next stroke is the one whose addition lowers the loss most; N (N + 1) / 2 pictures are judged. Painting order is
    untouched: a partial picture shows its strokes one over the other as the finished one does.
    """
    drawn: list[int] = []
    left = list(range(len(strokes)))
    losses = [subset_losses(strokes, [()], objective, renderer=renderer)[0]]
    while left:
        candidates = subset_losses(strokes, [(*drawn, i) for i in left], objective, renderer=renderer)
        best = min(range(len(left)), key=candidates.__getitem__)
        losses.append(candidates[best])
        drawn.append(left.pop(best))
    return drawn, losses


def order_losses(
    strokes: Strokes, order: Sequence[int], objective: Objective, *, renderer: Renderer = "torch"
) -> list[float]:
    """The plain loss with the first k strokes of an order, k = 0 ... N."""
    subsets = [tuple(order[:k]) for k in range(len(order) + 1)]
    return subset_losses(strokes, subsets, objective, renderer=renderer)


def subset_losses(
    strokes: Strokes, subsets: Sequence[Sequence[int]], objective: Objective, *, renderer: Renderer = "torch"
) -> list[float]:
    """The plain loss of pictures that show only some of the strokes."""
    size = objective.size
    points, width, ink = tensors(strokes, size, objective.device)
    losses: list[float] = []
    for first in range(0, len(subsets), _BATCH):
        part = subsets[first : first + _BATCH]
        shown = torch.zeros(len(part), len(strokes), device=objective.device)
        for row, subset in enumerate(part):
            shown[row, list(subset)] = 1.0
        losses += objective.plain(_pictures(points, width, ink, shown, size, renderer)).tolist()
    return losses


def _pictures(points: Tensor, width: Tensor, ink: Tensor, shown: Tensor, size: int, renderer: Renderer) -> Tensor:
    rows = len(shown)
    # a hidden stroke is one of no opacity
    inks = torch.cat((ink[..., :-1].expand(rows, -1, -1), (ink[..., -1] * shown).unsqueeze(-1)), -1)
    with torch.no_grad():
        return render(points.expand(rows, -1, -1, -1), width.expand(rows, -1), inks, size, size, renderer=renderer)
