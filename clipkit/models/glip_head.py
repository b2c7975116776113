"""GLIP's head (Li et al. 2022, section 3.2): rounds in which picture and words look at each other, then boxes and scores.

A round fuses both sides by attention in both directions, goes on through a BERT layer on the words and through a
dynamic head block (Dai et al. 2021) on the pyramid. GLIP-T (A) has the blocks alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipkit.models.glip_text import LIMIT, BertLayer

LEVELS = 5
HEADS = 8
GROUPS = 16
TAPS = 9


@dataclass(frozen=True, slots=True)
class HeadSizes:
    """Channels of the pyramid and of the words, rounds, inner channels of the words' layers and of the fusion (None: none)."""

    channels: int
    words: int
    rounds: int
    inner: int
    fusion: int | None


@dataclass(frozen=True, slots=True)
class Level:
    """What one level says of its places: `logits` `(N, HW, T)`, `deltas` `(N, HW, 4)`, `centerness` logits `(N, HW)`."""

    logits: Tensor
    deltas: Tensor
    centerness: Tensor
    size: tuple[int, int]


class BiAttention(nn.Module):
    """Attention from picture to words and from words to picture over one table of scores (X-MHA, equation 4)."""

    def __init__(self, channels: int, words: int, width: int) -> None:
        """Take the channels of both sides and of the attention."""
        super().__init__()
        self.layer_norm_v, self.layer_norm_l = nn.LayerNorm(channels), nn.LayerNorm(words)
        self.v_proj, self.values_v_proj = nn.Linear(channels, width), nn.Linear(channels, width)
        self.l_proj, self.values_l_proj = nn.Linear(words, width), nn.Linear(words, width)
        self.out_v_proj, self.out_l_proj = nn.Linear(width, channels), nn.Linear(width, words)
        self.gamma_v, self.gamma_l = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.ones(words))

    def forward(self, levels: list[Tensor], words: Tensor) -> tuple[list[Tensor], Tensor]:
        """Maps `(N, C, h, w)` and words `(N, T, D)` -> the same shapes. What is added to is the normalised input."""
        v = self.layer_norm_v(torch.cat([x.flatten(2).transpose(1, 2) for x in levels], dim=1))
        l = self.layer_norm_l(words)  # noqa: E741 (the paper's letter)
        query, key = _split(self.v_proj(v)), _split(self.l_proj(l))
        scores = (query * query.shape[-1] ** -0.5 @ key.transpose(2, 3)).clamp(-LIMIT, LIMIT)
        to_v = scores.softmax(dim=3) @ _split(self.values_l_proj(l))
        to_l = scores.transpose(2, 3).softmax(dim=3) @ _split(self.values_v_proj(v))
        v = v + self.gamma_v * self.out_v_proj(to_v.transpose(1, 2).flatten(2))
        parts = v.split([x.shape[2] * x.shape[3] for x in levels], dim=1)
        maps = [part.transpose(1, 2).reshape(x.shape) for part, x in zip(parts, levels, strict=True)]
        return maps, l + self.gamma_l * self.out_l_proj(to_l.transpose(1, 2).flatten(2))


def _split(x: Tensor) -> Tensor:
    """`(N, L, width)` -> `(N, heads, L, width / heads)`."""
    return x.reshape(*x.shape[:2], HEADS, -1).transpose(1, 2)


