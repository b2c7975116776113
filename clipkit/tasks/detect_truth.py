"""Reference boxes for `bench detect`: YOLO text files beside pictures, or one COCO annotation file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.errors import InputError, UsageError
from clipkit.prompts.labels import Label
from clipkit.tasks.bench_segment import PICTURES, read_classes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """The reference of one picture: `boxes` `(N, 4)` pixels, `classes` `(N,)` label indices, `crowd` `(N,)` groups."""

    boxes: NDArray[np.float64]
    classes: NDArray[np.intp]
    crowd: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Truth:
    """Pictures with reference boxes.

    `pictures[i]` goes with `sources[i]`: a YOLO file, or a list of COCO annotations. A picture may be missing (None).
    """

    labels: tuple[Label, ...]
    ids: tuple[int, ...]
    pictures: tuple[Path | None, ...]
    sources: tuple[Path | list[dict[str, Any]], ...]
    names: tuple[str, ...]

    def boxes(self, number: int, width: int, height: int) -> Boxes:
        """The reference boxes of picture `number`, which has this size.

        Raises:
            InputError: a line of its file is no YOLO box.
        """
        source = self.sources[number]
        index = {value: i for i, value in enumerate(self.ids)}
        if isinstance(source, list):
            kept = [a for a in source if a["category_id"] in index]
            rows = np.array([a["bbox"] for a in kept], np.float64).reshape(-1, 4)
            rows[:, 2:] += rows[:, :2]
            values = [int(a["category_id"]) for a in kept]
            crowd = [bool(a.get("iscrowd", 0)) for a in kept]
        else:
            table = _yolo(source)
            table = table[np.isin(table[:, 0], self.ids)]
            half = table[:, 3:5] / 2
            rows = np.concatenate([table[:, 1:3] - half, table[:, 1:3] + half], axis=1)
            rows *= np.array([width, height, width, height])
            values = table[:, 0].astype(int).tolist()
            crowd = [False] * len(values)
        return Boxes(rows, np.array([index[value] for value in values], np.intp), np.array(crowd, np.bool_))


def read_truth(images: Path, annotations: Path, classes: Path | None = None, only: str | None = None) -> Truth:
    """Pair pictures with their references.

    Args:
        images: a folder of pictures.
        annotations: a folder of YOLO files with the pictures' names, or a COCO annotation file (JSON).
        classes: lines `number: label|alias`; needed for YOLO files, and takes the place of COCO's own names.
        only: numbers to judge, as `1-90` or `1,3,5-7`; boxes of other classes are left out.

    Raises:
        UsageError: a folder or file that is not there or not of its kind, no classes, or nothing to judge.
    """
    if not images.is_dir():
        raise UsageError(f"{images} is not a folder of pictures")
    if annotations.is_dir():
        if classes is None:
            raise UsageError("YOLO files hold numbers only: name them with --classes FILE (lines `0: person`)")
        table = read_classes(classes, only)
        files = sorted(annotations.glob("*.txt"))
        pictures = {path.stem: path for path in sorted(images.iterdir()) if path.suffix.lower() in PICTURES}
        found = [pictures.get(file.stem) for file in files]
        if not any(found):
            raise UsageError(f"no .txt file in {annotations} has the name of a picture in {images}")
        return Truth(table.labels, table.ids, tuple(found), tuple(files), tuple(str(file) for file in files))
    return _coco(images, annotations, classes, only)


def _coco(images: Path, annotations: Path, classes: Path | None, only: str | None) -> Truth:
    try:
        data = json.loads(annotations.read_text(encoding="utf-8"))
        entries = [(int(i["id"]), str(i["file_name"])) for i in data["images"]]
        named = {int(c["id"]): str(c["name"]) for c in data["categories"]}
        boxes: dict[int, list[dict[str, Any]]] = {number: [] for number, _ in entries}
        for annotation in data["annotations"]:
            boxes[annotation["image_id"]].append(annotation)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"cannot read COCO annotations from {annotations}: {error}") from error
    if classes is not None:
        table = read_classes(classes, only)
        labels, ids = table.labels, table.ids
    else:
        labels = tuple(Label(name, (name,)) for name in named.values())
        ids = tuple(named)
    files = [images / name for _, name in entries]
    return Truth(
        labels,
        ids,
        tuple(file if file.is_file() else None for file in files),
        tuple(boxes[number] for number, _ in entries),
        tuple(name for _, name in entries),
    )


def _yolo(path: Path) -> NDArray[np.float64]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        parts = line.split()
        if not parts:
            continue
        try:
            values = [float(part) for part in parts[:5]]
        except ValueError:
            values = []
        if len(values) != 5 or not np.isfinite(values).all():
            raise InputError("bad_boxes", f"line {number} is not `class x y width height`: {line[:60]!r}")
        rows.append(values)
    return np.array(rows, np.float64).reshape(-1, 5)
