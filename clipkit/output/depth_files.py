"""Everything `depth` saves for a run: exact maps for programs, pictures for people, points for space."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from clipkit.depth.camera import points_of
from clipkit.errors import OutputError, UsageError
from clipkit.files import atomic_write
from clipkit.output.depth_view import Colours, preview, side_by_side
from clipkit.output.masks import Stems
from clipkit.output.pointcloud import write_ply
from clipkit.results import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clipkit.tasks.depth import Depth

Kind = Literal["npy", "png", "preview", "side", "cloud"]
KINDS: tuple[Kind, ...] = ("npy", "png", "preview", "side", "cloud")
MOST_POINTS = 1_000_000
_MOST_MILLIMETRES = 65535


class DepthFiles:
    """Writes a run's files into one folder.

    | kind | file |
    |---|---|
    | npy | `depth/NAME.npy`, float32 metres |
    | png | `depth/NAME.png`, 16-bit millimetres, 0 where there is none |
    | preview | `preview/NAME.png`, colours and a scale bar |
    | side | `side/NAME.png`, the picture beside its preview |
    | cloud | `clouds/NAME.ply`, coloured points |
    """

    def __init__(
        self,
        folder: Path,
        kinds: Sequence[str] = ("npy", "preview"),
        *,
        colours: Colours = "turbo",
        span: tuple[float, float] | None = None,
        points: int = MOST_POINTS,
    ) -> None:
        """Settle what is written.

        Args:
            folder: made where it is not there.
            kinds: of `KINDS`.
            colours: the previews' colour map.
            span: nearest and farthest depth of the previews' colours, metres; None fits each picture.
            points: a cloud has at most this many.

        Raises:
            UsageError: an unknown kind, or a span that is none.
            OutputError: the folder's name is taken by a file.
        """
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise UsageError(f"cannot save {unknown[0]!r}; known: {', '.join(KINDS)}")
        if span is not None and not 0 <= span[0] < span[1]:
            raise UsageError(f"--span {span[0]:g} {span[1]:g}: the first distance must be the smaller one")
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder} is a file; name a folder to save into")
        self.folder = folder
        self.kinds = frozenset(kinds)
        self.colours = colours
        self.span = span
        self.points = points
        self._stems = Stems()

    def saved(self, outcomes: Iterator[Depth | Failure]) -> Iterator[Depth | Failure]:
        """Pass outcomes through, each with its files written."""
        for outcome in outcomes:
            yield outcome if isinstance(outcome, Failure) else self.save(outcome)

    def save(self, result: Depth) -> Depth:
        """Write one picture's files; the result then names its map (the `.npy` where both are written).

        Raises:
            OutputError: a file cannot be written.
        """
        stem = self._stems.stem(result.path)
        named = None
        if "png" in self.kinds:
            named = self.folder / "depth" / f"{stem}.png"
            write_millimetres(named, result.map)
        if "npy" in self.kinds:
            named = self.folder / "depth" / f"{stem}.npy"
            write_metres(named, result.map)
        if self.kinds & {"preview", "side"}:
            drawn = preview(result.map, metric=result.metric, colours=self.colours, span=self.span)
            if "preview" in self.kinds:
                _write_png(self.folder / "preview" / f"{stem}.png", drawn)
            if "side" in self.kinds:
                _write_png(self.folder / "side" / f"{stem}.png", side_by_side(result.image, drawn))
        if "cloud" in self.kinds:
            step = max(int(np.ceil((result.map.size / self.points) ** 0.5)), 1)
            points = points_of(result.map, result.fov, step).reshape(-1, 3)
            colours = result.image[::step, ::step].reshape(-1, 3)
            write_ply(self.folder / "clouds" / f"{stem}.ply", points, colours)
        return replace(result, depth=None if named is None else str(named))


def write_metres(path: Path, depth: NDArray[np.float32]) -> None:
    """Write `(H, W)` metres as a float32 `.npy`.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_write(path) as stream:
        np.save(stream, np.ascontiguousarray(depth, np.float32), allow_pickle=False)


def write_millimetres(path: Path, depth: NDArray[np.float32]) -> None:
    """Write `(H, W)` metres as a 16-bit grey PNG of millimetres; what 16 bits cannot say (over 65.535 m) becomes 0, none.

    Raises:
        OutputError: the file cannot be written.
    """
    millimetres = np.rint(depth.astype(np.float64) * 1000)
    known = np.isfinite(millimetres) & (millimetres >= 0) & (millimetres <= _MOST_MILLIMETRES)
    _write_png(path, Image.fromarray(np.where(known, millimetres, 0).astype(np.uint16)))


def _write_png(path: Path, image: Image.Image) -> None:
    with atomic_write(path) as stream:
        image.save(stream, format="PNG")