class ModulatedConv(nn.Module):
    """A deformable 3 x 3 convolution (Zhu et al. 2019) whose offsets come from elsewhere, and a group norm."""

    def __init__(self, channels: int, stride: int) -> None:
        """Make the layers."""
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.norm = nn.GroupNorm(GROUPS, channels)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """`(N, C, H, W)`, offsets `(N, 18, h, w)`, masks `(N, 9, h, w)` -> `(N, C, H / stride, W / stride)`."""
        from torchvision.ops import deform_conv2d

        size = ((x.shape[2] - 1) // self.stride + 1, (x.shape[3] - 1) // self.stride + 1)
        mixed = deform_conv2d(
            x, reread(offset, size), self.weight, self.bias, self.stride, padding=1, mask=reread(mask, size)
        )
        return self.norm(mixed)  # type: ignore[no-any-return]


def reread(field: Tensor, size: tuple[int, int]) -> Tensor:
    """`(N, C, H, W)` -> `(N, C, h, w)`, for h and w no larger: the same memory walked with the smaller strides.

    The block convolves the coarser level with offsets of the finer one. The kernel the weights were trained with
    takes their rows and columns by the size of its output and leaves the rest unread; resampling would be cleaner
    and would not be GLIP.
    """
    if field.shape[2:] == size:
        return field
    channels = field.shape[1]
    return field.flatten(1)[:, : channels * size[0] * size[1]].reshape(-1, channels, *size)


class DynamicBlock(nn.Module):
    """Each level from itself and its neighbours: deformed, weighed by scale, through a dynamic ReLU (Chen et al. 2020)."""

    def __init__(self, channels: int) -> None:
        """Make the layers."""
        super().__init__()
        # From the coarser level, the same, the finer.
        self.convs = nn.ModuleList(ModulatedConv(channels, stride) for stride in (1, 1, 2))
        self.offset = nn.Conv2d(channels, 3 * TAPS, 3, padding=1)
        self.scale = nn.Conv2d(channels, 1, 1)
        self.squeeze, self.excite = nn.Linear(channels, channels // 4), nn.Linear(channels // 4, 4 * channels)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Maps, finest first -> the same shapes."""
        return [self._relu(self._level(levels, number)) for number in range(len(levels))]

    def _level(self, levels: list[Tensor], number: int) -> Tensor:
        x = levels[number]
        field = self.offset(x)
        offset, mask = field[:, : 2 * TAPS], field[:, 2 * TAPS :].sigmoid()
        parts = [self.convs[1](x, offset, mask)]
        if number:
            parts.append(self.convs[2](levels[number - 1], offset, mask))
        if number + 1 < len(levels):
            coarse = self.convs[0](levels[number + 1], offset, mask)
            parts.append(functional.interpolate(coarse, size=x.shape[2:], mode="bilinear", align_corners=True))
        weights = [functional.hardsigmoid(self.scale(part.mean((2, 3), keepdim=True)).relu()) for part in parts]
        return torch.stack([part * weight for part, weight in zip(parts, weights, strict=True)]).mean(dim=0)

    def _relu(self, x: Tensor) -> Tensor:
        """The larger of two lines whose slopes and heights the whole map decides."""
        theta = functional.hardsigmoid(self.excite(self.squeeze(x.mean((2, 3))).relu())) - 0.5
        a1, b1, a2, b2 = theta[..., None, None].chunk(4, dim=1)
        return torch.maximum(x * (1 + 2 * a1) + b1, x * 2 * a2 + b2)


class Head(nn.Module):
    """The pyramid and the words to what each place says."""

    def __init__(self, sizes: HeadSizes) -> None:
        """Make the layers of the sizes."""
        super().__init__()
        rounds = range(sizes.rounds)
        self.image = nn.ModuleList(DynamicBlock(sizes.channels) for _ in rounds)
        self.fuse, self.text = nn.ModuleList(), nn.ModuleList()
        if sizes.fusion is not None:
            self.fuse.extend(BiAttention(sizes.channels, sizes.words, sizes.fusion) for _ in rounds)
            self.text.extend(BertLayer(sizes.words, sizes.inner, clamped=True) for _ in rounds)
        self.bbox_pred = nn.Conv2d(sizes.channels, 4, 1)
        self.centerness = nn.Conv2d(sizes.channels, 1, 1)
        self.scales = nn.Parameter(torch.ones(LEVELS))
        self.dot_product_projection_text = nn.Linear(sizes.words, sizes.channels)
        self.log_scale, self.bias0 = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
        self.bias_lang = nn.Parameter(torch.zeros(sizes.words))

    def forward(self, levels: list[Tensor], words: Tensor) -> list[Level]:
        """Maps `(N, C, h, w)` of P3 to P7 and words `(N, T, D)` -> five levels' answers."""
        for number, block in enumerate(self.image):
            if len(self.fuse):
                levels, words = self.fuse[number](levels, words)
                words = self.text[number](words)
            levels = block(levels)
        unit = functional.normalize(words, dim=-1)
        tokens = self.dot_product_projection_text(unit / 2) / self.log_scale.exp()
        bias = unit @ self.bias_lang + self.bias0
        return [self._answer(x, scale, tokens, bias) for x, scale in zip(levels, self.scales, strict=True)]

    def _answer(self, x: Tensor, scale: Tensor, tokens: Tensor, bias: Tensor) -> Level:
        logits = (x.flatten(2).transpose(1, 2) @ tokens.transpose(1, 2) + bias[:, None]).clamp(-LIMIT, LIMIT)
        deltas = (scale * self.bbox_pred(x)).flatten(2).transpose(1, 2)
        return Level(logits, deltas, self.centerness(x).flatten(1), (x.shape[2], x.shape[3]))
