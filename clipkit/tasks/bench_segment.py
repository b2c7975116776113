"""`bench segment`: pooled mIoU and pixel accuracy of `segment` on pictures with index masks."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from clipkit.dense.vocabulary import BACKGROUND
from clipkit.errors import InputError, UsageError
from clipkit.media.image import open_image
from clipkit.media.prefetch import prefetch
from clipkit.output.masks import read_index
from clipkit.prompts.labels import Label
from clipkit.results import Failure, header
from clipkit.tasks.segment import AHEAD, segment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clipkit.dense.segmenter import Segmenter
    from clipkit.tasks.segment import SegmentOptions

TASK = "bench segment"
IGNORE = 255
OTHERS = "*"
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class Classes:
    """What the numbers of the reference masks mean.

    `ids[i]` is the number of `labels[i]`. `background_ids` are the numbers that count as background; with `others`
    every number that is no class counts as background, without it such pixels are not judged. 255 is never judged.
    """

    ids: tuple[int, ...]
    labels: tuple[Label, ...]
    background: Label | None = None
    background_ids: tuple[int, ...] = ()
    others: bool = False

    def lookup(self) -> NDArray[np.int64]:
        """Reference number -> mask value of `segment` (0 background, i `labels[i - 1]`), -1 for not judged."""
        table = np.full(65536, 0 if self.others else -1, np.int64)
        table[list(self.background_ids)] = 0
        table[list(self.ids)] = np.arange(1, len(self.ids) + 1)
        if IGNORE not in self.ids:
            table[IGNORE] = -1
        return table


def read_classes(path: Path, only: str | None = None) -> Classes:
    """Read a class table: lines `number: label|alias|...`; all other lines (comments, YAML keys) are passed over.

    A label `background` gives the background's texts; the number `*` stands for every number not listed. `labels.json`
    of `segment` and YAML tables of `number: name` both read as they are.

    Args:
        path: the file.
        only: numbers to keep, as `1-90` or `1,3,5-7`; the others are not judged, or background where `*` says so.

    Raises:
        UsageError: the file cannot be read, lists no class, or a number twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the classes file {path}: {error}") from error
    kept = _numbers(only)
    ids: list[int] = []
    labels: list[Label] = []
    background: Label | None = None
    background_ids: list[int] = []
    others = False
    for line in lines:
        match = re.fullmatch(r"""\s*["']?(\d+|\*)["']?\s*[:\t]\s*["']?([^"']+?)["']?,?\s*""", line)
        if match is None:
            continue
        label = Label.parse(match[2])
        if match[1] == OTHERS or label.name.casefold() == BACKGROUND:
            background = background or label
            others = others or match[1] == OTHERS
            background_ids += [int(match[1])] if match[1] != OTHERS else []
        elif kept is None or int(match[1]) in kept:
            ids.append(int(match[1]))
            labels.append(label)
    if not ids:
        raise UsageError(f"{path} lists no classes; write lines like `1: person|man|woman`")
    if repeated := [number for number in ids if ids.count(number) > 1]:
        raise UsageError(f"{path} gives the number {repeated[0]} to two classes")
    return Classes(tuple(ids), tuple(labels), background, tuple(background_ids), others)


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Intersection over union and recall of one class; None where the class is in no mask and no answer."""

    label: str
    iou: float | None
    accuracy: float | None
    pixels: int

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        iou, accuracy = (None if value is None else round(value, 6) for value in (self.iou, self.accuracy))
        return {"label": self.label, "iou": iou, "accuracy": accuracy, "pixels": self.pixels}


@dataclass(frozen=True, slots=True)
class SegmentationScore:
    """What `bench segment` measures over `count` pictures, shares in [0, 1]; `per_second` counts pictures."""

    path: str
    model: str
    weights: str
    miou: float
    pixel_accuracy: float
    per_class: tuple[ClassScore, ...]
    count: int
    per_second: float

    columns: ClassVar[tuple[str, ...]] = ("path", "label", "pixels", "iou", "accuracy")

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        return header(TASK, self.path, self.model, self.weights) | {
            "miou": round(self.miou, 6),
            "pixel_accuracy": round(self.pixel_accuracy, 6),
            "per_class": [score.record() for score in self.per_class],
            "count": self.count,
            "per_second": round(self.per_second, 2),
        }

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """One row a class, then one over all."""
        for score in self.per_class:
            iou, accuracy = ("" if value is None else round(value, 4) for value in (score.iou, score.accuracy))
            yield (self.path, score.label, score.pixels, iou, accuracy)
        total = sum(score.pixels for score in self.per_class)
        yield (self.path, "all", total, round(self.miou, 4), round(self.pixel_accuracy, 4))


def pairs(images: Path, masks: Path) -> list[tuple[Path | None, Path]]:
    """Each mask (PNG) with the picture of the same name, None where there is none; sorted by name.

    Raises:
        UsageError: not folders, no masks, or no mask with a picture.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder")
    pictures = {path.stem: path for path in sorted(images.iterdir()) if path.suffix.lower() in PICTURES}
    found = [(pictures.get(path.stem), path) for path in sorted(masks.glob("*.png"))]
    if not any(picture for picture, _ in found):
        raise UsageError(f"no PNG mask in {masks} has the name of a picture in {images}")
    return found


