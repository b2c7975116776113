"""Everything `segment` saves for a run: which files, where, and the mask's name back into the record."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from clipkit.errors import OutputError, UsageError
from clipkit.output import exchange, masks
from clipkit.output.folder_names import FolderNames
from clipkit.output.overlay import write_overlay
from clipkit.results import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from clipkit.tasks.segment import Segmentation

Kind = Literal["mask", "overlay", "classes", "coco", "yolo", "labelme"]
KINDS: tuple[Kind, ...] = ("mask", "overlay", "classes", "coco", "yolo", "labelme")


class MaskFiles:
    """Writes a run's files into one folder. A context manager; what spans the run is written when it ends well.

    | kind | files |
    |---|---|
    | mask | `masks/NAME.png` (values, palette) and `labels.json` |
    | overlay | `overlays/NAME.png` |
    | classes | `classes/NAME/LABEL.png`, black and white |
    | coco | `coco.json` for the run |
    | yolo | `yolo/labels/NAME.txt` and `yolo/data.yaml` |
    | labelme | `labelme/NAME.json` |

    Cut-outs go to `cutouts/NAME.LABEL.png`.
    """

    def __init__(
        self,
        folder: Path,
        labels: tuple[str, ...],
        kinds: Sequence[str] = ("mask", "overlay"),
        *,
        cutouts: Sequence[str] = (),
        tolerance: float = 1.0,
    ) -> None:
        """Settle what is written.

        Args:
            folder: made where it is not there.
            labels: the labels of the masks.
            kinds: of `KINDS`.
            cutouts: labels to cut out.
            tolerance: how far polygons may leave the mask's outline, pixels; 0 for exact ones.

        Raises:
            UsageError: an unknown kind, or a cut-out that is not a label.
            OutputError: the folder's name is taken by a file.
        """
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise UsageError(f"cannot save {unknown[0]!r}; known: {', '.join(KINDS)}")
        if missing := [label for label in cutouts if label not in labels]:
            raise UsageError(f"--cutout {missing[0]!r} is not one of the labels: {', '.join(labels[:20])}")
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder} is a file; name a folder to save into")
        self.folder = folder
        self.labels = labels
        self.kinds = frozenset(kinds)
        self.cutouts = frozenset(cutouts)
        self.tolerance = tolerance
        self._stems = masks.Stems()
        self._names = FolderNames(labels)
        self._coco: exchange.CocoWriter | None = None

    def __enter__(self) -> Self:
        """Write what does not depend on the images."""
        if "mask" in self.kinds:
            masks.write_labels(self.folder / "labels.json", self.labels)
        if "yolo" in self.kinds:
            exchange.write_yolo_names(self.folder / "yolo" / "data.yaml", self.labels)
        if "coco" in self.kinds:
            self._coco = exchange.CocoWriter(self.folder / "coco.json", self.labels)
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

    def saved(self, outcomes: Iterator[Segmentation | Failure]) -> Iterator[Segmentation | Failure]:
        """Pass outcomes through, each with its files written."""
        with self:
            for outcome in outcomes:
                yield outcome if isinstance(outcome, Failure) else self.save(outcome)

    def save(self, result: Segmentation) -> Segmentation:
        """Write one image's files; the result then names its mask.

        Raises:
            OutputError: a file cannot be written.
        """
        stem = self._stems.stem(result.path)
        index, regions = result.index, result.segments
        mask = None
        if "mask" in self.kinds:
            path = self.folder / "masks" / f"{stem}.png"
            masks.write_index(path, index, len(self.labels) + 1)
            mask = str(path)
        if "overlay" in self.kinds:
            write_overlay(self.folder / "overlays" / f"{stem}.png", result.image, index, regions, len(self.labels))
        if self._coco is not None:
            self._coco.add(result.path, index, regions)
        if "yolo" in self.kinds:
            path = self.folder / "yolo" / "labels" / f"{stem}.txt"
            exchange.write_yolo(path, index, regions, tolerance=self.tolerance)
        if "labelme" in self.kinds:
            path = self.folder / "labelme" / f"{stem}.json"
            picture = os.path.relpath(result.path, path.parent) if Path(result.path).exists() else result.path
            exchange.write_labelme(path, picture, index, regions, tolerance=self.tolerance)
        for region in regions:
            name = self._names[region.label]
            if "classes" in self.kinds:
                masks.write_binary(self.folder / "classes" / stem / f"{name}.png", index == region.value)
            if region.label in self.cutouts:
                path = self.folder / "cutouts" / f"{stem}.{name}.png"
                masks.write_cutout(path, result.image, index == region.value)
        return replace(result, mask=mask)
