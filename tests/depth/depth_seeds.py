"""Weights and pictures that are the same everywhere: drawn by name from numpy's generator, not by construction order."""

import zlib

import numpy as np
import torch

RN50 = {
    "embed_dim": 1024,
    "vision_cfg": {"image_size": 224, "layers": [3, 4, 6, 3], "width": 64, "patch_size": None},
    # The image side is RN50's own; the text side is small, because its width does not enter the recipe.
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
    "quick_gelu": True,
}


def seeded_state(shapes):
    """A tensor for each name: norms near one, biases small, weights of variance 2 / fan-in."""
    state = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        values = rng.standard_normal(shape, np.float32)
        if "running_var" in name:
            values = 1 + 0.1 * np.abs(values)
        elif name.endswith("bias") or "running_mean" in name:
            values = 0.1 * values
        elif name.endswith("weight") and len(shape) == 1:
            values = 1 + 0.1 * values
        elif "embedding" in name:
            values = 0.5 * values
        elif name == "text_projection":
            values = values * shape[0] ** -0.5
        elif name == "logit_scale":
            values = np.full(shape, 4.6)
        else:
            if len(shape) == 4:  # filters that sum to zero, or every cell would look alike after fifty layers
                values = values - values.mean(axis=(1, 2, 3), keepdims=True)
            values = values * (2 / np.prod(shape[1:])) ** 0.5
        state[name] = torch.from_numpy(np.array(values, np.float32).reshape(shape))
    return state


def seeded_photo(height, width, seed=0):
    """A smooth random picture with a few flat rectangles: (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 64.0
    picture = np.zeros((height, width, 3))
    for _ in range(6):
        fy, fx, phase = rng.normal(size=3)
        picture += rng.normal(size=3) * np.sin(2 * fy * y + 2 * fx * x + 6 * phase)[..., None]
    for _ in range(4):
        top, left = rng.integers(0, height), rng.integers(0, width)
        picture[top : top + height // 4, left : left + width // 3] = rng.normal(size=3)
    return np.clip(128 + 40 * picture, 0, 255).astype(np.uint8)


def seeded_rgbd(seed=0):
    """A predicted map (416, 544), and a measured one (480, 640) with holes and values beyond the cap; metres, float32."""
    rng = np.random.default_rng(seed)
    truth = 1.0 + 4.0 * rng.random((480, 640), np.float32)
    truth[rng.random((480, 640)) < 0.1] = 0.0
    truth[100:120, 100:300] = 12.0
    predicted = 1.0 + 2.0 * rng.random((416, 544), np.float32)
    return predicted, truth