def run(
    paired: Sequence[tuple[Path | None, Path]], classes: Classes, options: SegmentOptions, segmenter: Segmenter
) -> Iterator[SegmentationScore | Failure]:
    """A failure for each pair that cannot be used, then the score over all others.

    Args:
        paired: pictures and masks, from `pairs`.
        classes: the numbers of the masks.
        options: with the vocabulary of the same classes.
        segmenter: who answers.
    """
    lookup = classes.lookup()
    values = len(classes.labels) + 1
    confusion = np.zeros((values, values), np.int64)
    count = 0
    start = time.perf_counter()

    def read(pair: tuple[Path | None, Path]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        picture, mask = pair
        if picture is None:
            raise InputError("no_image", "no picture has this mask's name")
        image = np.asarray(open_image(picture))
        truth = lookup[read_index(mask)]
        if truth.shape != image.shape[:2]:
            sizes = f"{truth.shape[1]}x{truth.shape[0]}, its picture {image.shape[1]}x{image.shape[0]}"
            raise InputError("size_mismatch", f"the mask is {sizes}")
        return image, truth

    for (_, mask), outcome in prefetch(paired, read, ahead=AHEAD):
        if isinstance(outcome, InputError):
            yield Failure(str(mask), outcome.kind, str(outcome)).within(TASK, segmenter.id, segmenter.weights_hash)
            continue
        image, truth = outcome
        answer = segment(image, options, segmenter).index
        judged = truth >= 0
        pooled = truth[judged] * values + answer[judged]
        confusion += np.bincount(pooled, minlength=values * values).reshape(values, values)
        count += 1
    if count:
        seconds = time.perf_counter() - start
        names = [BACKGROUND, *(label.name for label in classes.labels)]
        scores = class_scores(confusion, names, background=classes.background is not None)
        yield SegmentationScore(
            path=str(paired[0][1].parent),
            model=segmenter.id,
            weights=segmenter.weights_hash,
            miou=mean_iou(scores),
            pixel_accuracy=float(confusion.trace() / max(confusion.sum(), 1)),
            per_class=scores,
            count=count,
            per_second=count / seconds,
        )


def class_scores(confusion: NDArray[np.int64], names: Sequence[str], *, background: bool) -> tuple[ClassScore, ...]:
    """Each class's score from pooled counts.

    Args:
        confusion: pixels by reference (rows) and answer (columns), value 0 the background.
        names: the values' names.
        background: whether the background is a class that counts.
    """
    shared = np.diag(confusion)
    truth, answer = confusion.sum(axis=1), confusion.sum(axis=0)
    union = truth + answer - shared
    return tuple(
        ClassScore(
            name,
            float(shared[value] / union[value]) if union[value] else None,
            float(shared[value] / truth[value]) if truth[value] else None,
            int(truth[value]),
        )
        for value, name in enumerate(names)
        if value or background
    )


def mean_iou(scores: Sequence[ClassScore]) -> float:
    """The mean over classes, as mmsegmentation has it: a class in no mask counts (with 0) once an answer names it."""
    known = [score.iou for score in scores if score.iou is not None]
    return sum(known) / len(known) if known else float("nan")


def _numbers(text: str | None) -> frozenset[int] | None:
    if text is None:
        return None
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if match is None:
            raise UsageError(f"cannot read {part!r} as numbers; write 1-90 or 1,3,5-7")
        numbers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return frozenset(numbers)
