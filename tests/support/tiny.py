"""A tiny random CLIP in open_clip's local-dir layout, so that tests exercise real loading code in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

VISION: dict[str, dict[str, Any]] = {
    "vit": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
}
TEXT: dict[str, Any] = {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 2}
PREPROCESS: dict[str, Any] = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def make_tiny_clip(
    directory: Path | str,
    kind: Literal["vit", "resnet"] = "vit",
    seed: int = 0,
    *,
    dtype: Literal["fp16", "fp32"] = "fp16",
    embed_dim: int = 16,
    model_cfg: dict[str, Any] | None = None,
    vision_cfg: dict[str, Any] | None = None,
    text_cfg: dict[str, Any] | None = None,
    preprocess_cfg: dict[str, Any] | None = None,
) -> Path:
    """Write `open_clip_config.json` and `open_clip_model.safetensors` (about 1 MB) into `directory` and return it.

    The ViT sees 32x32 pixels in 8x8 patches (16 patch tokens, width 32), the ModifiedResNet 64x64 pixels. The four
    dicts overlay the config. The same seed gives the same weights.
    """
    import open_clip
    import torch
    from safetensors.torch import save_file

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    config = {
        "model_cfg": {
            "embed_dim": embed_dim,
            "vision_cfg": VISION[kind] | (vision_cfg or {}),
            "text_cfg": TEXT | (text_cfg or {}),
            **(model_cfg or {}),
        },
        "preprocess_cfg": PREPROCESS | (preprocess_cfg or {}),
    }
    (directory / "open_clip_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    arguments = {k: v for k, v in config["model_cfg"].items() if k != "custom_text"}
    build = open_clip.CustomTextCLIP if config["model_cfg"].get("custom_text") else open_clip.CLIP
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(**arguments).eval()
        state = {name: _lively(name, value) for name, value in model.state_dict().items()}
    kept = {
        name: value.to(torch.float16 if dtype == "fp16" else torch.float32) if value.is_floating_point() else value
        for name, value in state.items()
    }
    save_file({k: v.contiguous() for k, v in kept.items()}, directory / "open_clip_model.safetensors", {"format": "pt"})
    return directory


def _lively(name: str, value: torch.Tensor) -> torch.Tensor:
    """Initial values that keep unlike inputs apart: fresh CLIPs have silent blocks and flat norms."""
    import torch

    if not value.is_floating_point():
        return value.clone()
    if name.endswith("running_mean"):
        return torch.randn_like(value) * 0.1
    if name.endswith("running_var"):
        return torch.rand_like(value) + 0.5
    if ".bn" in name or "downsample.1" in name or "ln_" in name:
        return torch.randn_like(value) * 0.1 + (1.0 if name.endswith("weight") else 0.0)
    if name.endswith("token_embedding.weight"):
        return value * 50
    if value.ndim == 4:
        return value * 2.5
    if value.ndim == 1:
        return torch.randn_like(value) * 0.02
    return value.clone()
