"""The built-in model's shape: an open_clip CLIP, and its image tower at resolutions other than its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from open_clip import CLIP
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the field's name for it)

CONFIG = Path(__file__).parents[1] / "models" / "builtin" / "open_clip_config.json"


def build(config: Path = CONFIG) -> CLIP:
    """A fresh model of `model_cfg`, float32, on the CPU."""
    model_cfg: dict[str, Any] = json.loads(config.read_text())["model_cfg"]
    return CLIP(**model_cfg)


def resized_positions(positions: Tensor, side: int) -> Tensor:
    """Attention-pool positions for a side x side map: (1 + s*s, D) -> (1 + side*side, D), bicubic; the mean token stays."""
    own = round((len(positions) - 1) ** 0.5)
    if own == side:
        return positions
    grid = positions[1:].reshape(1, own, own, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([positions[:1], grid.flatten(2)[0].T])


def encode_image(visual: nn.Module, images: Tensor) -> Tensor:
    """The ModifiedResNet tower on pictures of any multiple of 32: (N, 3, S, S) -> (N, D)."""
    name = "attnpool.positional_embedding"
    positions = resized_positions(dict(visual.named_parameters())[name], images.shape[-1] // 32)
    return cast("Tensor", torch.func.functional_call(visual, {name: positions}, (images,)))


def save(model: CLIP, folder: Path) -> Path:
    """Write the weights as fp16 safetensors, in open_clip's layout; gives the file."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        k: v.detach().to("cpu", torch.float16 if v.is_floating_point() else v.dtype).contiguous()
        for k, v in model.state_dict().items()
        if k != "attn_mask"
    }
    path = folder / "open_clip_model.safetensors"
    save_file(state, path, metadata={"format": "pt"})
    return path
