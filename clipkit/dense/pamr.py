"""Pixel-adaptive mask refinement (Araslanov and Roth 2020): each pixel takes over what similar pixels nearby say."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

STEPS = 10
DILATIONS = (8, 16)
OFFSETS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))


def refine(logits: Tensor, image: Tensor, *, steps: int = STEPS, dilations: tuple[int, ...] = DILATIONS) -> Tensor:
    """Refined logits of the same size.

    Memory is that of the affinities (8 maps a dilation) and three copies of the logits: neighbours are added one
    after another and never stacked.

    Args:
        logits: `(Q, H, W)`.
        image: `(3, H, W)`, any linear scale.
        steps: iterations.
        dilations: distances in pixels at which the eight neighbours lie.

    Returns:
        `(Q, H, W)` float32.
    """
    weights = affinity(image.float(), dilations)
    current = logits.float()
    reach = max(dilations)
    height, width = current.shape[1:]
    for _ in range(steps):
        padded = functional.pad(current[None], (reach,) * 4, mode="replicate")[0]
        mixed = torch.zeros_like(current)
        for weight, (dy, dx) in zip(weights, _shifts(dilations), strict=True):
            rows = slice(reach + dy, reach + dy + height)
            columns = slice(reach + dx, reach + dx + width)
            mixed.addcmul_(weight.expand_as(mixed), padded[:, rows, columns])
        current = mixed
    return current


def affinity(image: Tensor, dilations: tuple[int, ...] = DILATIONS) -> Tensor:
    """Weights of each pixel's neighbours, a softmax over all of them: `(3, H, W)` -> `(8 * len(dilations), H, W)`.

    -|difference| over a tenth of the local standard deviation (nine pixels a dilation), averaged over the colours.
    """
    reach = max(dilations)
    height, width = image.shape[1:]
    padded = functional.pad(image[None], (reach,) * 4, mode="replicate")[0]

    def at(dy: int, dx: int) -> Tensor:
        return padded[:, reach + dy : reach + dy + height, reach + dx : reach + dx + width]

    shifts = _shifts(dilations)
    # The centre is counted once for each dilation; the deviation is the unbiased one over 9 * len(dilations) pixels.
    count = 9 * len(dilations)
    mean = (sum((at(*shift) for shift in shifts), len(dilations) * image)) / count
    squares = (sum(((at(*shift) - mean) ** 2 for shift in shifts), len(dilations) * (image - mean) ** 2)) / (count - 1)
    spread = 1e-8 + 0.1 * squares.sqrt()
    return torch.softmax(torch.stack([-((image - at(*shift)).abs() / spread).mean(dim=0) for shift in shifts]), dim=0)


def _shifts(dilations: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(d * dy, d * dx) for d in dilations for dy, dx in OFFSETS]
