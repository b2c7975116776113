"""CLIPasso's augmentation as one resampling: a random perspective, then a random crop, composed into a homography."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

DISTORTION = 0.5
CROP_AREA = 0.8


def random_homographies(count: int, generator: torch.Generator) -> Tensor:
    """Maps from the output to the input, (count, 3, 3) float64, on the square [-1, 1] x [-1, 1].

    Perspective: every corner moves inwards by up to a quarter of the side on each axis (distortion 0.5), as
    torchvision's `RandomPerspective(0.5, p=1)`; crop: a square of 0.8 of the area anywhere, as
    `RandomResizedCrop(scale=(0.8, 0.8), ratio=(1, 1))`.
    """
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64)
    shift = DISTORTION * torch.rand(count, 4, 2, generator=generator, dtype=torch.float64)
    moved = corners - corners.sign() * shift
    side = CROP_AREA**0.5
    place = (1.0 - side) * (2.0 * torch.rand(count, 2, generator=generator, dtype=torch.float64) - 1.0)
    crop = torch.zeros(count, 3, 3, dtype=torch.float64)
    crop[:, 0, 0] = crop[:, 1, 1] = side
    crop[:, :2, 2] = place
    crop[:, 2, 2] = 1.0
    return homographies(moved, corners.expand(count, 4, 2)) @ crop


def homographies(source: Tensor, target: Tensor) -> Tensor:
    """The projective maps that take four points each to four others: (N, 4, 2) twice -> (N, 3, 3)."""
    x, y = source.unbind(-1)
    u, v = target.unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows_u = torch.stack((x, y, one, zero, zero, zero, -u * x, -u * y), -1)
    rows_v = torch.stack((zero, zero, zero, x, y, one, -v * x, -v * y), -1)
    solution = torch.linalg.solve(torch.cat((rows_u, rows_v), 1), torch.cat((u, v), 1).unsqueeze(-1)).squeeze(-1)
    return torch.cat((solution, torch.ones_like(solution[:, :1])), 1).reshape(-1, 3, 3)


def sampling_grids(maps: Tensor, size: int, device: torch.device | str) -> Tensor:
    """Where each output pixel of a `size` x `size` picture comes from: (N, size, size, 2) for `grid_sample`."""
    axis = (torch.arange(size, dtype=torch.float64) + 0.5) * (2.0 / size) - 1.0
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    flat = torch.stack((x, y, torch.ones_like(x)), -1).reshape(-1, 3)
    mapped = flat @ maps.transpose(1, 2)
    return (mapped[..., :2] / mapped[..., 2:]).reshape(len(maps), size, size, 2).float().to(device)


def warp(pictures: Tensor, grids: Tensor) -> Tensor:
    """Every picture (B, C, S, S) through every grid (A, S, S, 2): (B, A, C, S, S); outside is black, as torchvision's."""
    batch, count = len(pictures), len(grids)
    every = pictures.unsqueeze(1).expand(batch, count, *pictures.shape[1:]).flatten(0, 1)
    grid = grids.unsqueeze(0).expand(batch, *grids.shape).flatten(0, 1)
    views = functional.grid_sample(every, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return views.reshape(batch, count, *views.shape[1:])
