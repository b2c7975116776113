"""Any Pillow mode to RGB as a person would see it: scaled, not clipped; transparent parts over white."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

_BAND = 512
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Undo the camera's orientation, EXIF tag 0x0112: 1 to 8; anything else means as it is."""
    method = _TRANSPOSE.get(orientation)
    return image if method is None else image.transpose(method)


def to_rgb(image: Image.Image) -> Image.Image:
    """A loaded image of any mode as a new 8-bit RGB image.

    Alpha (RGBA, LA, PA, palettes and colour keys with transparency) is composited over white. 16-bit grey
    keeps its upper byte, as 16-bit colour does in Pillow. 32-bit integers and floats are read by range:
    floats in [0, 1] span black to white, values in [0, 255] stay, in [0, 65535] are divided by 257, and
    anything else is stretched from its smallest to its largest finite value. Colour profiles are ignored,
    as they were when CLIP models were trained.

    Raises:
        ValueError: Pillow has no conversion for the mode.
    """
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        return _over_white(image)
    if mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint16, copy=False)
        return Image.fromarray((wide >> 8).astype(np.uint8)).convert("RGB")
    if mode in {"I", "F"}:
        return Image.fromarray(by_range(np.asarray(image))).convert("RGB")
    if mode == "LAB":
        return _lab(image)
    return image.convert("RGB")


def by_range(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(H, W) integers or floats without a declared range -> (H, W) uint8, by the rule of `to_rgb`."""
    real = values.astype(np.float32)
    finite = np.isfinite(real)
    if not finite.all():
        real = np.where(finite, real, 0.0)
    inside = real[finite]
    low, high = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 0.0)
    if low >= 0 and high <= 1 and values.dtype.kind == "f":
        real *= 255.0
    elif low >= 0 and high <= 255:
        pass
    elif low >= 0 and high <= 65535:
        real /= 257.0
    else:
        real = (real - low) * (255.0 / (high - low) if high > low else 0.0)
    return np.asarray(np.clip(np.rint(real), 0, 255), np.uint8)


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # a colour key on 16-bit grey; Pillow does not convert it
        del image.info["transparency"]
        return to_rgb(image)
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    alpha = rgba.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return rgba.convert("RGB")
    white = Image.new("RGB", rgba.size, (255, 255, 255))
    for top in range(0, rgba.height, _BAND):  # in bands: whole copies of a large picture would triple its memory
        band = rgba.crop((0, top, rgba.width, min(top + _BAND, rgba.height)))
        white.paste(band.convert("RGB"), (0, top), band.getchannel("A"))
    return white


def _lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    return converted
