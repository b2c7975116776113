"""Boxes of the R-CNN family (Ren et al. 2015, Lin et al. 2017), as mmdetection 2 places, codes and pools them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torchvision.ops import batched_nms, roi_align

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

# Anchors: height over width, and side over stride.
RATIOS = (0.5, 1.0, 2.0)
ANCHOR_SCALE = 8
# Regions are pooled from the first four levels of the pyramid; the fifth serves proposals only.
STRIDES = (4, 8, 16, 32, 64)
FINEST = 56
# Before and after suppression (of each level for itself) in the tests of Du et al. 2022.
PER_LEVEL = 1000
MOST = 1000
PROPOSAL_NMS = 0.7
LEAST_SIDE = 1e-3
# The head's deltas are in units of these.
HEAD_STDS = (0.1, 0.1, 0.2, 0.2)
# No side grows or shrinks by more than this factor.
MOST_GROWTH = 1000 / 16


def anchors(rows: int, columns: int, stride: int, device: torch.device | str = "cpu") -> Tensor:
    """`(rows * columns * 3, 4)` boxes: at each cell's top left corner, cell by cell, the three shapes of one area."""
    ratios = torch.tensor(RATIOS, device=device).sqrt()
    half = ANCHOR_SCALE * stride / 2 * torch.stack([1 / ratios, ratios], dim=1)
    y, x = torch.meshgrid(
        torch.arange(rows, device=device) * stride, torch.arange(columns, device=device) * stride, indexing="ij"
    )
    centre = torch.stack([x, y], dim=-1).reshape(-1, 1, 2)
    return torch.cat([centre - half, centre + half], dim=-1).reshape(-1, 4)


def decode(
    boxes: Tensor, deltas: Tensor, width: float, height: float, stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0)
) -> Tensor:
    """Move and stretch boxes (Girshick et al. 2014, appendix C), cut at the border of a `width` x `height` picture.

    Args:
        boxes: `(N, 4)`.
        deltas: `(N, 4)`: shifts of the centre in sides, logarithms of the factors of the sides, both over `stds`.
        width: of the picture.
        height: of the picture.
        stds: what the deltas are multiplied by.

    Returns:
        `(N, 4)`.
    """
    deltas = deltas * deltas.new_tensor(stds)
    most = math.log(MOST_GROWTH)
    sides = boxes[:, 2:] - boxes[:, :2]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 + deltas[:, :2] * sides
    half = sides * deltas[:, 2:].clamp(-most, most).exp() / 2
    limit = boxes.new_tensor([width, height, width, height])
    return torch.cat([centre - half, centre + half], dim=1).clamp(min=boxes.new_zeros(4), max=limit)


def propose(logits: Sequence[Tensor], deltas: Sequence[Tensor], width: int, height: int) -> tuple[Tensor, Tensor]:
    """The region proposal network's answers to boxes.

    Args:
        logits: objectness of each level, `(3, h, w)`.
        deltas: `(12, h, w)` of each level.
        width: of the picture.
        height: of the picture.

    Returns:
        Boxes `(N, 4)` and their objectness `(N,)` in [0, 1], at most 1000, best first.
    """
    boxes, scores, levels = [], [], []
    for level, (logit, delta) in enumerate(zip(logits, deltas, strict=True)):
        rows, columns = logit.shape[1:]
        flat = logit.permute(1, 2, 0).reshape(-1).sigmoid()
        best = flat.argsort(descending=True, stable=True)[:PER_LEVEL]
        start = anchors(rows, columns, STRIDES[level], logit.device)
        boxes.append(decode(start[best], delta.permute(1, 2, 0).reshape(-1, 4)[best], width, height))
        scores.append(flat[best])
        levels.append(torch.full_like(best, level))
    found, objectness, owners = torch.cat(boxes), torch.cat(scores), torch.cat(levels)
    wide = ((found[:, 2:] - found[:, :2]) >= LEAST_SIDE).all(dim=1)
    found, objectness, owners = found[wide], objectness[wide], owners[wide]
    kept = batched_nms(found, objectness, owners, PROPOSAL_NMS)[:MOST]
    return found[kept], objectness[kept]


def pool_regions(maps: Sequence[Tensor], boxes: Tensor, cells: int) -> Tensor:
    """RoIAlign (He et al. 2017) from the level that fits each box's size (Lin et al. 2017, equation 1).

    Args:
        maps: `(1, C, h, w)` at strides 4, 8, 16 and 32.
        boxes: `(N, 4)` pixels.
        cells: side of the result.

    Returns:
        `(N, C, cells, cells)`.
    """
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    level = (side / FINEST + 1e-6).log2().floor().clamp(0, len(maps) - 1)
    out = maps[0].new_zeros(len(boxes), maps[0].shape[1], cells, cells)
    for number, features in enumerate(maps):
        mine = level == number
        # Half a pixel is taken off (aligned), and a cell has as many samples as it covers of the map.
        out[mine] = roi_align(features, [boxes[mine]], cells, 1 / STRIDES[number], -1, aligned=True)
    return out
