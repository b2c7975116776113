"""A picture with its mask laid over it, names on the regions and a legend below that a person can read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clipkit.files import atomic_write
from clipkit.output.palette import palette

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clipkit.output.exchange import Region

    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

OPACITY = 0.5
# Larger pictures are drawn smaller: an overlay is for looking at.
LONG_SIDE = 1600
LEAST_WIDTH = 200
PAPER = (255, 255, 255)
INK = (24, 24, 24)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the legend."""

    text: str
    colour: tuple[int, int, int]


def overlay(image: NDArray[np.uint8], index: NDArray[Any], regions: Sequence[Region], labels: int) -> Image.Image:
    """Draw the overlay.

    Args:
        image: `(H, W, 3)` RGB.
        index: `(H, W)` mask values.
        regions: the classes in the mask, in the order of the legend.
        labels: how many labels there are, which fixes the colours.

    Returns:
        The blended picture (long side at most 1600 pixels) over its legend.
    """
    height, width = index.shape
    shrink = min(1.0, LONG_SIDE / max(height, width))
    size = (max(round(width * shrink), 1), max(round(height * shrink), 1))
    picture = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))
    small = np.asarray(Image.fromarray(index).resize(size, Image.Resampling.NEAREST))
    colours = palette(labels + 1)
    blended = picture.astype(np.float32)
    inside = small > 0
    blended[inside] = (1 - OPACITY) * blended[inside] + OPACITY * colours[small[inside]]
    edge = borders(small)
    blended[edge & inside] = colours[small[edge & inside]]
    canvas = Image.fromarray(blended.round().astype(np.uint8))

    font = _font(max(round(max(size) / 45), 13))
    _name_regions(canvas, small, regions, font)
    entries = [
        Entry(f"{region.label}  {percent((index == region.value).mean())}", _rgb(colours[region.value]))
        for region in regions
    ]
    return _with_legend(canvas, entries or [Entry("no label found", PAPER)], font)


def write_overlay(
    path: Path, image: NDArray[np.uint8], index: NDArray[Any], regions: Sequence[Region], labels: int
) -> None:
    """Draw the overlay and write it as PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    drawn = overlay(image, index, regions, labels)
    with atomic_write(path) as stream:
        drawn.save(stream, format="PNG")


def borders(index: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels next to another mask value: `(H, W)` bool."""
    edge = np.zeros(index.shape, np.bool_)
    across, down = index[:, 1:] != index[:, :-1], index[1:] != index[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge


def percent(share: float) -> str:
    """`12 %`, `0.4 %`, `<0.1 %`."""
    if share >= 0.1:
        return f"{share:.0%}".replace("%", " %")
    return f"{share:.1%}".replace("%", " %") if share >= 0.001 else "<0.1 %"


def _name_regions(canvas: Image.Image, index: NDArray[Any], regions: Sequence[Region], font: Font) -> None:
    """Write each name where its region is widest, if it fits there."""
    import cv2

    draw = ImageDraw.Draw(canvas)
    halo = max(round(_line_height(font) / 9), 1)
    for region in regions:
        mask = np.pad((index == region.value).astype(np.uint8), 1)
        reach = cv2.distanceTransform(mask, cv2.DIST_L2, 3)[1:-1, 1:-1]
        y, x = np.unravel_index(int(reach.argmax()), reach.shape)
        left, top, right, bottom = draw.textbbox((0, 0), region.label, font=font)
        width, height = right - left, bottom - top
        # The name may stick out of its region sideways, but not much; the legend has the ones left out.
        if reach[y, x] < 0.75 * height or width > 4 * reach[y, x] + 2 * height or width > canvas.width:
            continue
        at_x = min(max(int(x) - width / 2, 0), canvas.width - width) - left
        at_y = min(max(int(y) - height / 2, 0), canvas.height - height) - top
        draw.text((at_x, at_y), region.label, font=font, fill=PAPER, stroke_width=halo, stroke_fill=INK)


def _with_legend(canvas: Image.Image, entries: Sequence[Entry], font: Font) -> Image.Image:
    """Swatches and names in rows under the picture, wrapped to its width."""
    width = max(canvas.width, LEAST_WIDTH)
    line = _line_height(font)
    pad, swatch = line // 2, line
    measure = ImageDraw.Draw(canvas)
    places: list[tuple[int, int, str, Entry]] = []
    x, y = pad, pad
    for entry in entries:
        text = _fitting(entry.text, width - 3 * pad - swatch, measure, font)
        needed = swatch + pad + round(measure.textlength(text, font=font))
        if x > pad and x + needed > width - pad:
            x, y = pad, y + line + pad
        places.append((x, y, text, entry))
        x += needed + 2 * pad
    out = Image.new("RGB", (width, canvas.height + y + line + pad), PAPER)
    out.paste(canvas, ((width - canvas.width) // 2, 0))
    draw = ImageDraw.Draw(out)
    for left, top, text, entry in places:
        at = canvas.height + top
        if entry.colour != PAPER:
            draw.rounded_rectangle((left, at, left + swatch, at + swatch), radius=swatch // 5, fill=entry.colour)
        draw.text((left + swatch + pad, at + line / 2), text, font=font, fill=INK, anchor="lm")
    return out


def _fitting(text: str, width: int, draw: ImageDraw.ImageDraw, font: Font) -> str:
    while len(text) > 1 and draw.textlength(text, font=font) > width:
        text = text[:-2] + "…"
    return text


def _font(size: int) -> Font:
    return ImageFont.load_default(size=size)


def _line_height(font: Font) -> int:
    box = font.getbbox("Ag")
    return round(box[3] - box[1]) + 2


def _rgb(colour: NDArray[np.uint8]) -> tuple[int, int, int]:
    red, green, blue = (int(part) for part in colour)
    return red, green, blue
