"""Packed photographs to augmented batches; the batch of a step depends on the seed and the step alone."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the field's name for it)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from clipkit.training.names import Names

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of OpenAI's CLIP; the config tells inference the same."""

REPEATS = {
    "cifar10": 1.5,
    "balls": 1.5,
    "caltech101": 3.0,
    "cat-breeds": 4.0,
    "cats-dogs": 3.0,
    "clothing": 0.6,
    "five-categories": 4.0,
    "flowers": 1.5,
    "groceries": 0.5,
    "hand-tools": 4.0,
    "hot-dogs": 0.6,
    "imagenet-samples": 4.0,
    "imagenet-val": 4.0,
    "imagewoof": 0.6,
    "instruments": 0.8,
    "natural": 1.5,
    "pacs": 0.5,
    "pandas": 0.5,
    "pets": 1.5,
    "popular-animals": 2.0,
    "seven-animals": 4.0,
    "sketchy": 5.0,
    "ten-animals": 2.0,
    "toasters": 0.4,
    "tools": 0.5,
    "traffic-lights": 0.5,
    "trash": 0.5,
    "wild-animals": 0.4,
}
"""How often a picture of a set is drawn, against one of any other set."""

KIND_PROBABILITY = 0.25
"""How often the label of a picture is its kind (dog) in place of its name (beagle)."""


@dataclass(frozen=True)
class PackedSet:
    """One set: `images` (N, S, S, 3) uint8, mapped not read, and `labels` (N,), indices into the trained names."""

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class TrainingData:
    """All sets, and the names their labels use.

    Attributes:
        sets: the packed sets.
        vocabulary: (V,), index of each trained name in `Names`.
        kind_of: (V,), trained index of a trained name's kind, or its own.
        counts: (V,), pictures of each trained name, those of its members among them.
    """

    sets: tuple[PackedSet, ...]
    vocabulary: NDArray[np.int64]
    kind_of: NDArray[np.int64]
    counts: NDArray[np.int64]


def load_training_data(folder: Path, names: Names) -> TrainingData:
    """Map every `<set>.train.images.npy` of `folder`; labels and their kinds form the trained vocabulary."""
    files = sorted(folder.glob("*.train.images.npy"))
    if not files:
        raise FileNotFoundError(f"no *.train.images.npy in {folder}: make them with python -m clipkit.training.pack")
    lookup = {name: names.index(name) for file in files for name in set(_labels(file))}
    used = set(lookup.values())
    used |= {names.kinds[i] for i in used if i in names.kinds}
    vocabulary = np.array(sorted(used), dtype=np.int64)
    place = {int(index): i for i, index in enumerate(vocabulary)}
    kind_of = np.array([place[names.kinds.get(int(i), int(i))] for i in vocabulary], dtype=np.int64)
    sets = tuple(
        PackedSet(
            file.name.split(".")[0], np.load(file, mmap_mode="r"), np.array([place[lookup[n]] for n in _labels(file)])
        )
        for file in files
    )
    counts = sum(
        (np.bincount(s.labels, minlength=len(vocabulary)) for s in sets), start=np.zeros(len(vocabulary), np.int64)
    )
    np.add.at(counts, kind_of, np.where(kind_of != np.arange(len(vocabulary)), counts, 0))
    return TrainingData(sets, vocabulary, kind_of, counts)


def _labels(images: Path) -> list[str]:
    labels: list[str] = json.loads(images.with_name(images.name.replace("images.npy", "labels.json")).read_text())
    return labels


def crop(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Random resized crops (area .5 to 1, ratio 4/5 to 5/4) with flips: (N, 3, S, S) float -> (N, 3, side, side).

    The same distribution as torchvision's RandomResizedCrop but that a crop outside the picture is shrunk to fit.
    """
    n, size = len(images), images.shape[-1]
    if size >= 2 * side:
        images = F.avg_pool2d(images, size // side)  # grid_sample takes four pixels: average first what it would skip
    u = torch.rand(n, 5, generator=generator).to(images.device)
    area = 0.5 + 0.5 * u[:, 0]
    ratio = torch.exp((2 * u[:, 1] - 1) * math.log(5 / 4))
    width = (area * ratio).sqrt().clamp(max=1)
    height = (area / ratio).sqrt().clamp(max=1)
    theta = torch.zeros(n, 2, 3, device=images.device)
    theta[:, 0, 0] = width * torch.where(u[:, 4] < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = height
    theta[:, 0, 2] = (2 * u[:, 2] - 1) * (1 - width)
    theta[:, 1, 2] = (2 * u[:, 3] - 1) * (1 - height)
    grid = F.affine_grid(theta, [n, 3, side, side], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def jitter(images: Tensor, generator: torch.Generator, strength: float = 0.2) -> Tensor:
    """Random brightness, contrast and saturation of each picture: (N, 3, H, W) in [0, 1] -> the same shape."""
    u = (torch.rand(len(images), 3, 1, 1, 1, generator=generator) * 2 - 1).to(images.device) * strength
    grey = images.mean(dim=1, keepdim=True)
    level = grey.mean(dim=(2, 3), keepdim=True)
    images = grey + (images - grey) * (1 + u[:, 0])
    return (level + (images - level) * (1 + u[:, 1]) + 0.5 * u[:, 2]).clamp(0, 1)


def normalise(images: Tensor) -> Tensor:
    """[0, 1] -> the tower's input, channel by channel."""
    mean = images.new_tensor(MEAN)[:, None, None]
    return (images - mean) / images.new_tensor(STD)[:, None, None]


def batch(
    data: TrainingData, step: int, size: int, side: int, seed: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The batch of a step: ((size, 3, side, side) float32 on `device`, (size,) trained-name indices)."""
    rng = np.random.default_rng((seed, step))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    weights = np.array([len(s.labels) * REPEATS.get(s.name, 1.0) for s in data.sets])
    counts = rng.multinomial(size, weights / weights.sum())
    pictures: list[Tensor] = []
    labels: list[NDArray[np.int64]] = []
    for side_of_set in sorted({s.images.shape[1] for s in data.sets}):
        group: list[NDArray[np.uint8]] = []
        for one, count in zip(data.sets, counts, strict=True):
            if one.images.shape[1] == side_of_set and count:
                rows = np.sort(rng.integers(len(one.labels), size=count))
                group.append(one.images[rows])
                labels.append(one.labels[rows])
        if group:
            raw = torch.from_numpy(np.concatenate(group)).to(device).permute(0, 3, 1, 2).float() / 255
            pictures.append(crop(raw, side, generator))
    chosen = np.concatenate(labels)
    chosen = np.where(rng.random(size) < KIND_PROBABILITY, data.kind_of[chosen], chosen)
    return normalise(jitter(torch.cat(pictures), generator)), torch.from_numpy(chosen).to(device)
