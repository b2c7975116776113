"""Weights and pictures that are the same everywhere: drawn by name from numpy's generator, not by construction order."""

import zlib

import numpy as np
import torch


def seeded_state(shapes: dict[str, tuple[int, ...]], gain: float = 1.0) -> dict[str, torch.Tensor]:
    """A tensor for each name: norms near one, biases small, matrices of variance `gain / fan-in`."""
    state = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        values = rng.standard_normal(shape)
        if "running_var" in name:
            values = 1 + 0.1 * np.abs(values)
        elif name.endswith("weight") and len(shape) == 1:
            values = 1 + 0.1 * values
        elif name.endswith("bias") or "running_mean" in name:
            values = 0.1 * values
        elif "embedding" in name or name.endswith("token") or len(shape) < 2:
            values = 0.5 * values
        elif name == "proj" or name.endswith(".proj"):
            values = values * shape[0] ** -0.5
        else:
            values = values * (gain / np.prod(shape[1:])) ** 0.5
        state[name] = torch.from_numpy(np.asarray(values, np.float32))
    return state


def seeded_picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random picture with a few flat rectangles: (3, H, W) float32 around zero."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 64.0
    picture = np.zeros((3, height, width))
    for _ in range(6):
        fy, fx, phase = rng.normal(size=3)
        picture += rng.normal(size=(3, 1, 1)) * np.sin(2 * fy * y + 2 * fx * x + 6 * phase)
    for _ in range(4):
        top, left = rng.integers(0, height), rng.integers(0, width)
        picture[:, top : top + height // 4, left : left + width // 3] = rng.normal(size=(3, 1, 1))
    return (0.5 * picture + 0.05 * rng.normal(size=picture.shape)).astype(np.float32)
