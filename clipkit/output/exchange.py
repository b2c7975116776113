"""Masks as annotations other tools open: COCO (run-length codes), YOLO (polygons), LabelMe (polygons)."""

from __future__ import annotations

import json
import tempfile
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np

from clipkit.files import atomic_write
from clipkit.output import rle
from clipkit.output.polygons import polygons

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

LABELME_VERSION = "5.5.0"


class Region(Protocol):
    """One class of one image, as `segment` yields it."""

    @property
    def label(self) -> str: ...  # noqa: D102

    @property
    def value(self) -> int: ...  # noqa: D102

    @property
    def score(self) -> float: ...  # noqa: D102

    @property
    def box(self) -> tuple[int, int, int, int]: ...  # noqa: D102


class CocoWriter:
    """One COCO data set for a whole run: `images`, `annotations` with run-length codes, `categories`.

    Records wait in temporary files, so that memory stays flat; the data set appears when the writer is closed.
    """

    def __init__(self, path: Path, labels: Sequence[str]) -> None:
        """Start a data set.

        Args:
            path: the JSON file to write at the end.
            labels: categories; the ids are mask values, 1 the first.
        """
        self._path = path
        self._labels = tuple(labels)
        self._images: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  closed in close()
        self._annotations: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self._counts = {"images": 0, "annotations": 0}

    def add(self, file_name: str, index: NDArray[Any], regions: Sequence[Region]) -> None:
        """Add one image; an image without regions is listed too."""
        height, width = index.shape
        self._counts["images"] += 1
        image_id = self._counts["images"]
        self._put(self._images, image_id, {"id": image_id, "file_name": file_name, "height": height, "width": width})
        for region in regions:
            mask = index == region.value
            x0, y0, x1, y1 = region.box
            self._counts["annotations"] += 1
            number = self._counts["annotations"]
            annotation = {
                "id": number,
                "image_id": image_id,
                "category_id": region.value,
                "segmentation": rle.encode(mask),
                "area": int(mask.sum()),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": 0,
                "score": round(region.score, 6),
            }
            self._put(self._annotations, number, annotation)

    def close(self) -> None:
        """Write the data set.

        Raises:
            OutputError: the file cannot be written.
        """
        categories = [{"id": value, "name": label} for value, label in enumerate(self._labels, 1)]
        with (
            self._images as images,
            self._annotations as annotations,
            atomic_write(self._path, "w", encoding="utf-8") as out,
        ):
            for part, name in ((images, "images"), (annotations, "annotations")):
                part.seek(0)
                out.write("{" if name == "images" else "],\n")
                out.write(f'"{name}": [\n')
                while block := part.read(1 << 20):
                    out.write(block)
            out.write(f'],\n"categories": {json.dumps(categories, ensure_ascii=False)}}}\n')

    def discard(self) -> None:
        """Drop what was collected."""
        self._images.close()
        self._annotations.close()

    @staticmethod
    def _put(stream: IO[str], number: int, record: dict[str, Any]) -> None:
        stream.write(("" if number == 1 else ",\n") + json.dumps(record, ensure_ascii=False))


def write_yolo(path: Path, index: NDArray[Any], regions: Sequence[Region], *, tolerance: float) -> None:
    """Write a YOLO segmentation file: a line a part, `class x y x y ...`, classes from 0, coordinates in 0..1.

    An image without regions gives an empty file, which is how YOLO marks it.
    """
    height, width = index.shape
    lines = []
    for region in regions:
        for outline in polygons(index == region.value, tolerance):
            points = " ".join(f"{value:.8g}" for value in (outline / (width, height)).ravel())
            lines.append(f"{region.value - 1} {points}\n")
    with atomic_write(path, "w", encoding="utf-8") as stream:
        stream.writelines(lines)


def write_yolo_names(path: Path, labels: Sequence[str]) -> None:
    """Write the data set file that names YOLO's classes."""
    with atomic_write(path, "w", encoding="utf-8") as stream:
        stream.write("names:\n")
        stream.writelines(f"  {i}: {json.dumps(label, ensure_ascii=False)}\n" for i, label in enumerate(labels))


def write_labelme(
    path: Path, image_path: str, index: NDArray[Any], regions: Sequence[Region], *, tolerance: float
) -> None:
    """Write a LabelMe file: a polygon for each part; the picture stays where it is and is not copied in."""
    shapes = [
        {
            "label": region.label,
            "points": np.round(outline, 3).tolist(),
            "group_id": region.value,
            "description": f"{region.score:.4f}",
            "shape_type": "polygon",
            "flags": {},
        }
        for region in regions
        for outline in polygons(index == region.value, tolerance)
    ]
    record = {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": index.shape[0],
        "imageWidth": index.shape[1],
    }
    with atomic_write(path, "w", encoding="utf-8") as stream:
        json.dump(record, stream, ensure_ascii=False)
        stream.write("\n")
