"""The built-in model's shape: an open_clip CLIP, and its image tower at resolutions other than its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from open_clip import CLIP
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the field's name for it)

CONFIG = Path(__file__).parents[1] / "models" / "builtin" / "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"


POSITIONS = "attnpool.positional_embedding"
"""The one parameter of the image tower that depends on the picture's side."""


def build(side: int | None = None, config: Path = CONFIG) -> CLIP:
    """A fresh model of `model_cfg`, float32, on the CPU; for pictures of `side` pixels, if given."""
    model_cfg: dict[str, Any] = json.loads(config.read_text())["model_cfg"]
    model_cfg["vision_cfg"]["image_size"] = side or model_cfg["vision_cfg"]["image_size"]
    return CLIP(**model_cfg)


def load(folder: Path, side: int | None = None) -> dict[str, Tensor]:
    """The weights of a model that `save` wrote, float32, by name; its image tower's positions made to fit `side` pixels."""
    state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(folder / WEIGHTS).items()}
    if side:
        state[f"visual.{POSITIONS}"] = resized_positions(state[f"visual.{POSITIONS}"], side // 32)
    return state


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
    positions = resized_positions(dict(visual.named_parameters())[POSITIONS], images.shape[-1] // 32)
    return cast("Tensor", torch.func.functional_call(visual, {POSITIONS: positions}, (images,)))


def fast_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes in it; on a CPU without it, oneDNN is slower by a factor of ten."""
    native = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001 (torch has no public name for it)
    return torch.bfloat16 if native else torch.float32


def save(model: CLIP, folder: Path) -> Path:
    """Write the weights as fp16 safetensors, in open_clip's layout; gives the file."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        k: v.detach().to("cpu", torch.float16 if v.is_floating_point() else v.dtype).contiguous()
        for k, v in model.state_dict().items()
        if k != "attn_mask"
    }
    path = folder / WEIGHTS
    save_file(state, path, metadata={"format": "pt"})
    return path
