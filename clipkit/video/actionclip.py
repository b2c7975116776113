"""ActionCLIP's fusion heads ("visual prompts") and loss (Wang et al. 2021, sections 3.2 and 3.3) in torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from clipkit.video.transformer import Transformer

if TYPE_CHECKING:
    from collections.abc import Mapping

Fusion = Literal["meanP", "LSTM", "Conv_1D", "Transf", "Transf_cls"]


class MeanFusion(nn.Module):
    """meanP: the plain mean over time; frames are not normalised first."""

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, D) -> (B, D)."""
        return frames.mean(dim=1)


class LSTMFusion(nn.Module):
    """LSTM: a one-layer LSTM and the frames added back, then the mean; parameters `lstm_visual.*`."""

    def __init__(self, width: int) -> None:
        """`width` D."""
        super().__init__()
        self.lstm_visual = nn.LSTM(width, width, batch_first=True)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, D) -> (B, D)."""
        out: Tensor = (self.lstm_visual(frames)[0] + frames).mean(dim=1)
        return out


class ConvFusion(nn.Module):
    """Conv_1D: a depthwise convolution of three frames and the frames added back, then the mean; parameter `shift.weight`."""

    def __init__(self, width: int) -> None:
        """`width` D."""
        super().__init__()
        self.shift = nn.Conv1d(width, width, 3, padding=1, groups=width, bias=False)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, D) -> (B, D).

        The authors reinterpret (B, T, D) as (B, D, T) without moving the axes (`view`, not `permute`). Their
        checkpoints are trained with that, so it is kept.
        """
        batch, count, width = frames.shape
        shifted = self.shift(frames.reshape(batch, width, count)).permute(0, 2, 1)
        out: Tensor = (shifted + frames).mean(dim=1)
        return out


class TransfFusion(nn.Module):
    """Transf, the published models' head: frame positions, 6 transformer layers, the frames added back, then the mean.

    Parameters are called `frame_position_embeddings.*` and `transformer.*`.
    """

    def __init__(self, width: int, heads: int, layers: int, positions: int) -> None:
        """`heads` as in CLIP's text tower (width / 64 there); `positions` 77."""
        super().__init__()
        self.frame_position_embeddings = nn.Embedding(positions, width)
        self.transformer = Transformer(width, layers, heads=heads, eps=1e-12)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, D) -> (B, D)."""
        positions = self.frame_position_embeddings(torch.arange(frames.shape[1], device=frames.device))
        out: Tensor = (self.transformer(frames + positions) + frames).mean(dim=1)
        return out


class TransfClsFusion(nn.Module):
    """Transf_cls: a class token before the frames, 6 standard transformer layers, and the class token's output.

    Parameters are called `transformer.cls_token`, `transformer.pos_embed` and `transformer.transformer_enc.*`.
    """

    def __init__(self, width: int, layers: int, frames: int, hidden: int = 2048) -> None:
        """`frames` T, fixed by the position embeddings; 8 heads, `hidden` the MLP's width (torch's default)."""
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 8, dim_feedforward=hidden, batch_first=True)
        encoder = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.transformer = nn.ModuleDict({"transformer_enc": encoder})
        self.transformer.register_parameter("cls_token", nn.Parameter(torch.zeros(1, 1, width)))
        self.transformer.register_parameter("pos_embed", nn.Parameter(torch.zeros(1, frames + 1, width)))

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, D) -> (B, D)."""
        first = self.transformer.get_parameter("cls_token").expand(len(frames), -1, -1)
        tokens = torch.cat([first, frames], dim=1) + self.transformer.get_parameter("pos_embed")
        out: Tensor = self.transformer["transformer_enc"](tokens)[:, 0]
        return out


FusionHead = MeanFusion | LSTMFusion | ConvFusion | TransfFusion | TransfClsFusion


def build(state: Mapping[str, Tensor], *, heads: int) -> tuple[Fusion, FusionHead]:
    """The head a `fusion_model_state_dict` holds (its `module.` prefix removed): its name and the module with weights.

    Args:
        state: parameters by name; empty for meanP.
        heads: attention heads of Transf, which the weights do not tell: CLIP's text width / 64.

    Raises:
        KeyError, RuntimeError: a part of the head is missing or has another shape.
    """
    name: Fusion
    head: FusionHead
    if "transformer.cls_token" in state:
        frames, width = state["transformer.pos_embed"].shape[1] - 1, state["transformer.pos_embed"].shape[2]
        layers = _count(state, "transformer.transformer_enc.layers.")
        hidden = state["transformer.transformer_enc.layers.0.linear1.weight"].shape[0]
        name, head = "Transf_cls", TransfClsFusion(width, layers, frames, hidden)
    elif any(k.startswith("transformer.resblocks.") for k in state):
        positions, width = state["frame_position_embeddings.weight"].shape
        name, head = "Transf", TransfFusion(width, heads, _count(state, "transformer.resblocks."), positions)
    elif any(k.startswith("lstm_visual.") for k in state):
        name, head = "LSTM", LSTMFusion(state["lstm_visual.weight_hh_l0"].shape[1])
    elif "shift.weight" in state:
        name, head = "Conv_1D", ConvFusion(state["shift.weight"].shape[0])
    else:
        return "meanP", MeanFusion()
    head.load_state_dict({k: state[k].float() for k in head.state_dict()})
    return name, head.eval().requires_grad_(requires_grad=False)


def kl_loss(logits_per_video: Tensor, logits_per_text: Tensor, labels: Tensor) -> Tensor:
    """ActionCLIP's loss (equation 4): KL from the same-label targets to the predictions, mean of both directions.

    `labels` (B,) give the (B, B) matrix of equal labels; its softmax at a temperature of 1/10 is the target, as
    in the authors' code (the paper writes the normalised matrix).

    Args:
        logits_per_video: (B, B), `scale cos(video_i, text_j)`.
        logits_per_text: (B, B), its transpose in ordinary use.
        labels: (B,) class of each pair.
    """
    same = (labels[:, None] == labels[None]).to(logits_per_video.dtype)
    target = torch.softmax(10 * same, dim=1)
    both = (torch.log_softmax(logits, dim=1) for logits in (logits_per_video, logits_per_text))
    losses = [nn.functional.kl_div(prediction, target, reduction="batchmean") for prediction in both]
    return (losses[0] + losses[1]) / 2


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({k.removeprefix(prefix).split(".")[0] for k in state if k.startswith(prefix)})
