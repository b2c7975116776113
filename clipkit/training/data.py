"""Packed photographs to augmented batches; the batch of a step depends on the seed and the step alone."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from clipkit.training.augment import crop, jitter, normalise
from clipkit.training.captions import SEPARATOR
from clipkit.training.teacher import KEPT, teacher_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from clipkit.training.names import Names

REPEATS = {
    "balls": 1.5,
    "caltech101": 1.5,
    "cat-breeds": 2.0,
    "cats-dogs": 2.0,
    "cifar10": 0.2,
    "cifar100": 0.2,
    "clothing": 0.5,
    "five-categories": 2.0,
    "flickr8k-part": 2.0,
    "groceries": 0.4,
    "hand-tools": 4.0,
    "helmets": 0.3,
    "hot-dogs": 0.6,
    "imagenet-samples": 4.0,
    "imagenet-val": 4.0,
    "imagenette": 0.5,
    "imagewoof": 0.3,
    "instruments": 0.6,
    "mini-imagenet": 0.5,
    "nips-2017": 2.0,
    "pacs": 1.2,
    "pandas": 0.5,
    "pets": 0.4,
    "popular-animals": 2.0,
    "puzzle-tiles": 0.35,
    "rooms": 0.3,
    "seven-animals": 4.0,
    "sketchy": 2.5,
    "street-tiles": 0.3,
    "ten-animals": 2.0,
    "tiny-imagenet": 0.3,
    "toasters": 0.3,
    "tools": 0.4,
    "traffic-lights": 0.4,
    "trash": 0.4,
    "twenty-kinds": 0.5,
    "voc-part": 2.0,
    "wild-animals": 0.4,
}
"""How often a picture of a set is drawn, against one of any other set."""

MOST_NAMES = 6
"""Names of one picture that are learned, the first of them."""
KIND_PROBABILITY = 0.25
"""How often the label of a picture is its kind (dog) in place of its name (beagle)."""


@dataclass(frozen=True)
class PackedSet:
    """One set of N pictures.

    Attributes:
        name: of the set.
        images: (N, S, S, 3), mapped not read.
        labels: (N, M), indices into the trained names of what a picture shows; -1 where there are fewer than M.
        classes: (N, KEPT), the teacher's classes.
        shares: (N, KEPT), how likely it holds each; all 0 for pictures it was not shown.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: NDArray[np.int16]
    shares: NDArray[np.float16]


@dataclass(frozen=True)
class Batch:
    """What a step learns from: N pictures and what they show.

    Attributes:
        images: (N, 3, side, side) float32, normalised.
        labels: (N,), the trained name drawn for each picture, -1 for none.
        shown: (N, M), all that it is known to show, -1 where there are fewer than M.
        classes: (N, KEPT), the teacher's classes.
        shares: (N, KEPT) float32, their shares, all 0 without a teacher.
    """

    images: Tensor
    labels: Tensor
    shown: Tensor
    classes: Tensor
    shares: Tensor


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
    lookup = {name: names.index(name) for file in files for name in set(itertools.chain(*_labels(file)))}
    used = set(lookup.values())
    used |= {names.kinds[i] for i in used if i in names.kinds}
    vocabulary = np.array(sorted(used), dtype=np.int64)
    place = {int(index): i for i, index in enumerate(vocabulary)}
    kind_of = np.array([place[names.kinds.get(int(i), int(i))] for i in vocabulary], dtype=np.int64)
    index = {name: place[found] for name, found in lookup.items()}
    sets = tuple(_load_set(file, index) for file in files)
    counts = np.zeros(len(vocabulary), np.int64)
    for one in sets:
        counts += np.bincount(one.labels[one.labels >= 0], minlength=len(vocabulary))
    np.add.at(counts, kind_of, np.where(kind_of != np.arange(len(vocabulary)), counts, 0))
    return TrainingData(sets, vocabulary, kind_of, counts)


def _load_set(images: Path, index: dict[str, int]) -> PackedSet:
    names = _labels(images)
    labels = np.full((len(names), max(1, *map(len, names))), -1, dtype=np.int64)
    for row, one in zip(labels, names, strict=True):
        row[: len(one)] = [index[name] for name in one]
    soft = teacher_file(images)
    if soft.exists():
        with np.load(soft) as z:
            classes, shares = z["classes"], z["shares"]
    else:
        classes, shares = np.zeros((len(labels), KEPT), np.int16), np.zeros((len(labels), KEPT), np.float16)
    return PackedSet(images.name.split(".")[0], np.load(images, mmap_mode="r"), labels, classes, shares)


def _labels(images: Path) -> list[list[str]]:
    """What each picture shows: `dog|frisbee` is two names, an empty label none (only the teacher says what there is)."""
    labels: list[str] = json.loads(images.with_name(images.name.replace("images.npy", "labels.json")).read_text())
    return [[name for name in label.split(SEPARATOR) if name][:MOST_NAMES] for label in labels]


def draw_names(shown: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """One name of each picture, at random: (N, M), -1 where there are fewer than M -> (N,), -1 for none."""
    chances = np.where(shown >= 0, rng.random(shown.shape), -1.0)
    drawn: NDArray[np.int64] = shown[np.arange(len(shown)), chances.argmax(axis=1)]
    return drawn


def _stacked(rows: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Rows of different widths one below the other, -1 behind the shorter."""
    width = max(part.shape[1] for part in rows)
    return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=-1) for part in rows])


def batch(data: TrainingData, step: int, size: int, side: int, seed: int, device: torch.device) -> Batch:
    """The batch of a step: `size` pictures of `side` pixels, on `device`."""
    rng = np.random.default_rng((seed, step))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    weights = np.array([len(s.labels) * REPEATS.get(s.name, 1.0) for s in data.sets])
    counts = rng.multinomial(size, weights / weights.sum())
    pictures: list[Tensor] = []
    drawn: list[tuple[PackedSet, NDArray[np.int64]]] = []
    for side_of_set in sorted({s.images.shape[1] for s in data.sets}):
        group: list[NDArray[np.uint8]] = []
        for one, count in zip(data.sets, counts, strict=True):
            if one.images.shape[1] == side_of_set and count:
                rows = np.sort(rng.integers(len(one.labels), size=count))
                group.append(one.images[rows])
                drawn.append((one, rows))
        if group:
            raw = torch.from_numpy(np.concatenate(group)).to(device).permute(0, 3, 1, 2).float() / 255
            pictures.append(crop(raw, side, generator))
    shown = _stacked([one.labels[rows] for one, rows in drawn])
    chosen = draw_names(shown, rng)
    kind = (rng.random(size) < KIND_PROBABILITY) & (chosen >= 0)
    chosen = np.where(kind, data.kind_of[chosen], chosen)
    classes = np.concatenate([one.classes[rows] for one, rows in drawn]).astype(np.int64)
    shares = np.concatenate([one.shares[rows] for one, rows in drawn]).astype(np.float32)
    return Batch(
        normalise(jitter(torch.cat(pictures), generator)),
        *(torch.from_numpy(one).to(device) for one in (chosen, shown, classes, shares)),
    )
