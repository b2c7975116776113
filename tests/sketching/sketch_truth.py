"""Strokes to draw, and the slow truth they are compared with."""

from __future__ import annotations

import itertools

import torch

from clipkit.sketching.rasterize.bezier import sample


def random_strokes(count: int, size: int, seed: int = 0, *, batch: int = 1, spread: float = 0.25) -> torch.Tensor:
    """(B, N, 4, 2) curves as CLIPasso draws them: somewhere, `spread` of the picture long."""
    source = torch.Generator().manual_seed(seed)
    centre = torch.rand(batch, count, 1, 2, generator=source)
    return (centre + spread * (torch.rand(batch, count, 4, 2, generator=source) - 0.5)) * size


def supersampled(points: torch.Tensor, width: float, size: int, *, samples: int = 8, chords: int = 200) -> torch.Tensor:
    """(H, W) transmittance of black strokes (N, 4, 2): samples inside a stroke, counted; no formula is shared."""
    nodes = sample(points.double(), chords + 1)
    axis = (torch.arange(size * samples, dtype=torch.float64) + 0.5) / samples
    light = torch.ones(size * samples, size * samples, dtype=torch.float64)
    for curve in nodes:
        covered = torch.zeros_like(light, dtype=torch.bool)
        for a, b in itertools.pairwise(curve):
            low = ((torch.minimum(a, b) - width) * samples).floor().long().clamp(0, size * samples)
            high = ((torch.maximum(a, b) + width) * samples).ceil().long().clamp(0, size * samples)
            if (high <= low).any():
                continue
            x = axis[low[0] : high[0]][None, :] - a[0]
            y = axis[low[1] : high[1]][:, None] - a[1]
            e = b - a
            u = ((x * e[0] + y * e[1]) / e.square().sum().clamp_min(1e-12)).clamp(0, 1)
            covered[low[1] : high[1], low[0] : high[0]] |= (x - u * e[0]) ** 2 + (y - u * e[1]) ** 2 < (width / 2) ** 2
        light *= ~covered
    return light.reshape(size, samples, size, samples).mean((1, 3))


class PixelObjective:
    """An objective without a model: blurred pictures compared with a target picture (1, 1, S, S)."""

    def __init__(self, target: torch.Tensor) -> None:
        """Keep the blurred target."""
        self.size = target.shape[-1]
        self.device = torch.device("cpu")
        self._levels = self._blurred(target)

    def _blurred(self, pictures):
        levels = [pictures]
        for _ in range(3):
            small = torch.nn.functional.avg_pool2d(levels[-1], 2)
            levels.append(small)
        return [torch.nn.functional.avg_pool2d(level, 5, 1, 2, count_include_pad=False) for level in levels]

    def _loss(self, pictures):
        gaps = zip(self._blurred(pictures), self._levels, strict=True)
        return torch.stack([(a - b).square().mean((1, 2, 3)) for a, b in gaps]).mean(0) * 100

    def training(self, pictures, generator):
        """The loss, blurred by a little noise from the generator as augmentation would."""
        noise = 0.01 * torch.rand(pictures.shape, generator=generator)
        plain = self._loss(pictures)
        return plain + (noise * pictures).mean((1, 2, 3)), plain.detach()

    def plain(self, pictures):
        """The loss."""
        with torch.no_grad():
            return self._loss(pictures)
