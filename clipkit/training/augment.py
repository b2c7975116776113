"""Random crops, flips and colours for training pictures, and the tower's own scale."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the field's name for it)

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of OpenAI's CLIP; the config tells inference the same."""

BICUBIC_PROBABILITY = 0.5
"""How often the small pictures of a batch are enlarged bicubically."""


def crop(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Random resized crops (area .5 to 1, ratio 4/5 to 5/4) with flips: (N, 3, S, S) in [0, 1] -> (N, 3, side, side).

    The same distribution as torchvision's RandomResizedCrop but that a crop outside the picture is shrunk to fit. Small
    pictures are enlarged bilinearly or, half of the times, bicubically: the tower should not care which.
    """
    n, size = len(images), images.shape[-1]
    if size >= 2 * side:
        images = F.avg_pool2d(images, size // side)  # grid_sample takes four pixels: average first what it would skip
    u = torch.rand(n, 5, generator=generator).to(images.device)
    area = 0.5 + 0.5 * u[:, 0]
    ratio = torch.exp((2 * u[:, 1] - 1) * math.log(5 / 4))
    width = (area * ratio).sqrt().clamp(max=1)
    height = (area / ratio).sqrt().clamp(max=1)
    theta = torch.zeros(n, 2, 3, device=images.device)
    theta[:, 0, 0] = width * torch.where(u[:, 4] < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = height
    theta[:, 0, 2] = (2 * u[:, 2] - 1) * (1 - width)
    theta[:, 1, 2] = (2 * u[:, 3] - 1) * (1 - height)
    grid = F.affine_grid(theta, [n, 3, side, side], align_corners=False)
    sharp = images.shape[-1] < side and float(torch.rand((), generator=generator)) < BICUBIC_PROBABILITY
    mode = "bicubic" if sharp else "bilinear"
    return F.grid_sample(images, grid, mode=mode, padding_mode="reflection", align_corners=False).clamp(0, 1)


def jitter(images: Tensor, generator: torch.Generator, strength: float = 0.2) -> Tensor:
    """Random saturation, contrast and brightness of each picture, in place: (N, 3, H, W) in [0, 1] -> the same."""
    u = (torch.rand(len(images), 3, 1, 1, 1, generator=generator) * 2 - 1).to(images.device) * strength
    saturation, contrast, brightness = 1 + u[:, 0], 1 + u[:, 1], 0.5 * u[:, 2]
    grey = images.mean(dim=1, keepdim=True)
    level = grey.mean(dim=(2, 3), keepdim=True)
    # level + contrast * (grey + saturation * (images - grey) - level) + brightness, in two passes
    shift = grey * (contrast * (1 - saturation)) + (1 - contrast) * level + brightness
    return images.mul_(contrast * saturation).add_(shift).clamp_(0, 1)


def normalise(images: Tensor) -> Tensor:
    """[0, 1] -> the tower's input, channel by channel."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    return (images - mean).div_(std)
