"""CLIP4Clip's temporal heads (Luo et al. 2021, section 3.3) in torch, with the authors' parameter names.

Only the heads with weights live here; meanP is `clipkit.video.pooling.mean_pool`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clipkit.video.transformer import Transformer, additive_mask

if TYPE_CHECKING:
    from collections.abc import Mapping


class SeqTransf(nn.Module):
    """seqTransf: frame position embeddings, a transformer over the frames, and the frames added back.

    Parameters are called `frame_position_embeddings.*` and `transformerClip.*`.
    """

    def __init__(self, width: int, layers: int, positions: int) -> None:
        """`width` D; `layers` 4 in the paper; `positions` 77, the text tower's context."""
        super().__init__()
        self.frame_position_embeddings = nn.Embedding(positions, width)
        self.transformerClip = Transformer(width, layers, eps=1e-12)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """(B, N, D) frames and their (B, N) mask (1 real, 0 padding) -> (B, N, D)."""
        positions = torch.arange(frames.shape[1], device=frames.device)
        hidden = frames + self.frame_position_embeddings(positions)
        out: Tensor = self.transformerClip(hidden, additive_mask(mask)) + frames
        return out


class SeqLSTM(nn.Module):
    """seqLSTM: a one-layer LSTM over the real frames, and the frames added back; padding passes as twice itself.

    The parameters are called `lstm_visual.*`. The authors' checkpoints also hold `frame_position_embeddings`,
    which their forward pass does not use.
    """

    def __init__(self, width: int) -> None:
        """`width` D."""
        super().__init__()
        self.lstm_visual = nn.LSTM(width, width, batch_first=True)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """(B, N, D) frames and their (B, N) mask, real frames first -> (B, N, D)."""
        lengths = mask.sum(dim=-1).long()
        real = mask.bool().unsqueeze(-1)
        # An LSTM is causal: padding after the real frames cannot reach them, so nothing need be packed, and a
        # video without any frame is no special case.
        hidden, _ = self.lstm_visual(frames)
        longest = int(lengths.max()) if len(lengths) else 0
        inside = torch.arange(frames.shape[1], device=frames.device) < longest
        # pad_packed_sequence fills a shorter video with zeros up to the longest one of its batch.
        hidden = torch.where(real, hidden, torch.where(inside[None, :, None], torch.zeros_like(frames), frames))
        return hidden + frames


class TightTransf(nn.Module):
    """tightTransf: one transformer over the text token and the frames together, and a linear similarity.

    Parameters are called `cross.*` and `similarity_dense.*`.
    """

    def __init__(self, width: int, layers: int, positions: int) -> None:
        """`width` D, 512 in the paper; `layers` 4; `positions` 77."""
        super().__init__()
        self.cross = Cross(width, layers, positions)
        self.similarity_dense = nn.Linear(width, 1)

    def forward(self, texts: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """(T, D) texts, (B, N, D) frames, (B, N) mask -> (T, B) logits."""
        count, width = texts.shape
        videos, length, _ = frames.shape
        pairs = texts[:, None, None].expand(count, videos, 1, width)
        tokens = torch.cat([pairs, frames[None].expand(count, videos, length, width)], dim=2)
        seen = torch.cat([mask.new_ones(videos, 1), mask], dim=1)[None].expand(count, videos, length + 1)
        pooled = self.cross(tokens.reshape(count * videos, length + 1, width), seen.reshape(count * videos, -1))
        out: Tensor = self.similarity_dense(pooled).reshape(count, videos)
        return out


class Cross(nn.Module):
    """The cross model: position embeddings, a transformer, and its first token through a pooler."""

    def __init__(self, width: int, layers: int, positions: int) -> None:
        """See `TightTransf`."""
        super().__init__()
        self.embeddings = nn.ModuleDict({"position_embeddings": nn.Embedding(positions, width)})
        self.transformer = Transformer(width, layers, eps=1e-12)
        self.pooler = Pooler(width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(B, N, D) tokens and their (B, N) mask -> (B, D)."""
        positions = self.embeddings["position_embeddings"](torch.arange(tokens.shape[1], device=tokens.device))
        out: Tensor = self.pooler(self.transformer(tokens + positions, additive_mask(mask)))
        return out


class Pooler(nn.Module):
    """The first token, normalised, through a linear layer and QuickGELU."""

    def __init__(self, width: int) -> None:
        """`width` D."""
        super().__init__()
        self.ln_pool = nn.LayerNorm(width, eps=1e-12)
        self.dense = nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, N, D) -> (B, D)."""
        first = self.dense(self.ln_pool(hidden[:, 0]))
        out: Tensor = first * torch.sigmoid(1.702 * first)
        return out


def mean_similarity(texts: Tensor, frames: Tensor, mask: Tensor, logit_scale: float) -> Tensor:
    """The loose similarity (equations 1 and 2): `scale cos(text, mean of the unit frames)`.

    Args:
        texts: (T, D).
        frames: (B, N, D) after seqTransf or seqLSTM, or as they are (meanP).
        mask: (B, N); a video without any frame scores 0, not NaN.
        logit_scale: the multiplier of cosines.

    Returns:
        (T, B).
    """
    normalize = nn.functional.normalize
    weights = mask.to(frames.dtype).unsqueeze(-1)
    mean = (normalize(frames, dim=-1) * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)
    return logit_scale * normalize(texts, dim=-1) @ normalize(mean, dim=-1).T


def build(state: Mapping[str, Tensor]) -> tuple[str, SeqTransf | SeqLSTM | TightTransf | None]:
    """The head a state dict in the authors' layout holds: its name, and the module with its weights (None for meanP).

    Args:
        state: without the `clip.*` part or with it; other keys are left alone.

    Raises:
        KeyError, RuntimeError: a part of the head is missing or has another shape.
    """
    head: SeqTransf | SeqLSTM | TightTransf
    if any(k.startswith("transformerClip.") for k in state):
        positions, width = state["frame_position_embeddings.weight"].shape
        name, head = "seqTransf", SeqTransf(width, _layers(state, "transformerClip."), positions)
    elif any(k.startswith("lstm_visual.") for k in state):
        name, head = "seqLSTM", SeqLSTM(state["lstm_visual.weight_hh_l0"].shape[1])
    elif any(k.startswith("cross.") for k in state):
        positions, width = state["cross.embeddings.position_embeddings.weight"].shape
        name, head = "tightTransf", TightTransf(width, _layers(state, "cross.transformer."), positions)
    else:
        return "meanP", None
    wanted = head.state_dict().keys()
    head.load_state_dict({k: state[k].float() for k in wanted})
    return name, head.eval().requires_grad_(requires_grad=False)


def _layers(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({k.removeprefix(prefix).split(".")[1] for k in state if k.startswith(prefix)})
