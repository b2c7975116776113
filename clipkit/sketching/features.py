"""What CLIP's image tower sees on the way: layer outputs, the embedding, and where it looks.

Towers of open_clip: ModifiedResNet (RN50, RN101, ..., the built-in model) at any multiple of 32 pixels, the attention
pool's positions interpolated; VisionTransformer at its own size.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from clipkit.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Layer outputs, each (N, ...) in the order asked for, and the embedding (N, D)."""

    layers: tuple[Tensor, ...]
    embedding: Tensor


class Tower:
    """A frozen image tower that tells its layers."""

    def __init__(self, visual: nn.Module, mean: Sequence[float], std: Sequence[float], *, fast: bool = True) -> None:
        """Wrap `model.visual`.

        Args:
            visual: an open_clip ModifiedResNet or VisionTransformer in eval mode; it is not changed.
            mean: pixel means of the model's own preprocessing.
            std: pixel deviations, likewise.
            fast: fold batch norms into convolutions (a copy) and keep channels last.

        Raises:
            ModelError: another architecture.
        """
        anything: Any = visual
        self.visual = anything
        if all(hasattr(visual, name) for name in (*STAGES, "attnpool")):
            self.family = "resnet"
            self.names: tuple[str, ...] = STAGES
            if fast:
                self.visual = folded(visual).to(memory_format=torch.channels_last)
        elif hasattr(visual, "transformer") and hasattr(visual, "conv1"):
            self.family = "vit"
            self.names = tuple(f"block{i}" for i in range(1, len(self.visual.transformer.resblocks) + 1))
        else:
            raise ModelError(
                f"sketch needs a ResNet or ViT image tower of open_clip, not {type(visual).__name__}; try RN101 or ViT-B-32"
            )
        parameter = next(visual.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self._mean = torch.tensor(mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=self.device).view(1, 3, 1, 1)

    @property
    def native_size(self) -> int:
        """The side of the pictures the model was trained on."""
        size = self.visual.image_size
        return int(size[0] if isinstance(size, (tuple, list)) else size)

    def size(self, wanted: int) -> int:
        """The side of picture it will be shown when `wanted` is asked for."""
        return self.native_size if self.family == "vit" else max(64, round(wanted / 32) * 32)

    def default_layers(self) -> dict[str, float]:
        """CLIPasso's choice for ResNets (layer2 and layer3, weight 1); blocks at a third and two thirds of a ViT."""
        if self.family == "resnet":
            return {"layer2": 1.0, "layer3": 1.0}
        depth = len(self.names)
        return {f"block{max(1, round(depth / 3))}": 1.0, f"block{max(1, round(2 * depth / 3))}": 1.0}

    def parse_layers(self, text: str) -> dict[str, float]:
        """`layer2:1,layer3:0.5` or `4,8` (blocks of a ViT) -> name and weight.

        Raises:
            UsageError: no such layer, or a weight that is no number above zero.
        """
        chosen: dict[str, float] = {}
        for part in filter(None, (p.strip() for p in text.split(","))):
            name, _, weight = part.partition(":")
            name = f"block{name}" if self.family == "vit" and name.isdecimal() else name
            if name not in self.names:
                raise UsageError(f"no layer {name!r} in this model; it has {', '.join(self.names)}")
            try:
                chosen[name] = float(weight or 1.0)
            except ValueError:
                raise UsageError(f"--layers {part}: the weight must be a number") from None
            if not 0.0 < chosen[name] < float("inf"):
                raise UsageError(f"--layers {part}: the weight must be above 0")
        if not chosen:
            raise UsageError("--layers names no layer")
        return chosen

    def __call__(self, pixels: Tensor, layers: Sequence[str]) -> Features:
        """Features of pictures (N, 3, S, S) in [0, 1], S = `size(...)`."""
        x = ((pixels - self._mean) / self._std).to(self.dtype)
        return self._resnet(x, layers) if self.family == "resnet" else self._vit(x, layers)

    def attention(self, pixels: Tensor) -> Tensor:
        """Where the tower looks in one picture (1, 3, S, S): (h, w), rows of the class query averaged over heads.

        A ViT: the class token's attention probabilities, mean over heads and blocks (CLIPasso). A ResNet: those of the
        attention pool's query.
        """
        x = ((pixels - self._mean) / self._std).to(self.dtype)
        with torch.no_grad():
            return (self._pool_attention(x) if self.family == "resnet" else self._cls_attention(x)).float()

    def _resnet(self, x: Tensor, layers: Sequence[str]) -> Features:
        found: dict[str, Tensor] = {}
        x = x.contiguous(memory_format=torch.channels_last)
        for name in STAGES:
            x = getattr(self.visual, name)(x)
            found[name] = x
        pool = self.visual.attnpool
        positions = resized_positions(pool.positional_embedding, x.shape[-2:])
        embedding = torch.func.functional_call(pool, {"positional_embedding": positions}, (x,))
        return Features(tuple(found[name].float() for name in layers), embedding.float())

    def _vit(self, x: Tensor, layers: Sequence[str]) -> Features:
        found: dict[str, Tensor] = {}
        blocks = self.visual.transformer.resblocks
        first = getattr(self.visual.transformer, "batch_first", True)

        def keep(name: str) -> Any:
            def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
                tokens = output if first else output.transpose(0, 1)
                # a few channels of a ViT's residual stream are hundreds of times larger than the rest
                found[name] = functional.layer_norm(tokens[:, 1:].float(), tokens.shape[-1:])

            return hook

        handles = [blocks[self.names.index(name)].register_forward_hook(keep(name)) for name in layers]
        try:
            pooled = self.visual(x)
        finally:
            for handle in handles:
                handle.remove()
        embedding = pooled[0] if isinstance(pooled, tuple) else pooled
        return Features(tuple(found[name] for name in layers), embedding.float())

    def _pool_attention(self, x: Tensor) -> Tensor:
        for name in STAGES:
            x = getattr(self.visual, name)(x)
        pool = self.visual.attnpool
        rows, columns = x.shape[-2:]
        cells = x.flatten(2).transpose(1, 2)
        tokens = torch.cat((cells.mean(1, keepdim=True), cells), 1)
        tokens = tokens + resized_positions(pool.positional_embedding, (rows, columns))
        query, key = in_heads(pool.q_proj(tokens[:, :1]), pool.num_heads), in_heads(pool.k_proj(tokens), pool.num_heads)
        share: Tensor = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
        return share[0, :, 0, 1:].mean(0).reshape(rows, columns)

    def _cls_attention(self, x: Tensor) -> Tensor:
        rows: list[Tensor] = []
        first = getattr(self.visual.transformer, "batch_first", True)

        def hook(module: nn.Module, inputs: Any) -> None:
            rows.append(_cls_row(module, inputs[0] if first else inputs[0].transpose(0, 1)))

        blocks = self.visual.transformer.resblocks
        handles = [block.register_forward_pre_hook(hook) for block in blocks]
        try:
            self.visual(x)
        finally:
            for handle in handles:
                handle.remove()
        mean = torch.stack(rows).mean(0)
        side = round(len(mean) ** 0.5)
        return mean.reshape(side, len(mean) // side)


def _cls_row(block: Any, tokens: Tensor) -> Tensor:
    """Attention probabilities of token 0 over the patches, mean over heads, for a block's input (1, L, D)."""
    attention = block.attn
    normed = block.ln_1(tokens)
    projected = functional.linear(normed, attention.in_proj_weight, attention.in_proj_bias)
    query, key, _ = projected.chunk(3, -1)
    query, key = in_heads(query[:, :1], attention.num_heads), in_heads(key, attention.num_heads)
    share: Tensor = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
    return share[0, :, 0, 1:].mean(0)


def in_heads(projected: Tensor, heads: int) -> Tensor:
    """Queries or keys (N, L, D) split into heads: (N, heads, L, D / heads)."""
    return projected.reshape(*projected.shape[:2], heads, -1).transpose(1, 2)


def resized_positions(positions: Tensor, grid: Sequence[int]) -> Tensor:
    """The attention pool's positions (1 + n n, C) for another grid: (1 + rows columns, C), bicubic."""
    side = round((len(positions) - 1) ** 0.5)
    rows, columns = grid
    if (side, side) == (rows, columns):
        return positions
    planes = positions[1:].t().reshape(1, -1, side, side).float()
    planes = functional.interpolate(planes, size=(rows, columns), mode="bicubic", align_corners=False)
    return torch.cat((positions[:1], planes.reshape(positions.shape[1], -1).t().to(positions.dtype)))


def folded(visual: nn.Module) -> nn.Module:
    """A copy of a ModifiedResNet whose batch norms are part of its convolutions: the same function, half the passes."""
    tower: Any = copy.deepcopy(visual)
    blocks = [tower, *(block for stage in STAGES[1:] for block in getattr(tower, stage))]
    for block in blocks:
        for i in (1, 2, 3):
            conv, norm = f"conv{i}", f"bn{i}"
            if isinstance(getattr(block, norm), nn.BatchNorm2d):
                setattr(block, conv, fuse_conv_bn_eval(getattr(block, conv), getattr(block, norm)))
                setattr(block, norm, nn.Identity())
        shortcut = getattr(block, "downsample", None)
        if shortcut is not None:
            _fold_pair(shortcut)
    fused: nn.Module = tower.eval().requires_grad_(requires_grad=False)
    return fused


def _fold_pair(shortcut: nn.Sequential) -> None:
    parts: Mapping[str, Any] = shortcut._modules  # noqa: SLF001 (open_clip names them "-1", "0", "1")
    for name, module in parts.items():
        if isinstance(module, nn.BatchNorm2d):
            before = next(key for key in parts if isinstance(parts[key], nn.Conv2d))
            shortcut.add_module(before, fuse_conv_bn_eval(parts[before], module))
            shortcut.add_module(name, nn.Identity())
            return
