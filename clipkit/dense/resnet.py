"""Patch tokens of open_clip's ModifiedResNet: its attention pool is the last block, asked once for every cell.

The pool has one query, the mean of the cells; dense variants give every cell its own, or none (MaskCLIP takes each
cell's value vector as it is).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

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
        method: `plain`, `maskclip`, `sclip`, `clearclip`, `naclip` or `pearl`.
        alpha: PEARL's share of key-key similarity.
        sigma: NACLIP's standard deviation in cells.

    Returns:
        `(N, h, w, D)`.
    """
    x = feature_map(visual, pixels)
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


def feature_map(visual: Any, pixels: Tensor) -> Tensor:
    """The last stage's output `(N, C, H // 32, W // 32)`."""
    x = visual.stem(pixels)
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        x = layer(x)
    out: Tensor = x
    return out
