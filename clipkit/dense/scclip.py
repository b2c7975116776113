"""SC-CLIP (Bai et al. 2024): CLIP's own middle layers repair outlier tokens and sharpen the last attention.

Layer numbers are 1-based as in the paper: F_n is what block n puts out. They were chosen for towers of twelve blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from clipkit.dense import attention, vit

if TYPE_CHECKING:
    from collections.abc import Sequence

LAYERS = 12
MIDDLE = 9
EARLY = 4
SUMMED = range(4, 11)
SIMILAR = 0.4
CLS_SHARE = 0.3
SHARPNESS = 3.0
NEIGHBOURS = 30
OUTLIER_SHARE = 0.05


def patch_tokens(visual: Any, features: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    """Patch tokens before the tower's head, `(N, h*w, C)`.

    Args:
        visual: an open_clip VisionTransformer of twelve blocks.
        features: `F_1 .. F_11`, each `(N, 1 + h*w, C)`.
        grid: rows and columns of the patch grid; they may differ.
    """
    last = features[-1]
    cls, patches = last[:, :1], last[:, 1:]
    outliers = outlier_mask(patches)
    patches = repair(patches, outliers, grid)
    middle = _cosine(repair(features[MIDDLE - 1][:, 1:], outliers, grid))
    early = _cosine(features[EARLY - 1][:, 1:])

    refined = _attend(visual, aggregate(patches, middle), middle) + CLS_SHARE * cls
    summed = torch.stack([features[layer - 1] for layer in SUMMED]).sum(dim=0)
    levels = _attend(visual, summed[:, 1:], middle) + CLS_SHARE * summed[:, :1]
    return aggregate(refined, early) + aggregate(levels, early)


def outlier_mask(patches: Tensor) -> Tensor:
    """Patches with the largest local outlier factor: `(N, T, C)` -> `(N, T)` bool.

    The factor is the mean density of the 30 nearest patches over the patch's own, density being the inverse of the
    squared distance to the thirtieth; the top 5 % are outliers. Grids of less than three patches have none.
    """
    count = patches.shape[1]
    if count < 3:
        return torch.zeros(patches.shape[:2], dtype=torch.bool, device=patches.device)
    neighbours = min(NEIGHBOURS, count - 1)
    exact = "donot_use_mm_for_euclid_dist"
    distance = torch.cdist(patches.float(), patches.float(), compute_mode=exact) ** 2
    nearest = distance.topk(neighbours + 1, largest=False)
    density = 1.0 / nearest.values[..., -1].clamp_min(torch.finfo(torch.float32).tiny)
    theirs = density.gather(1, nearest.indices[..., 1:].flatten(1)).view(*density.shape, neighbours)
    factor = (theirs / density[..., None]).mean(dim=-1)
    return factor > factor.quantile(1 - OUTLIER_SHARE, dim=1, keepdim=True)


def repair(patches: Tensor, outliers: Tensor, grid: tuple[int, int]) -> Tensor:
    """Each outlier replaced by the mean of its 3x3 neighbours that are none; without such neighbours it stays.

    Args:
        patches: `(N, h*w, C)`.
        outliers: `(N, h*w)` bool.
        grid: `(h, w)`.
    """
    valid = (~outliers).to(patches.dtype).view(-1, 1, *grid)
    image = patches.transpose(1, 2).reshape(len(patches), -1, *grid) * valid
    # An average pool counts nine cells; the ratio of two of them is the mean over the valid ones. The centre of an
    # outlier is itself invalid, so it adds nothing.
    total = functional.avg_pool2d(image, 3, stride=1, padding=1)
    share = functional.avg_pool2d(valid, 3, stride=1, padding=1)
    mean = (total / share.clamp_min(1 / 18)).flatten(2).transpose(1, 2)
    replaced = outliers & (share.flatten(1) > 1 / 18)
    return torch.where(replaced[..., None], mean, patches)


def aggregate(patches: Tensor, similarity: Tensor) -> Tensor:
    """Each patch becomes the average of the patches at least 0.4 similar to it, weighted by similarity."""
    kept = similarity.masked_fill(similarity < SIMILAR, 0.0)
    return (kept / (kept.sum(dim=-1, keepdim=True) + 1e-6)) @ patches


def middle_attention(k: Tensor, similarity: Tensor) -> Tensor:
    """Half the softmax of the middle layer's similarity (above its mean, times 3), half that of key-key attention."""
    above = (similarity - similarity.mean(dim=(1, 2), keepdim=True)) * SHARPNESS
    sharp = torch.softmax(above.masked_fill(above < 0, -torch.inf), dim=-1)
    return 0.5 * (sharp[:, None] + attention.query_query(k))


def _attend(visual: Any, patches: Tensor, similarity: Tensor) -> Tensor:
    block = visual.transformer.resblocks[-1]
    _, k, v = vit.heads(block.attn, block.ln_1(patches))
    return vit.merge(block, middle_attention(k, similarity) @ v)


def _cosine(patches: Tensor) -> Tensor:
    unit = functional.normalize(patches, dim=-1)
    return unit @ unit.transpose(1, 2)
