"""Everything `detect` saves for a run: which files, and where."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from PIL import Image

from clipkit.errors import OutputError, UsageError
from clipkit.files import atomic_write
from clipkit.output.box_overlay import write_box_overlay
from clipkit.output.boxes import CocoBoxWriter, write_labelme_boxes, write_yolo_boxes
from clipkit.output.exchange import write_yolo_names
from clipkit.output.folder_names import FolderNames
from clipkit.output.masks import Stems
from clipkit.results import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from clipkit.tasks.detect import Detections

Kind = Literal["overlay", "crops", "coco", "yolo", "labelme"]
KINDS: tuple[Kind, ...] = ("overlay", "crops", "coco", "yolo", "labelme")


class BoxFiles:
    """Writes a run's files into one folder. A context manager; what spans the run is written when it ends well.

    | kind | files |
    |---|---|
    | overlay | `overlays/NAME.png` |
    | crops | `crops/LABEL/NAME-NUMBER.png` |
    | coco | `coco_results.json` and `coco.json` for the run |
    | yolo | `yolo/labels/NAME.txt` and `yolo/data.yaml` |
    | labelme | `labelme/NAME.json` |
    """

    def __init__(self, folder: Path, labels: Sequence[str], kinds: Sequence[str] = ("overlay",)) -> None:
        """Settle what is written.

        Raises:
            UsageError: an unknown kind.
            OutputError: the folder's name is taken by a file.
        """
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise UsageError(f"cannot save {unknown[0]!r}; known: {', '.join(KINDS)}")
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder} is a file; name a folder to save into")
        self.folder = folder
        self.labels = tuple(labels)
        self.kinds = frozenset(kinds)
        self._stems = Stems()
        self._names = FolderNames(self.labels)
        self._coco: CocoBoxWriter | None = None

    def __enter__(self) -> Self:
        """Write what does not depend on the pictures."""
        if "yolo" in self.kinds:
            write_yolo_names(self.folder / "yolo" / "data.yaml", self.labels)
        if "coco" in self.kinds:
            self._coco = CocoBoxWriter(self.folder, self.labels)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the data set of the run; after an error it is dropped."""
        if self._coco is not None:
            if kind is None:
                self._coco.close()
            else:
                self._coco.discard()

    def saved(self, outcomes: Iterator[Detections | Failure]) -> Iterator[Detections | Failure]:
        """Pass outcomes through, each with its files written."""
        with self:
            for outcome in outcomes:
                if not isinstance(outcome, Failure):
                    self.save(outcome)
                yield outcome

    def save(self, result: Detections) -> None:
        """Write one picture's files.

        Raises:
            OutputError: a file cannot be written.
        """
        stem = self._stems.stem(result.path)
        height, width = result.image.shape[:2]
        boxes = result.detections
        if "overlay" in self.kinds:
            write_box_overlay(self.folder / "overlays" / f"{stem}.png", result.image, boxes, len(self.labels))
        if self._coco is not None:
            self._coco.add(result.path, width, height, boxes)
        if "yolo" in self.kinds:
            write_yolo_boxes(self.folder / "yolo" / "labels" / f"{stem}.txt", width, height, boxes)
        if "labelme" in self.kinds:
            path = self.folder / "labelme" / f"{stem}.json"
            picture = os.path.relpath(result.path, path.parent) if Path(result.path).exists() else result.path
            write_labelme_boxes(path, picture, width, height, boxes)
        if "crops" in self.kinds:
            for number, box in enumerate(boxes, 1):
                x0, y0 = (math.floor(x) for x in box.box[:2])
                x1, y1 = (math.ceil(x) for x in box.box[2:])
                crop = Image.fromarray(result.image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)])
                with atomic_write(self.folder / "crops" / self._names[box.label] / f"{stem}-{number}.png") as stream:
                    crop.save(stream, format="PNG")
