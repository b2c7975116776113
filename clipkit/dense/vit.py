"""Patch tokens of open_clip's VisionTransformer, of any size, with the last block replaced by a dense variant."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from clipkit.dense import attention


def is_vit(visual: Any) -> bool:
    """Whether this tower is a ViT whose tokens can be read: a class token, plain blocks, a linear head."""
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
    return (
        hasattr(visual, "class_embedding")
        and getattr(visual, "attn_pool", None) is None
        and getattr(visual, "pool_type", "tok") in {"tok", "avg"}
        and blocks is not None
        and isinstance(getattr(blocks[-1], "attn", None), torch.nn.MultiheadAttention)
    )


def patch_tokens(visual: Any, pixels: Tensor, method: str, *, alpha: float, sigma: float) -> Tensor:
    """Tokens in the joint space, not normalised.

    Args:
        visual: an open_clip VisionTransformer for which `is_vit` holds.
        pixels: `(N, 3, H, W)`, sides at least one patch; pixels beyond the last whole patch are not seen.
        method: `plain`, `maskclip`, `sclip`, `clearclip`, `naclip`, `pearl` or `scclip`.
        alpha: PEARL's share of key-key similarity.
        sigma: NACLIP's standard deviation in patches.

    Returns:
        `(N, h, w, D)`.
    """
    from clipkit.dense import scclip

    tokens, grid = embed(visual, pixels)
    features = run_blocks(visual, tokens)
    if method == "scclip":
        patches = scclip.patch_tokens(visual, features, grid)
    else:
        patches = _last_block(visual, features[-1], grid, method, alpha=alpha, sigma=sigma)[:, 1:]
    return head(visual, patches).reshape(len(pixels), *grid, -1)


def embed(visual: Any, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Pixels `(N, 3, H, W)` -> tokens `(N, 1 + h*w, C)` before the first block, and the grid `(h, w)`."""
    x = visual.conv1(pixels)
    grid = (int(x.shape[2]), int(x.shape[3]))
    x = x.flatten(2).transpose(1, 2)
    cls = visual.class_embedding.to(x.dtype).expand(len(x), 1, -1)
    positions = resize_positions(visual.positional_embedding, tuple(visual.grid_size), grid)
    return visual.ln_pre(torch.cat([cls, x], dim=1) + positions.to(x.dtype)), grid


def resize_positions(positions: Tensor, trained: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Position embeddings `(1 + h0*w0, C)` resized bicubically to another grid; the class token's stays."""
    if grid == trained:
        return positions
    image = positions[1:].T.reshape(1, -1, *trained).float()
    image = functional.interpolate(image, size=grid, mode="bicubic", align_corners=False)
    return torch.cat([positions[:1], image[0].flatten(1).T.to(positions.dtype)])


def run_blocks(visual: Any, tokens: Tensor) -> list[Tensor]:
    """The outputs of every block but the last: `F_1 .. F_{L-1}`, each `(N, T, C)`; the input where L is 1."""
    transformer = visual.transformer
    batch_first = bool(getattr(transformer, "batch_first", True))
    x = tokens if batch_first else tokens.transpose(0, 1)
    features = []
    for block in transformer.resblocks[:-1]:
        x = block(x)
        features.append(x if batch_first else x.transpose(0, 1))
    return features or [tokens]


def heads(attn: torch.nn.MultiheadAttention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of normalised tokens `(N, T, C)`: each `(N, heads, T, d)`."""
    qkv = functional.linear(x, attn.in_proj_weight, attn.in_proj_bias).reshape(*x.shape[:2], 3, attn.num_heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    return q, k, v


def merge(block: Any, values: Tensor) -> Tensor:
    """Attended values `(N, heads, T, d)` through the block's output projection: `(N, T, C)`."""
    merged: Tensor = block.ls_1(block.attn.out_proj(values.transpose(1, 2).flatten(2)))
    return merged


def head(visual: Any, tokens: Tensor) -> Tensor:
    """The tower's final norm and projection, applied to every token: `(N, T, C)` -> `(N, T, D)`."""
    tokens = visual.ln_post(tokens)
    projected: Tensor = tokens if visual.proj is None else tokens @ visual.proj
    return projected


def mix(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], method: str, *, alpha: float, sigma: float) -> Tensor:
    """Values `(N, heads, T, d)` attended by the method's weights; token 0 is the class token."""
    match method:
        case "maskclip":
            return v
        case "plain":
            weights = attention.query_key(q, k)
        case "sclip":
            weights = attention.correlative(q, k)
        case "clearclip":
            weights = attention.query_query(q)
        case "naclip":
            weights = attention.neighbourhood(k, grid, has_cls=True, sigma=sigma)
        case "pearl":
            weights = attention.procrustes(q, k, has_cls=True, alpha=alpha)
        case _:
            raise ValueError(f"unknown last-block method {method!r}")
    return weights.to(v.dtype) @ v


def _last_block(visual: Any, x: Tensor, grid: tuple[int, int], method: str, *, alpha: float, sigma: float) -> Tensor:
    block = visual.transformer.resblocks[-1]
    attended = merge(block, mix(*heads(block.attn, block.ln_1(x)), grid, method, alpha=alpha, sigma=sigma))
    if method in {"clearclip", "naclip", "pearl"}:
        return attended
    x = x + attended
    residual: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return residual
