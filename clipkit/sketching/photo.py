"""A photograph made ready to be drawn: square, small, its transparency kept apart."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from clipkit.errors import InputError
from clipkit.media.image import DEFAULT_MAX_PIXELS, open_image
from clipkit.media.pixels import upright

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from clipkit.media.paths import Source

SMALLEST = 8  # pixels a side below which there is nothing to draw
FLAT = 2.0  # standard deviation, of 255, below which a picture is blank


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A square photograph.

    Attributes:
        rgb: (S, S, 3) float32 in [0, 1]; the shorter side padded with white, transparency over white.
        alpha: (S, S) float32 in [0, 1] where the file has transparency, else None; padding is transparent.
        inside: (S, S) bool, False on the padding.
        original: width and height of the file's picture.
    """

    rgb: NDArray[np.float32]
    alpha: NDArray[np.float32] | None
    inside: NDArray[np.bool_]
    original: tuple[int, int]


def load_photo(source: Source, size: int, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Photo:
    """Read, check and square a picture.

    Raises:
        InputError: it cannot be read, is smaller than 8 pixels, has one colour only, or is fully transparent.
    """
    picture = open_image(source, max_pixels=max_pixels)
    if min(picture.size) < SMALLEST:
        raise InputError(
            "too_small", f"{picture.width} x {picture.height} pixels are too few to draw; give at least {SMALLEST}"
        )
    alpha = _alpha(source, picture.size)
    if alpha is not None and not np.asarray(alpha).any():
        raise InputError("transparent", "every pixel is transparent: there is nothing to draw")
    if float(np.asarray(picture.convert("L"), np.float32).std()) < FLAT:
        raise InputError("blank", "the picture has one colour only: there is nothing to draw")
    rgb, inside = squared(picture, size, 255)
    return Photo(
        rgb=rgb,
        alpha=None if alpha is None else squared(alpha, size, 0)[0],
        inside=inside,
        original=picture.size,
    )


def squared(picture: Image.Image, size: int, fill: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A picture scaled into the middle of a square: values in [0, 1] (S, S[, 3]), and where it is (S, S)."""
    scale = size / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    small = picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    left, top = (size - width) // 2, (size - height) // 2
    canvas = Image.new(picture.mode, (size, size), fill if picture.mode == "L" else (fill,) * 3)
    canvas.paste(small, (left, top))
    inside = np.zeros((size, size), np.bool_)
    inside[top : top + height, left : left + width] = True
    return np.asarray(canvas, np.float32) / 255.0, inside


def load_mask(path: Path, size: int, original: tuple[int, int]) -> NDArray[np.float32]:
    """A mask file as (S, S) in [0, 1], placed as the photograph is: its alpha where it has one that varies, else its grey.

    Raises:
        InputError: it cannot be read, or its shape is not the photograph's.
    """
    from clipkit.media.paths import Source

    source = Source(str(path), path)
    try:
        picture = open_image(source)
    except InputError as error:
        raise InputError(error.kind, f"the mask {path}: {error}") from error
    ratio, wanted = picture.width / picture.height, original[0] / original[1]
    if abs(ratio / wanted - 1.0) > 0.02:
        raise InputError(
            "mask_shape",
            f"the mask {path} is {picture.width} x {picture.height}, the picture {original[0]} x {original[1]}: "
            "they must have one shape",
        )
    alpha = _alpha(source, picture.size)
    values = picture.convert("L") if alpha is None else alpha
    return squared(values.resize(original, Image.Resampling.BILINEAR), size, 0)[0]


def _alpha(source: Source, size: tuple[int, int]) -> Image.Image | None:
    """The upright alpha channel where there is one with a hole in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(source.data) if source.data is not None else str(source.path)) as image:
                if not image.has_transparency_data:
                    return None
                alpha = upright(image.convert("RGBA").getchannel("A"), int(image.getexif().get(0x0112, 1)))
        except (OSError, UnidentifiedImageError, ValueError):
            return None  # the colours could be read; transparency is only a help
    if alpha.size != size or alpha.getextrema()[0] == 255:
        return None
    return alpha
