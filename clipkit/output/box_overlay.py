"""A picture with its boxes drawn in, each with a name a person can read at any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clipkit.files import atomic_write
from clipkit.output.palette import palette

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clipkit.output.boxes import Box

    Colour = tuple[int, int, int]
    Rectangle = tuple[float, float, float, float]

# Larger pictures are drawn smaller, small ones larger: an overlay is for looking at.
LONG_SIDE = 1600
LEAST_SIDE = 480


def box_overlay(image: NDArray[np.uint8], boxes: Sequence[Box], labels: int) -> Image.Image:
    """Draw boxes and names; the best box lies on top.

    Args:
        image: `(H, W, 3)` RGB.
        boxes: best first.
        labels: how many labels there are, which fixes the colours.
    """
    height, width = image.shape[:2]
    long_side = max(height, width)
    scale = min(LONG_SIDE, max(LEAST_SIDE, long_side)) / long_side
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    canvas = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=max(round(max(size) / 45), 13))
    stroke = max(round(max(size) / 260), 2)
    colours = palette(labels + 1)
    for box in reversed(boxes):
        red, green, blue = (int(part) for part in colours[box.value])
        x0, y0, x1, y1 = (x * scale for x in box.box)
        corners = (x0, y0, max(x1 - 1, x0), max(y1 - 1, y0))
        draw.rectangle(corners, outline=(255, 255, 255), width=stroke + 1)
        draw.rectangle(corners, outline=(red, green, blue), width=stroke)
    taken: list[Rectangle] = []
    for box in boxes:
        red, green, blue = (int(part) for part in colours[box.value])
        _name(draw, box, scale, (red, green, blue), font, size, taken)
    return canvas


def write_box_overlay(path: Path, image: NDArray[np.uint8], boxes: Sequence[Box], labels: int) -> None:
    """Draw the overlay and write it as PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    drawn = box_overlay(image, boxes, labels)
    with atomic_write(path) as stream:
        drawn.save(stream, format="PNG")


def _name(
    draw: ImageDraw.ImageDraw,
    box: Box,
    scale: float,
    colour: Colour,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: tuple[int, int],
    taken: list[Rectangle],
) -> None:
    """Name and score on a plate of the box's colour: above its corner, or at the next place that is free."""
    text = f"{box.label} {box.score:.2f}"
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    pad = 3
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    x0, y0, _, y1 = (x * scale for x in box.box)
    x = min(max(x0, 0), max(size[0] - width, 0))
    # Above the box, inside its top, inside its bottom, below it, then further and further down inside.
    places = [y0 - height, y0, y1 - height, y1, *(y0 + n * height for n in range(1, 40))]
    plates = [(x, y, x + width, y + height) for y in (min(max(y, 0), max(size[1] - height, 0)) for y in places)]
    plate = next((p for p in plates if not any(_touch(p, other) for other in taken)), plates[1])
    taken.append(plate)
    draw.rectangle(plate, fill=colour)
    bright = np.dot(colour, (0.299, 0.587, 0.114)) > 140
    draw.text((x + pad - left, plate[1] + pad - top), text, font=font, fill=(0, 0, 0) if bright else (255, 255, 255))


def _touch(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
