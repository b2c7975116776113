"""Masks to files: the index PNG with its palette, `labels.json`, one mask a class, cut-out objects."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from clipkit.errors import InputError
from clipkit.files import atomic_write
from clipkit.output.folder_names import folder_name
from clipkit.output.palette import palette

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Index = NDArray[np.uint8] | NDArray[np.uint16]

PALETTE_SIZE = 256


class Stems:
    """File names without extension for inputs, each used once: `cat`, `cat-2` for a second cat from another folder."""

    def __init__(self) -> None:
        """Nothing is taken yet."""
        self._seen: Counter[str] = Counter()
        self._taken: set[str] = set()

    def stem(self, path: str) -> str:
        """The next free name for this input."""
        name = re.split(r"[/\\]", path)[-1]
        base = "stdin" if path == "-" else folder_name(name.rpartition(".")[0] or name)
        while True:
            self._seen[base.casefold()] += 1
            times = self._seen[base.casefold()]
            stem = base if times == 1 else f"{base}-{times}"
            if stem.casefold() not in self._taken:
                self._taken.add(stem.casefold())
                return stem


def write_index(path: Path, index: Index, count: int) -> None:
    """Write a mask as PNG: 8 bits with the palette in it, 16 bits grey where there are more than 256 values.

    Args:
        path: the file.
        index: `(H, W)` mask values.
        count: how many values there are, the background among them.

    Raises:
        OutputError: the file cannot be written.
    """
    image = Image.fromarray(index)
    if index.dtype == np.uint8:
        image = image.convert("P") if image.mode != "L" else _indexed(image, count)
    with atomic_write(path) as stream:
        image.save(stream, format="PNG", optimize=False)


def read_index(path: Path) -> Index:
    """Read a mask of `write_index` (or any one-channel PNG) back: `(H, W)` values, palettes not applied.

    Raises:
        InputError: the file cannot be read or has colours instead of values.
    """
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode not in {"L", "P", "I", "I;16", "1"}:
                raise InputError("not_a_mask", f"a mask holds one value a pixel, this picture is {image.mode}")
            values = np.asarray(image)
    except FileNotFoundError as error:
        raise InputError("not_found", "no such mask") from error
    except OSError as error:
        raise InputError("unreadable", f"the mask cannot be read: {error}") from error
    return values.astype(np.uint8) if values.dtype == np.bool_ else values.astype(np.uint16, copy=False)


def write_labels(path: Path, labels: tuple[str, ...]) -> None:
    """Write `labels.json`: mask value -> label, 0 the background."""
    table = {"0": "background"} | {str(value): label for value, label in enumerate(labels, 1)}
    with atomic_write(path, "w", encoding="utf-8") as stream:
        json.dump(table, stream, ensure_ascii=False, indent=2)
        stream.write("\n")


def write_binary(path: Path, mask: NDArray[np.bool_]) -> None:
    """Write one class as a black and white PNG (1 bit)."""
    with atomic_write(path) as stream:
        Image.fromarray(mask).save(stream, format="PNG")


def write_cutout(path: Path, image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    """Write the pixels under a mask with everything else transparent, cropped to the mask.

    Args:
        path: the file.
        image: `(H, W, 3)` RGB.
        mask: `(H, W)` bool with at least one pixel.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    crop = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    alpha = np.where(mask[crop], np.uint8(255), np.uint8(0))
    # Colour under full transparency would still travel with the file; black tells nothing and packs well.
    colour = image[crop] * (alpha[..., None] > 0)
    with atomic_write(path) as stream:
        Image.fromarray(np.dstack([colour, alpha])).save(stream, format="PNG")


def _indexed(image: Image.Image, count: int) -> Image.Image:
    indexed = Image.frombytes("P", image.size, image.tobytes())
    indexed.putpalette(palette(min(max(count, 1), PALETTE_SIZE)).tobytes())
    return indexed
