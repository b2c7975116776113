"""Boxes as annotations other tools open: COCO results and data set, YOLO text, LabelMe rectangles."""

from __future__ import annotations

import json
import re
import tempfile
from typing import IO, TYPE_CHECKING, Any, Protocol

from clipkit.files import atomic_write
from clipkit.output.exchange import LABELME_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    Corners = tuple[float, float, float, float]


class Box(Protocol):
    """One labelled box, as `detect` yields it; `value` counts labels from 1."""

    @property
    def label(self) -> str: ...  # noqa: D102

    @property
    def value(self) -> int: ...  # noqa: D102

    @property
    def score(self) -> float: ...  # noqa: D102

    @property
    def box(self) -> Corners: ...  # noqa: D102


class CocoBoxWriter:
    """A run's boxes as `coco_results.json` (the list COCO's evaluation reads) and `coco.json` (a whole data set).

    Both use the same numbers: a picture whose name is a number, as COCO's own are, has that number, others are
    counted; categories count from 1 in the order of the labels. Records wait in temporary files, so that memory
    stays flat, and appear when the writer is closed.
    """

    def __init__(self, folder: Path, labels: Sequence[str]) -> None:
        """Start both files in `folder`."""
        self._folder = folder
        self._labels = tuple(labels)
        self._parts: dict[str, IO[str]] = {
            name: tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  closed in close() and discard()
            for name in ("images", "annotations", "results")
        }
        self._numbers: set[int] = set()
        self._last = 0
        self._count = 0

    def add(self, file_name: str, width: int, height: int, boxes: Sequence[Box]) -> None:
        """Add one picture; one without boxes is listed in the data set too."""
        image_id = self._number(file_name)
        self._put("images", {"id": image_id, "file_name": file_name, "height": height, "width": width})
        for box in boxes:
            x0, y0, x1, y1 = box.box
            corner = [round(x, 2) for x in (x0, y0, x1 - x0, y1 - y0)]
            result = {"image_id": image_id, "category_id": box.value, "bbox": corner, "score": round(box.score, 6)}
            self._count += 1
            self._put("results", result)
            self._put(
                "annotations", {"id": self._count, **result, "area": round(corner[2] * corner[3], 2), "iscrowd": 0}
            )

    def close(self) -> None:
        """Write both files.

        Raises:
            OutputError: a file cannot be written.
        """
        categories = [{"id": value, "name": label} for value, label in enumerate(self._labels, 1)]
        with atomic_write(self._folder / "coco_results.json", "w", encoding="utf-8") as out:
            self._copy("results", out, "[\n", "]\n")
        with atomic_write(self._folder / "coco.json", "w", encoding="utf-8") as out:
            self._copy("images", out, '{"images": [\n', "],\n")
            self._copy("annotations", out, '"annotations": [\n', "],\n")
            out.write(f'"categories": {json.dumps(categories, ensure_ascii=False)}}}\n')
        self.discard()

    def discard(self) -> None:
        """Drop what was collected."""
        for part in self._parts.values():
            part.close()

    def _number(self, file_name: str) -> int:
        stem = re.split(r"[/\\]", file_name)[-1].rpartition(".")[0]
        if re.fullmatch(r"[0-9]{1,15}", stem) and int(stem) not in self._numbers:
            number = int(stem)
        else:
            while self._last + 1 in self._numbers:
                self._last += 1
            number = self._last + 1
        self._numbers.add(number)
        return number

    def _put(self, name: str, record: dict[str, Any]) -> None:
        part = self._parts[name]
        part.write((",\n" if part.tell() else "") + json.dumps(record, ensure_ascii=False))

    def _copy(self, name: str, out: IO[str], before: str, after: str) -> None:
        part = self._parts[name]
        part.seek(0)
        out.write(before)
        while block := part.read(1 << 20):
            out.write(block)
        out.write(after)


def write_yolo_boxes(path: Path, width: int, height: int, boxes: Sequence[Box]) -> None:
    """Write a YOLO file: a line a box, `class x y width height`, centre and sides in 0..1, classes from 0.

    A picture without boxes gives an empty file, which is how YOLO marks it.
    """
    with atomic_write(path, "w", encoding="utf-8") as stream:
        for box in boxes:
            x0, y0, x1, y1 = box.box
            row = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
            stream.write(f"{box.value - 1} {' '.join(f'{x:.8g}' for x in row)}\n")


def write_labelme_boxes(path: Path, image_path: str, width: int, height: int, boxes: Sequence[Box]) -> None:
    """Write a LabelMe file: a rectangle a box; the picture stays where it is and is not copied in."""
    shapes: list[dict[str, Any]] = [
        {
            "label": box.label,
            "points": [[round(x, 2) for x in box.box[:2]], [round(x, 2) for x in box.box[2:]]],
            "group_id": None,
            "description": f"{box.score:.4f}",
            "shape_type": "rectangle",
            "flags": {},
        }
        for box in boxes
    ]
    record: dict[str, Any] = {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    with atomic_write(path, "w", encoding="utf-8") as stream:
        json.dump(record, stream, ensure_ascii=False)
        stream.write("\n")
