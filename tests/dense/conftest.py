"""A stand-in for a loaded model: any image tower, seeded weights, text vectors drawn from the text."""

import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dense_seeds import seeded_state
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer

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


def seeded(visual):
    """The tower with weights drawn by name."""
    visual.load_state_dict(
        seeded_state({k: tuple(v.shape) for k, v in visual.state_dict().items() if v.is_floating_point()}), strict=False
    )
    return visual.eval()


@pytest.fixture(scope="session")
def vit_tower():
    """Twelve blocks, patches of 8, trained at 32 pixels."""
    return seeded(VisionTransformer(32, 8, 32, 12, 2, 4.0, output_dim=16))


@pytest.fixture(scope="session")
def resnet_tower():
    """A ModifiedResNet of width 8, trained at 64 pixels."""
    return seeded(ModifiedResNet([1, 1, 1, 1], 16, 4, 64, width=8))


@pytest.fixture(scope="session")
def vit_clip(vit_tower):
    """A model with the ViT."""
    return Stand(vit_tower, "tiny-vit")


@pytest.fixture(scope="session")
def resnet_clip(resnet_tower):
    """A model with the ResNet."""
    return Stand(resnet_tower, "tiny-resnet")


@pytest.fixture(scope="session")
def photo():
    """A photo-like array: two flat halves and a disc, with grain."""
    return make_photo(90, 130)


def make_photo(height, width):
    """(H, W, 3) uint8."""
    y, x = np.mgrid[0:height, 0:width]
    picture = np.where((x < width // 2)[..., None], [200, 60, 40], [30, 90, 180]).astype(np.float64)
    disc = (y - height / 2) ** 2 + (x - width / 3) ** 2 < (min(height, width) / 4) ** 2
    picture[disc] = [240, 230, 90]
    grain = np.random.default_rng(0).normal(scale=8, size=picture.shape)
    return np.clip(picture + grain, 0, 255).astype(np.uint8)
