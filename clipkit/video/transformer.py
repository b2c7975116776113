"""CLIP's residual attention blocks as the video heads use them: batch first, with a padding mask, OpenAI's parameter names."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

HEAD_WIDTH = 64


class QuickGELU(nn.Module):
    """`x sigmoid(1.702 x)`."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """Pre-norm attention and MLP, each with a residual."""

    def __init__(self, width: int, heads: int, eps: float) -> None:
        """`eps` of the layer norms: the video authors use 1e-12, CLIP 1e-5."""
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width, eps=eps)
        layers = [("c_fc", nn.Linear(width, 4 * width)), ("gelu", QuickGELU()), ("c_proj", nn.Linear(4 * width, width))]
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ln_2 = nn.LayerNorm(width, eps=eps)
        self.heads = heads

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, N, D) with an additive (B, N, N) mask -> (B, N, D)."""
        if mask is not None:
            mask = mask.repeat_interleave(self.heads, dim=0)
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False, attn_mask=mask)[0]
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    """`layers` blocks, their parameters under `resblocks.*`; heads of 64, at least one."""

    def __init__(self, width: int, layers: int, *, heads: int | None = None, eps: float) -> None:
        """`heads` is width / 64 in the authors' models."""
        super().__init__()
        heads = max(1, width // HEAD_WIDTH) if heads is None else heads
        self.resblocks = nn.ModuleList(Block(width, heads, eps) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        for block in self.resblocks:
            x = block(x, mask)
        return x


def additive_mask(mask: Tensor) -> Tensor:
    """(B, N), 1 real and 0 padding -> (B, N, N) to be added to attention logits.

    The authors' -1e6 and not -inf: where every token is padding the softmax is even, and nothing becomes NaN.
    """
    hidden = (1.0 - mask.float())[:, None] * -1e6
    return hidden.expand(-1, mask.shape[1], -1)
