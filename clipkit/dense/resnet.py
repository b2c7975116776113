"""Patch tokens of open_clip's ModifiedResNet: its attention pool is the last block, asked once for every cell.

The pool has one query, the mean of the cells; dense variants give every cell its own, or none (MaskCLIP takes each
cell's value vector as it is). `local` leaves the pool as it was trained and moves it: every square of as many cells as
a training picture had is pooled as a picture of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from clipkit.dense import vit


def is_resnet(visual: Any) -> bool:
    """Whether this tower is a ModifiedResNet with an attention pool."""
    return all(hasattr(visual, name) for name in ("stem", "layer1", "layer4")) and hasattr(
        getattr(visual, "attnpool", None), "c_proj"
    )


def patch_tokens(visual: Any, pixels: Tensor, method: str, *, alpha: float, sigma: float) -> Tensor:
    """Tokens in the joint space, not normalised, one every 32 pixels.

    Args:
        visual: an open_clip ModifiedResNet.
        pixels: `(N, 3, H, W)`, sides at least 32.
        method: `local`, `plain`, `maskclip`, `sclip`, `clearclip`, `naclip` or `pearl`.
        alpha: PEARL's share of key-key similarity.
        sigma: NACLIP's standard deviation in cells.

    Returns:
        `(N, h, w, D)`.
    """
    x = feature_map(visual, pixels)
    if method == "local":
        return local_tokens(visual.attnpool, x)
    grid = (int(x.shape[2]), int(x.shape[3]))
    pool = visual.attnpool
    cells = x.flatten(2).transpose(1, 2)
    tokens = torch.cat([cells.mean(dim=1, keepdim=True), cells], dim=1)
    side = round((len(pool.positional_embedding) - 1) ** 0.5)
    placed = tokens + vit.resize_positions(pool.positional_embedding, (side, side), grid).to(tokens.dtype)
    # Without attention there is no use for places: MaskCLIP's values leave the position embedding out.
    source = tokens if method == "maskclip" else placed
    q, k, v = (
        projection(part).reshape(*part.shape[:2], pool.num_heads, -1).transpose(1, 2)
        for projection, part in ((pool.q_proj, placed), (pool.k_proj, placed), (pool.v_proj, source))
    )
    attended = vit.mix(q, k, v, grid, method, alpha=alpha, sigma=sigma)
    projected: Tensor = pool.c_proj(attended.transpose(1, 2).flatten(2)[:, 1:])
    return projected.reshape(len(pixels), *grid, -1)


def local_tokens(pool: Any, x: Tensor) -> Tensor:
    """Each cell's mean over the squares of cells it lies in, each pooled as a whole picture; squares centred on it count most.

    A square has the side of the pool's own position table, or the map's where that is less. The weight of a square falls
    linearly from its middle to a cell beyond its edge.

    Args:
        pool: the attention pool.
        x: `(N, C, h, w)`, the last stage's output.

    Returns:
        `(N, h, w, D)`.
    """
    h, w = int(x.shape[2]), int(x.shape[3])
    own = round((len(pool.positional_embedding) - 1) ** 0.5)
    high, wide = min(own, h), min(own, w)
    place = vit.resize_positions(pool.positional_embedding, (own, own), (high, wide)).to(x.dtype)
    cells = x.permute(0, 2, 3, 1)
    # The projections are linear: cells and places are projected once, and added for each square.
    projections = (pool.q_proj, pool.k_proj, pool.v_proj)
    parts = [(functional.linear(cells, p.weight), p(place)) for p in projections]
    weight = (_tent(high, x)[:, None] * _tent(wide, x))[:, :, None]
    total: Tensor = x.new_zeros(())
    weights = x.new_zeros(h, w, 1)
    for top in range(h - high + 1):
        q, k, v = (_row_of_squares(part[:, top : top + high], wide) + at for part, at in parts)
        q, k, v = (y.unflatten(-1, (pool.num_heads, -1)).transpose(2, 3) for y in (q[:, :, :1], k, v))
        pooled = functional.scaled_dot_product_attention(q, k, v)[:, :, :, 0].flatten(2)
        unit = functional.normalize(pool.c_proj(pooled), dim=-1)
        if total.ndim == 0:
            total = unit.new_zeros(len(x), h, w, unit.shape[-1])
        squares = unit.shape[1]
        for i in range(high):
            for j in range(wide):
                total[:, top + i, j : j + squares] += weight[i, j] * unit
                weights[top + i, j : j + squares] += weight[i, j]
    return total / weights


def _tent(length: int, like: Tensor) -> Tensor:
    """1 in the middle, falling linearly to 0 one cell beyond the ends."""
    centre = (length + 1) / 2
    return 1 - (torch.arange(1, length + 1, dtype=like.dtype, device=like.device) - centre).abs() / centre


def _row_of_squares(cells: Tensor, wide: int) -> Tensor:
    """`(N, high, w, C)` -> `(N, w - wide + 1, 1 + high * wide, C)`: every square's mean, then its cells."""
    squares = cells.unfold(2, wide, 1).permute(0, 2, 1, 4, 3).flatten(2, 3)
    return torch.cat([squares.mean(dim=2, keepdim=True), squares], dim=2)


def feature_map(visual: Any, pixels: Tensor) -> Tensor:
    """The last stage's output `(N, C, H // 32, W // 32)`."""
    x = visual.stem(pixels)
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        x = layer(x)
    out: Tensor = x
    return out
