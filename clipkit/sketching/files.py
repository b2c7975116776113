"""The files of a sketch: SVG, PNG, JSON and what else is wished for, each written whole or not at all."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipkit.errors import OutputError
from clipkit.files import atomic_write
from clipkit.results import Failure
from clipkit.sketching.paint import paint
from clipkit.sketching.pictures import gif_bytes, png_bytes, sheet
from clipkit.sketching.svg import animated_svg, svg

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clipkit.sketching.strokes import Strokes
    from clipkit.tasks.sketch import Sketch

GIF_SIZE = 448
SHEET_SIZE = 224


class SketchFiles:
    """A folder of sketches, `NAME.sketch.svg` and so on; a name that is taken within the run gets a number."""

    def __init__(
        self, folder: Path, *, size: int = 896, animate: bool = False, sheets: bool = False, seconds: float = 6.0
    ) -> None:
        """Check that the folder can be written, before any work is done.

        Args:
            folder: where files go; it is made.
            size: side of the PNG.
            animate: write the animated SVG and the GIF too.
            sheets: write a sheet of all seeds too.
            seconds: how long the animated SVG draws.

        Raises:
            OutputError: it cannot be made or written.
        """
        self.folder, self.size, self.animate, self.sheets, self.seconds = folder, size, animate, sheets, seconds
        self._stems: dict[str, str] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {folder}: {error.strerror or error}") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"cannot write into {folder}: no permission; choose another with --save-to DIR")

    def place(self, name: str, suffix: str) -> Path:
        """The file of an input with a suffix, as `svg`."""
        if name not in self._stems:
            stem = "stdin" if name in {"-", ""} else Path(name).stem or "sketch"
            free, number = stem, 1
            while free in self._stems.values():
                number += 1
                free = f"{stem}-{number}"
            self._stems[name] = free
        return self.folder / f"{self._stems[name]}.sketch.{suffix}"

    def saved(self, outcomes: Iterator[Sketch | Failure]) -> Iterator[Sketch | Failure]:
        """The same outcomes, their files written and named."""
        for outcome in outcomes:
            yield outcome if isinstance(outcome, Failure) else self.save(outcome)

    def save(self, result: Sketch) -> Sketch:
        """Write the files of one sketch.

        Raises:
            OutputError: a file cannot be written.
        """
        drawing = result.drawing
        strokes = drawing.strokes
        files: dict[str, bytes] = {"svg": svg(strokes).encode(), "png": png_bytes(paint(strokes, self.size))}
        if self.animate and result.order:
            files["animated.svg"] = animated_svg(strokes, result.order, self.seconds).encode()
            files["gif"] = gif_bytes(strokes, result.order, GIF_SIZE)
        if self.sheets:
            captions = [
                (f"seed {result.seed - drawing.seed + i}: {loss:.4f}", each)
                for i, (each, loss) in enumerate(drawing.candidates)
            ]
            files["seeds.png"] = png_bytes(sheet(drawing.photo, captions, SHEET_SIZE, best=drawing.seed))
        named = replace(result, svg=str(self.place(result.path, "svg")), png=str(self.place(result.path, "png")))
        files["json"] = (json.dumps(replay(named), indent=1) + "\n").encode()
        for suffix, data in files.items():
            _write(self.place(result.path, suffix), data)
        return named

    def preview(self, name: str, strokes: Strokes) -> None:
        """Write the picture so far as `NAME.sketch.preview.png`."""
        _write(self.place(name, "preview.png"), png_bytes(paint(strokes, GIF_SIZE, supersample=1)))

    def drop_preview(self, name: str) -> None:
        """Remove it."""
        self.place(name, "preview.png").unlink(missing_ok=True)


def replay(result: Sketch) -> dict[str, Any]:
    """The record with everything needed to draw the sketch again: strokes, drawing order, losses."""
    drawing = result.drawing
    every = max(1, len(drawing.history) // 200)
    return result.record() | {
        "canvas": [224, 224],
        "drawing": drawing.strokes.records(),
        "order": list(result.order),
        "order_losses": [round(loss, 6) for loss in result.order_losses],
        "levels": [{"strokes": count, "loss": round(loss, 6)} for count, loss in drawing.levels],
        "history": {"every": every, "loss": [round(loss, 6) for loss in drawing.history[::every]]},
    }


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path) as stream:
        stream.write(data)
