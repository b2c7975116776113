"""Measured depth from files: integer pictures in a unit of their own, arrays in metres; and which belongs to which photo."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clipkit.errors import InputError, UsageError
from clipkit.media.paths import IMAGE_EXTENSIONS, Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

INTEGERS = frozenset({".png", ".pgm", ".tif", ".tiff"})
SUFFIXES = INTEGERS | {".npy"}
PHOTO_FOLDERS = ("rgb", "color", "image", "images")
DEPTH_FOLDER = "depth"


@dataclass(frozen=True, slots=True)
class Pair:
    """A photograph and the file of its measured depth."""

    photo: Source
    depth: Path


def read_depth(path: Path, scale: float = 1000.0) -> NDArray[np.float32]:
    """A measured map in metres, `(H, W)`; holes are 0.

    Args:
        path: a one-channel integer picture (PNG, PGM, TIFF) or a `.npy` of metres.
        scale: integer values for one metre: 1000 for millimetres, 5000 for TUM, 256 for KITTI.

    Raises:
        InputError: the file cannot be read or holds no map.
    """
    try:
        values = np.load(path, allow_pickle=False) if path.suffix.lower() == ".npy" else _integers(path)
    except FileNotFoundError as error:
        raise InputError("not_found", f"its measured depth {path} does not exist") from error
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise InputError("corrupt", f"its measured depth {path} cannot be read: {error}") from error
    if values.ndim != 2 or not values.size or values.dtype.kind not in "uif":
        raise InputError("not_depth", f"{path} is no depth map: expected one number a pixel, found {values.shape}")
    metres = values.astype(np.float32) / np.float32(scale) if values.dtype.kind in "ui" else values.astype(np.float32)
    return np.where(np.isfinite(metres), metres, np.float32(0))


def find_pairs(path: Path) -> Iterator[Pair]:
    """Photographs with measured depth.

    A CSV with the columns `path` and `depth` (relative to the CSV), or a folder, searched with its subfolders:
    `NAME.jpg` beside `NAME_depth.png`; `rgb_NAME.jpg` beside `sync_depth_NAME.png` (NYU as it is commonly unpacked); or
    a photograph in a folder `rgb`, `color`, `image` or `images` and a map of the same name in the folder `depth` next
    to that folder. Maps are `.png`, `.pgm`, `.tif` or `.npy`.

    Raises:
        UsageError: nothing is there, or no photograph has a map.
    """
    if path.is_dir():
        found = [Pair(Source(str(photo), photo), depth) for photo in _photos(path) if (depth := depth_of(photo))]
    elif path.is_file():
        found = list(_from_csv(path))
    else:
        raise UsageError(f"no such folder or CSV file: {path}")
    if not found:
        raise UsageError(
            f"{path} has no photographs with measured depth; expected NAME.jpg with NAME_depth.png, "
            "rgb_NAME.jpg with sync_depth_NAME.png, or folders rgb/ and depth/"
        )
    return iter(found)


def depth_of(photo: Path) -> Path | None:
    """The file of a photograph's measured depth; None where there is none."""
    bases = [photo.with_name(f"{photo.stem}_depth")]
    if photo.stem.startswith("rgb_"):
        bases.append(photo.with_name(f"sync_depth_{photo.stem.removeprefix('rgb_')}"))
    if photo.stem.endswith("_color"):
        bases.append(photo.with_name(f"{photo.stem.removesuffix('_color')}_depth"))
    if photo.parent.name in PHOTO_FOLDERS:
        bases.append(photo.parent.with_name(DEPTH_FOLDER) / photo.stem)
    candidates = (base.with_name(base.name + suffix) for base in bases for suffix in sorted(SUFFIXES))
    return next((file for file in candidates if file.is_file()), None)


def _photos(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in IMAGE_EXTENSIONS
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def _from_csv(path: Path) -> Iterator[Pair]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            if not {"path", "depth"} <= set(rows.fieldnames or ()):
                raise UsageError(f"{path}: expected the columns `path` and `depth`, found {rows.fieldnames}")
            for row in rows:
                photo = path.parent / (row["path"] or "")
                yield Pair(Source(str(photo), photo), path.parent / (row["depth"] or ""))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read {path} as CSV: {error}") from error


def _integers(path: Path) -> NDArray[np.int64]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode not in {"I;16", "I;16B", "I;16L", "I", "L"}:
                raise ValueError(f"it has the mode {image.mode}, not one integer a pixel")
            return np.asarray(image).astype(np.int64)
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
