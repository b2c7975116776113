"""Shared by the sketch tests: one thread, and the helpers of `sketch_truth` importable."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors on many threads are slower and their sums depend on the machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_resnet(tmp_path_factory):
    """A folder with a random ModifiedResNet CLIP."""
    from tiny import make_tiny_clip

    return make_tiny_clip(tmp_path_factory.mktemp("tiny") / "resnet", "resnet")


@pytest.fixture(scope="session")
def tiny_vit(tmp_path_factory):
    """A folder with a random ViT CLIP."""
    from tiny import make_tiny_clip

    return make_tiny_clip(tmp_path_factory.mktemp("tiny") / "vit", "vit")


@pytest.fixture
def towers(tiny_resnet, tiny_vit):
    """(visual, tower) of both architectures."""
    from clipkit.models.loader import load_clip
    from clipkit.sketching.features import Tower

    pairs = {}
    for kind, folder in (("resnet", tiny_resnet), ("vit", tiny_vit)):
        clip = load_clip(str(folder), "cpu", "fp32", engine="torch")
        visual = clip.model.visual
        pairs[kind] = (visual, Tower(visual, clip.preprocess.mean, clip.preprocess.std))
    return pairs


@pytest.fixture
def photo_file(tmp_path):
    """A picture with something in it: a bright disc and a bar on a dark slope."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[:90, :120].astype(float)
    grey = 40 + 0.3 * x
    grey[(x - 55) ** 2 + (y - 45) ** 2 < 28**2] = 220
    grey[40:50, 75:112] = 160
    rgb = np.stack((grey, 0.8 * grey, 255 - grey), -1).clip(0, 255).astype(np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(rgb).save(path)
    return path
