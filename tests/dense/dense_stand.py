"""A stand-in for a loaded model, and a photo-like array."""

import zlib
from types import SimpleNamespace

import numpy as np
import torch

from clipkit.models.clip import Preprocess


class Stand:
    """The parts of a `Clip` that dense features use."""

    weights_hash = "0" * 12
    text_key = "stand"
    torch_device = torch.device("cpu")
    preprocess = Preprocess((32, 32), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))

    def __init__(self, visual, name="stand"):
        self.id = name
        self.model = SimpleNamespace(visual=visual)

    def encode_texts(self, texts, *, normalize=True):
        rows = [np.random.default_rng(zlib.crc32(text.encode())).standard_normal(16) for text in texts]
        return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)


def make_photo(height, width):
    """(H, W, 3) uint8; large ones are tiled."""
    if height > 1000 and width > 1000:
        return np.tile(make_photo(500, 500), (-(-height // 500), -(-width // 500), 1))[:height, :width].copy()
    y, x = np.mgrid[0:height, 0:width]
    picture = np.where((x < width // 2)[..., None], [200, 60, 40], [30, 90, 180]).astype(np.float64)
    disc = (y - height / 2) ** 2 + (x - width / 3) ** 2 < (min(height, width) / 4) ** 2
    picture[disc] = [240, 230, 90]
    grain = np.random.default_rng(0).normal(scale=8, size=picture.shape)
    return np.clip(picture + grain, 0, 255).astype(np.uint8)
