"""From class maps to a mask: softmax, best alias, argmax and threshold, strip by strip so that memory stays flat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

# Elements of the maps worked on at a time (float32: 16 MB).
STRIP = 4_000_000


@dataclass(frozen=True, slots=True)
class Maps:
    """What a method says of one image.

    `values` is `(Q, h, w)`: one map a query, at the method's own resolution. `owners[j]` is the mask value map j counts
    for (0 the background). `kind`: `softmax` for logits that compete, `sigmoid` for logits that do not,
    `probability` for class scores as they are. Pixels whose best probability is under `threshold` are background.
    """

    values: Tensor
    owners: tuple[int, ...]
    kind: Literal["softmax", "sigmoid", "probability"] = "softmax"
    threshold: float = 0.0


@dataclass(frozen=True, slots=True)
class Region:
    """What is known of one mask value: its pixels, their mean probability, the box `(x0, y0, x1, y1)` around them."""

    value: int
    pixels: int
    score: float
    box: tuple[int, int, int, int]


def decide(
    maps: Maps, size: tuple[int, int], *, min_area: float = 0.0
) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], tuple[Region, ...]]:
    """The mask at `size` and its regions, largest first.

    A pixel takes the class with the most probable query; under the maps' threshold it becomes 0. Classes that cover less
    than `min_area` of the image give their pixels to the next best class.

    Args:
        maps: the method's answer.
        size: height and width of the mask.
        min_area: smallest share of the image a class may have.

    Returns:
        The mask `(H, W)`, uint8 (uint16 for more than 255 classes), and the regions of the values other than 0.
    """
    dropped: frozenset[int] = frozenset()
    mask, regions = _paint(maps, size, dropped)
    if min_area > 0:
        least = min_area * size[0] * size[1]
        dropped = frozenset(region.value for region in regions if region.pixels < least)
        # The pixels given back can only enlarge the others, so one more pass is enough.
        if dropped:
            mask, regions = _paint(maps, size, dropped)
    return mask, tuple(sorted(regions, key=lambda region: (-region.pixels, region.value)))


def _paint(
    maps: Maps, size: tuple[int, int], dropped: frozenset[int]
) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], list[Region]]:
    values = max(maps.owners) + 1
    mask = np.zeros(size, np.uint8 if values <= 256 else np.uint16)
    pixels = np.zeros(values, np.int64)
    scores = np.zeros(values, np.float64)
    rows = [(size[0], -1)] * values
    columns = [(size[1], -1)] * values
    for top, strip in strips(maps, size):
        index, probability = _best(strip, maps, dropped)
        bottom = top + len(index)
        mask[top:bottom] = index
        pixels += np.bincount(index.ravel(), minlength=values)
        scores += np.bincount(index.ravel(), weights=probability.ravel(), minlength=values)
        for value in np.unique(index):
            where = index == value
            ys, xs = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
            rows[value] = (min(rows[value][0], top + int(ys[0])), max(rows[value][1], top + int(ys[-1])))
            columns[value] = (min(columns[value][0], int(xs[0])), max(columns[value][1], int(xs[-1])))
    regions = [
        Region(
            value=value,
            pixels=int(pixels[value]),
            score=float(scores[value] / pixels[value]),
            box=(columns[value][0], rows[value][0], columns[value][1] + 1, rows[value][1] + 1),
        )
        for value in range(1, values)
        if pixels[value]
    ]
    return mask, regions


def strips(maps: Maps, size: tuple[int, int]) -> Iterator[tuple[int, Tensor]]:
    """The maps at full size, `(Q, rows, W)` of one strip of rows after another, with each strip's first row."""
    height, width = size
    step = max(STRIP // max(len(maps.values) * width, 1), 1)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        yield top, enlarge_rows(maps.values, size, top, bottom)


def enlarge_rows(values: Tensor, size: tuple[int, int], top: int, bottom: int) -> Tensor:
    """Rows `top:bottom` of the maps resized bilinearly to `size`, without making the other rows.

    Equal to `torch.nn.functional.interpolate(..., mode="bilinear", align_corners=False)` cut to these rows.
    """
    import torch
    from torch.nn import functional

    height, width = size
    if tuple(values.shape[1:]) == size:
        return values[:, top:bottom]
    rows = values.shape[1]
    centre = (torch.arange(top, bottom, device=values.device, dtype=torch.float64) + 0.5) * (rows / height) - 0.5
    centre = centre.clamp(0, rows - 1)
    above = centre.long()
    share = (centre - above).to(values.dtype)[:, None]
    below = (above + 1).clamp(max=rows - 1)
    mixed = values[:, above] * (1 - share) + values[:, below] * share
    if mixed.shape[2] == width:
        return mixed
    return functional.interpolate(mixed[None], size=(bottom - top, width), mode="bilinear", align_corners=False)[0]


def _best(strip: Tensor, maps: Maps, dropped: frozenset[int]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    import torch

    kept = strip
    if dropped:
        gone = torch.tensor([owner in dropped for owner in maps.owners], device=strip.device)
        kept = strip.masked_fill(gone[:, None, None], -torch.inf)
    # The best query of all is the best query of the best class: the maximum over aliases needs no grouping.
    best, query = kept.max(dim=0)
    if maps.kind == "softmax":
        probability = torch.exp(best - strip.logsumexp(dim=0))
    else:
        probability = torch.sigmoid(best) if maps.kind == "sigmoid" else best
    index = torch.tensor(maps.owners, device=strip.device)[query]
    index = index.masked_fill((probability < maps.threshold) | (best == -torch.inf), 0)
    return index.cpu().numpy(), probability.float().cpu().numpy()
