"""Attention of the last block, rewritten so that patches look at patches that resemble them: one function a paper.

Every function takes queries and keys split into heads, `q, k (..., T, d)`, and returns attention weights
`(..., T, T)`. With a class token it is token 0, and `T = 1 + h * w`.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

POLAR_STEPS = 5


def query_key(q: Tensor, k: Tensor) -> Tensor:
    """CLIP's own attention, softmax(q k' / sqrt d)."""
    return torch.softmax(_similarity(q, k), dim=-1)


def correlative(q: Tensor, k: Tensor) -> Tensor:
    """SCLIP's correlative self-attention (Wang et al. 2024, eq. 3): softmax(q q' s) + softmax(k k' s), a sum, no mean."""
    return torch.softmax(_similarity(q, q), dim=-1) + torch.softmax(_similarity(k, k), dim=-1)


def query_query(q: Tensor) -> Tensor:
    """ClearCLIP's attention (Lan et al. 2024): softmax(q q' s)."""
    return torch.softmax(_similarity(q, q), dim=-1)


def neighbourhood(k: Tensor, grid: tuple[int, int], *, has_cls: bool, sigma: float = 5.0) -> Tensor:
    """NACLIP's attention (Hajimiri et al. 2025): softmax(k k' s + G), G a Gaussian of the distance between patches.

    Args:
        k: keys `(..., T, d)`.
        grid: rows and columns of the patch grid.
        has_cls: whether token 0 is a class token; its row and column of G are zero.
        sigma: standard deviation of G, in patches.
    """
    bias = _gaussian(grid, sigma, has_cls).to(device=k.device, dtype=k.dtype)
    return torch.softmax(_similarity(k, k) + bias, dim=-1)


def procrustes(q: Tensor, k: Tensor, *, has_cls: bool, alpha: float = 0.08) -> Tensor:
    """PEARL's attention (Pei et al. 2026): keys rotated onto the queries, plus `alpha` of centred key-key similarity.

    The rotation R is the orthogonal polar factor of `kc' qc` (orthogonal Procrustes), where qc and kc are centred by
    means weighted with the queries' norms, the class token left out. softmax(s q (k R)' + alpha s kc kc').
    """
    q, k = q.float(), k.float()
    weight = q.norm(dim=-1, keepdim=True)
    if has_cls:
        weight = weight.clone()
        weight[..., :1, :] = 0
    weight = weight / (weight.sum(dim=-2, keepdim=True) + 1e-6)
    qc = q - (weight * q).sum(dim=-2, keepdim=True)
    kc = k - (weight * k).sum(dim=-2, keepdim=True)
    rotation = polar_factor(kc.transpose(-1, -2) @ qc)
    return torch.softmax(_similarity(q, k @ rotation) + alpha * _similarity(kc, kc), dim=-1)


def polar_factor(m: Tensor, *, steps: int = POLAR_STEPS, eps: float = 1e-6) -> Tensor:
    """M (M'M)^-1/2 for square matrices `(..., d, d)`, by the coupled Newton-Schulz iteration.

    Five steps are PEARL's choice: small singular values are then not yet at one, which damps directions in which
    queries and keys hardly vary. More steps tend to the orthogonal polar factor U V'.
    """
    gram = m.transpose(-1, -2) @ m
    norm = gram.flatten(-2).norm(dim=-1).clamp_min(eps)[..., None, None]
    identity = torch.eye(m.shape[-1], device=m.device, dtype=m.dtype)
    y = gram / norm + eps * identity
    z = identity.expand_as(y)
    for _ in range(steps):
        t = 0.5 * (3.0 * identity - z @ y)
        y, z = y @ t, t @ z
    factor: Tensor = m @ z / norm.sqrt()
    return factor


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    scaled: Tensor = (a * a.shape[-1] ** -0.5) @ b.transpose(-1, -2)
    return scaled


@lru_cache(maxsize=8)
def _gaussian(grid: tuple[int, int], sigma: float, has_cls: bool) -> Tensor:
    """`exp(-D^2 / 2 sigma^2)` between all pairs of patches, separable in rows and columns: `(T, T)` float32."""
    rows, columns = (torch.exp(-((torch.arange(n)[:, None] - torch.arange(n)) ** 2) / (2 * sigma**2)) for n in grid)
    bias = torch.kron(rows, columns)
    if has_cls:
        bias = torch.nn.functional.pad(bias, (1, 0, 1, 0))
    return bias
