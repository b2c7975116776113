"""Patch tokens of open_clip's ModifiedResNet: its attention pool is the last block, asked once for every cell.

The pool has one query, the mean of the cells; dense variants give every cell its own, or none (MaskCLIP takes each
cell's value vector as it is).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from clipkit.dense import vit

STRIDE = 32


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


def field_tokens(visual: Any, pixels: Tensor, zooms: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """What each cell says by itself and as the middle of a field of the trained size, averaged over several zooms.

    By itself is MaskCLIP's value; as a field is the attention pool over the cells around it, which is the model's own
    embedding of that crop. Both are unit vectors; their mean is taken over the zooms on the finest grid.

    Args:
        visual: an open_clip ModifiedResNet.
        pixels: `(N, 3, H, W)`, the finest zoom.
        zooms: sizes relative to it, 1 the first.

    Returns:
        Tokens `(N, h, w, D)` on the finest grid, and the unit embeddings of all fields at the coarsest zoom `(N, M, D)`.
    """
    total: Tensor | None = None
    fields = pixels
    for zoom in zooms:
        size = [max(round(side * zoom / STRIDE), 1) * STRIDE for side in pixels.shape[2:]]
        shrunk = pixels
        if size != list(pixels.shape[2:]):
            shrunk = functional.interpolate(pixels, size=size, mode="bilinear", align_corners=False, antialias=True)
        x = feature_map(visual, shrunk)
        fields = functional.normalize(local_pool(visual, x), dim=-1)
        pool = visual.attnpool
        values = functional.normalize(pool.c_proj(pool.v_proj(x.permute(0, 2, 3, 1))), dim=-1)
        tokens = ((fields + values) / 2).permute(0, 3, 1, 2)
        if total is None:
            total = tokens
        else:
            total = total + functional.interpolate(tokens, size=total.shape[2:], mode="bilinear", align_corners=False)
    assert total is not None
    return (total / len(zooms)).permute(0, 2, 3, 1), fields.flatten(1, 2)


def feature_map(visual: Any, pixels: Tensor) -> Tensor:
    """The last stage's output `(N, C, H // 32, W // 32)`."""
    x = visual.stem(pixels)
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        x = layer(x)
    out: Tensor = x
    return out


def local_pool(visual: Any, x: Tensor) -> Tensor:
    """The attention pool slid over the feature map: at each cell, the embedding of the native field centred there.

    Args:
        visual: an open_clip ModifiedResNet.
        x: the feature map `(N, C, h, w)`.

    Returns:
        `(N, h, w, D)`: each cell's pool over the native number of cells around it (edges repeat the border).
    """
    pool = visual.attnpool
    side = round((len(pool.positional_embedding) - 1) ** 0.5)
    before, after = (side - 1) // 2, side // 2
    padded = functional.pad(x, (before, after, before, after), mode="replicate")
    fields = padded.unfold(2, side, 1).unfold(3, side, 1)
    n, _, h, w = fields.shape[:4]
    fields = fields.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    pooled: Tensor = pool(fields)
    return pooled.view(n, h, w, -1)
