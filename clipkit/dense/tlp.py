"""PEARL's text-aware Laplacian propagation: logits spread over the image, held back by edges, led by the text.

Pei et al. 2026, "Geometry aligns semantics for training-free open-vocabulary semantic segmentation". One sparse linear
system a class on a coarse grid, (C + L) x = C y, solved for all classes by conjugate gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

GRID = 80
TEMPERATURE = 0.5
SELF = 10.0
EDGE = 5.0
STEPS = 25
# Elements of the maps that are enlarged at a time (float32: 32 MB).
ENLARGED = 8_000_000


def refine(logits: Tensor, image: Tensor, text: Tensor) -> Tensor:
    """Refined logits on the coarse grid; enlarged bilinearly to `(H, W)` they are the method's answer.

    Args:
        logits: cosines `(Q, a, b)`, not scaled, at any resolution; they are read as if enlarged to the image's.
        image: `(3, H, W)`, normalised RGB.
        text: the Q query vectors `(Q, D)`.

    Returns:
        `(Q, h, w)` float32, h and w about 80.
    """
    height, width = image.shape[1:]
    # About 80 cells a side, in whole pixels as the authors have it; adaptive pooling keeps the last, partial cells.
    grid = (height // max(1, round(height / GRID)), width // max(1, round(width / GRID)))
    small = functional.adaptive_avg_pool2d(image.float(), grid)
    step = max(ENLARGED // (height * width), 1)
    y = torch.cat([_pooled(logits[at : at + step], (height, width), grid) for at in range(0, len(logits), step)])
    probabilities = torch.softmax(y, dim=0)
    guide = text_guide(text.to(y.device).float())
    # p' G p' for each cell and its right and lower neighbour; G p once for all three.
    guided = torch.einsum("qr,rhw->qhw", guide, probabilities)
    agreement = (probabilities * guided).sum(dim=0)
    confidence = probabilities.amax(dim=0).clamp_min(0.05) ** 2 * (1 + agreement)
    right = _gate((probabilities[:, :, 1:] * guided[:, :, :-1]).sum(dim=0))
    down = _gate((probabilities[:, 1:] * guided[:, :-1]).sum(dim=0))
    grey = (small * small.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=0)
    right = (edge(grey.diff(dim=1)) * right).clamp(max=1)
    down = (edge(grey.diff(dim=0)) * down).clamp(max=1)
    return solve(y, confidence, right, down)


def text_guide(text: Tensor) -> Tensor:
    """How much classes speak for one another: row-normalised softmax(cosine / 0.5) + 10 I, `(Q, Q)`."""
    unit = functional.normalize(text, dim=-1)
    guide = torch.softmax(unit @ unit.T / TEMPERATURE, dim=1)
    guide = guide + SELF * torch.eye(len(guide), device=guide.device)
    return guide / guide.sum(dim=1, keepdim=True)


def edge(difference: Tensor) -> Tensor:
    """exp(-5 |g| / mean |g|): near 1 on even ground, near 0 across an edge."""
    size = difference.abs()
    return torch.exp(-EDGE * size / (size.mean() + 1e-6)) if size.numel() else size


def solve(y: Tensor, confidence: Tensor, right: Tensor, down: Tensor, steps: int = STEPS) -> Tensor:
    """Solve (diag(confidence) + Laplacian) x = confidence * y by conjugate gradients, started at y.

    Args:
        y: `(Q, h, w)`.
        confidence: data weights `(h, w)`, positive.
        right: edge weights between columns `(h, w - 1)`.
        down: edge weights between rows `(h - 1, w)`.
        steps: iterations.
    """

    def system(x: Tensor) -> Tensor:
        out = confidence * x
        flow = right * x.diff(dim=2)
        out[:, :, 1:] += flow
        out[:, :, :-1] -= flow
        flow = down * x.diff(dim=1)
        out[:, 1:] += flow
        out[:, :-1] -= flow
        return out

    x = y.clone()
    residual = confidence * y - system(x)
    direction = residual.clone()
    power = (residual * residual).sum()
    for _ in range(steps):
        along = system(direction)
        step = power / ((direction * along).sum() + 1e-12)
        x += step * direction
        residual -= step * along
        before, power = power, (residual * residual).sum()
        direction = residual + power / (before + 1e-12) * direction
    return x


def _pooled(logits: Tensor, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    enlarged = logits.float()
    if tuple(logits.shape[1:]) != size:
        enlarged = functional.interpolate(enlarged[None], size=size, mode="bilinear", align_corners=False)[0]
    return functional.adaptive_avg_pool2d(enlarged, grid)


def _gate(agreement: Tensor) -> Tensor:
    return 1 + agreement.clamp(0, 1)
