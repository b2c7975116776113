"""The image side of GLIP: a Swin transformer (Liu et al. 2021) and the feature pyramid P3 to P7 over it (Lin et al. 2017).

Written out here because others' Swin stops shifting its windows where a map is as small as one, and the published
weights were trained without that exception. Parameters carry the names of the published checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

PATCH = 4
# Added to the scores of tokens that the cyclic shift brought together from far apart.
FAR = -100.0


@dataclass(frozen=True, slots=True)
class SwinSizes:
    """Channels of the first stage, blocks and heads of each stage, the window's side and the MLP's factor."""

    width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    mlp: int = 4


class WindowAttention(nn.Module):
    """Attention within windows, with a learned bias for each relative place."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        """Make the layers."""
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))

    def forward(self, x: Tensor, far: Tensor | None) -> Tensor:
        """`(windows, tokens, width)`, and `(windows, tokens, tokens)` to add to the scores -> the shape of `x`."""
        count, tokens, width = x.shape
        query, key, value = self.qkv(x).reshape(count, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        table = self.relative_position_bias_table
        bias = table[_apart(self.window).to(table.device)].permute(2, 0, 1)[None]
        if far is not None:
            bias = bias + far[:, None]
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.proj(mixed.transpose(1, 2).reshape(count, tokens, width))  # type: ignore[no-any-return]


def _apart(window: int) -> Tensor:
    """`(tokens, tokens)`: the row of the bias table for each pair of places in a window."""
    places = torch.cartesian_prod(torch.arange(window), torch.arange(window))
    apart = places[:, None] - places[None] + window - 1
    return apart[..., 0] * (2 * window - 1) + apart[..., 1]


class SwinBlock(nn.Module):
    """Attention in windows, which every second block shifts by half a window, and an MLP."""

    def __init__(self, width: int, heads: int, window: int, mlp: int, *, shifted: bool) -> None:
        """Make the layers."""
        super().__init__()
        self.window, self.shift = window, window // 2 if shifted else 0
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, mlp * width), "fc2": nn.Linear(mlp * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        """`(N, H, W, width)` -> the same shape."""
        x = x + self._attend(self.norm1(x))
        return x + self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(x))))  # type: ignore[no-any-return]

    def _attend(self, x: Tensor) -> Tensor:
        count, height, width, channels = x.shape
        side, shift = self.window, self.shift
        # Filled up on the right and below with zeros, which take part in the attention.
        x = functional.pad(x, (0, 0, 0, -width % side, 0, -height % side))
        rows, columns = x.shape[1] // side, x.shape[2] // side
        far = None
        if shift:
            x = x.roll((-shift, -shift), dims=(1, 2))
            region = _regions(rows * side, side, shift)[:, None] * 3 + _regions(columns * side, side, shift)
            parts = region.reshape(rows, side, columns, side).transpose(1, 2).reshape(-1, side * side)
            far = (FAR * (parts[:, :, None] != parts[:, None])).repeat(count, 1, 1).to(x)
        windows = x.reshape(count, rows, side, columns, side, channels).transpose(2, 3).reshape(-1, side**2, channels)
        mixed = self.attn(windows, far).reshape(count, rows, columns, side, side, channels)
        x = mixed.transpose(2, 3).reshape(count, rows * side, columns * side, channels)
        if shift:
            x = x.roll((shift, shift), dims=(1, 2))
        return x[:, :height, :width]


def _regions(length: int, window: int, shift: int) -> Tensor:
    """Which of three stretches each place belongs to: those of the last window were not all neighbours before."""
    places = torch.arange(length)
    return (places >= length - window).long() + (places >= length - shift).long()


class PatchMerging(nn.Module):
    """Four neighbours become one token of twice the channels."""

    def __init__(self, width: int) -> None:
        """Make the layers."""
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, H, W, C)` -> `(N, H / 2, W / 2, 2 C)`, rounded up."""
        x = functional.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))  # type: ignore[no-any-return]


class Stage(nn.Module):
    """Blocks at one stride, and the step to the next, which the last stage has not."""

    def __init__(self, width: int, depth: int, heads: int, sizes: SwinSizes, *, last: bool) -> None:
        """Make the layers."""
        super().__init__()
        self.blocks = nn.Sequential(
            *(SwinBlock(width, heads, sizes.window, sizes.mlp, shifted=i % 2 == 1) for i in range(depth))
        )
        self.downsample = None if last else PatchMerging(width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(N, H, W, C)` -> this stage's map and what the next one starts from."""
        x = self.blocks(x)
        return x, x if self.downsample is None else self.downsample(x)


class Swin(nn.Module):
    """Pixels to the maps of the stages after the first."""

    def __init__(self, sizes: SwinSizes) -> None:
        """Make the layers of the sizes."""
        super().__init__()
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(3, sizes.width, PATCH, PATCH), "norm": nn.LayerNorm(sizes.width)}
        )
        self.widths = [sizes.width * 2**number for number in range(len(sizes.depths))]
        stages = zip(self.widths, sizes.depths, sizes.heads, strict=True)
        self.layers = nn.ModuleList(
            Stage(width, depth, heads, sizes, last=width == self.widths[-1]) for width, depth, heads in stages
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in self.widths[1:])

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """`(N, 3, H, W)` -> maps `(N, C, H / s, W / s)` for strides of 8, 16 and 32."""
        pixels = functional.pad(pixels, (0, -pixels.shape[3] % PATCH, 0, -pixels.shape[2] % PATCH))
        x = self.patch_embed["norm"](self.patch_embed["proj"](pixels).permute(0, 2, 3, 1))
        found = []
        for stage in self.layers:
            told, x = stage(x)
            found.append(told)
        return [norm(told).permute(0, 3, 1, 2) for norm, told in zip(self.norms, found[1:], strict=True)]


class Pyramid(nn.Module):
    """P3, P4 and P5 from the top down; P6 and P7 by strided convolutions from P5."""

    def __init__(self, widths: list[int], channels: int) -> None:
        """Take the channels of three maps, finest first, and the channels of the pyramid."""
        super().__init__()
        self.inner = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)
        self.layer = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in widths)
        self.p6 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps of strides 8, 16, 32 -> `(N, channels, h, w)` of strides 8, 16, 32, 64, 128."""
        sums = [inner(x) for inner, x in zip(self.inner, maps, strict=True)]
        for finer, coarser in ((1, 2), (0, 1)):
            sums[finer] = sums[finer] + functional.interpolate(sums[coarser], size=sums[finer].shape[2:])
        levels = [layer(x) for layer, x in zip(self.layer, sums, strict=True)]
        p6 = self.p6(levels[-1])
        return [*levels, p6, self.p7(functional.relu(p6))]
