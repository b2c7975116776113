"""The pinhole behind a photograph: its field of view, and where pixels with a depth lie in space."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clipkit.media.paths import Source

ASSUMED_FOV = 60.0
"""Degrees, where nothing is known: between a phone's main camera (about 65) and a 35 mm lens (54)."""
_EXIF_IFD, _FOCAL_35MM = 0x8769, 0xA405
_DIAGONAL_35MM = math.hypot(36, 24)
_WITH_EXIF = ("JPEG", "MPO", "TIFF", "PNG", "WEBP")


def exif_fov(source: Source, width: int, height: int) -> float | None:
    """The horizontal field of view in degrees by the EXIF tag FocalLengthIn35mmFilm; None where there is none.

    The tag compares diagonals: `diagonal / f = hypot(36, 24) / f35` (Exif 2.32). A picture that was
    cropped after it was taken sees less than its EXIF says.

    Args:
        source: the photograph's file or bytes.
        width: of the upright picture, pixels.
        height: likewise.
    """
    from PIL import Image

    try:
        stream = io.BytesIO(source.data) if source.data is not None else source.path
        if stream is None:
            return None
        with Image.open(stream, formats=_WITH_EXIF) as image:
            value = float(image.getexif().get_ifd(_EXIF_IFD).get(_FOCAL_35MM) or 0)
    except Exception:  # noqa: BLE001  damaged metadata must not cost the picture
        return None
    if not (math.isfinite(value) and value > 0):
        return None
    return fov_of(value / _DIAGONAL_35MM * math.hypot(width, height), width)


def focal_of(fov: float, width: int) -> float:
    """Focal length in pixels of a horizontal field of view in degrees."""
    return 0.5 * width / math.tan(math.radians(fov) / 2)


def fov_of(focal: float, width: int) -> float:
    """Horizontal field of view in degrees of a focal length in pixels."""
    return math.degrees(2 * math.atan(0.5 * width / focal))


def points_of(depth: NDArray[np.float32], fov: float, step: int = 1) -> NDArray[np.float32]:
    """Pixels to points: `x = (u - cu) d / f`, `y = (v - cv) d / f`, `z = d`, with the centre in the middle of the picture.

    Args:
        depth: `(H, W)` metres along the optical axis.
        fov: horizontal field of view, degrees.
        step: every how manieth row and column.

    Returns:
        `(h, w, 3)` float32 metres: x to the right, y down, z forward, as cameras have it.
    """
    height, width = depth.shape
    focal = focal_of(fov, width)
    v, u = np.mgrid[0:height:step, 0:width:step].astype(np.float32)
    d = depth[::step, ::step]
    return np.stack([(u - (width - 1) / 2) * d / focal, (v - (height - 1) / 2) * d / focal, d], axis=-1).astype(
        np.float32
    )
