"""A depth map as a picture a person can read: colours, and a bar that says how many metres they mean."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from numpy.typing import NDArray

Colours = Literal["turbo", "inferno", "viridis", "grey"]
COLOURS: tuple[Colours, ...] = ("turbo", "inferno", "viridis", "grey")
# Larger maps are drawn smaller: a preview is for looking at.
LONG_SIDE = 1600
LEAST_WIDTH = 240
PAPER = (255, 255, 255)
INK = (24, 24, 24)
_ROBUST = (1.0, 99.0)
# A map that says nearly the same everywhere must look so: its colours span at least a tenth of its distance.
_LEAST_SHARE = 0.1
_LEAST_SPAN = 1e-3


def preview(
    depth: NDArray[np.float32],
    *,
    metric: bool,
    colours: Colours = "turbo",
    span: tuple[float, float] | None = None,
) -> Image.Image:
    """Draw a map over its scale bar; near is warm or bright, far is cold or dark.

    Args:
        depth: `(H, W)` metres.
        metric: whether the metres were trained; the bar says so.
        colours: the colour map.
        span: nearest and farthest depth of the colours; None takes `shown_span`.

    Returns:
        The coloured map (long side at most 1600 pixels) with the bar below.
    """
    low, high = shown_span(depth) if span is None else span
    height, width = depth.shape
    shrink = min(1.0, LONG_SIDE / max(height, width))
    size = (max(round(width * shrink), 1), max(round(height * shrink), 1))
    small = np.asarray(Image.fromarray(depth).resize(size, Image.Resampling.BILINEAR), np.float32)
    near = 1 - np.clip((small - low) / max(high - low, _LEAST_SPAN), 0, 1)
    picture = Image.fromarray(table(colours)[np.rint(near * 255).astype(np.intp)])
    return _with_bar(picture, low, high, colours, "metres" if metric else "metres by words")


def shown_span(depth: NDArray[np.float32]) -> tuple[float, float]:
    """The map's 1st and 99th percentile, widened evenly to a tenth of their mean (and at least a millimetre)."""
    low, high = (float(value) for value in np.percentile(depth, _ROBUST))
    missing = max(_LEAST_SHARE * (low + high) / 2, _LEAST_SPAN) - (high - low)
    if missing > 0:
        low = max(low - missing / 2, 0.0)
        high += missing / 2
    return low, high


def side_by_side(image: NDArray[np.uint8], drawn: Image.Image) -> Image.Image:
    """The picture at the preview's scale, with the preview to its right."""
    height, width = image.shape[:2]
    shrink = min(1.0, LONG_SIDE / max(height, width))
    size = (max(round(width * shrink), 1), max(round(height * shrink), 1))
    photo = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
    gap = max(round(max(size) / 80), 4)
    out = Image.new("RGB", (photo.width + gap + drawn.width, max(photo.height, drawn.height)), PAPER)
    out.paste(photo, (0, 0))
    out.paste(drawn, (photo.width + gap, 0))
    return out


def table(colours: Colours) -> NDArray[np.uint8]:
    """256 RGB colours, `(256, 3)`, from far to near."""
    import cv2

    steps = np.arange(256, dtype=np.uint8)
    if colours == "grey":
        return np.repeat(steps[:, None], 3, axis=1)
    known = {"turbo": cv2.COLORMAP_TURBO, "inferno": cv2.COLORMAP_INFERNO, "viridis": cv2.COLORMAP_VIRIDIS}
    return np.asarray(cv2.applyColorMap(steps[:, None], known[colours])[:, 0, ::-1])


def ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers from `low` to `high`, at most `most`: steps of 1, 2 or 5 times a power of ten."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    while (high - low) / step >= most:
        # 1 -> 2 -> 5 -> 10
        step *= 2.5 if f"{step:.0e}"[0] == "2" else 2
    first = math.ceil(low / step - 1e-6)
    return [i * step for i in range(first, math.floor(high / step + 1e-6) + 1)]


def _with_bar(picture: Image.Image, low: float, high: float, colours: Colours, unit: str) -> Image.Image:
    width = max(picture.width, LEAST_WIDTH)
    font = ImageFont.load_default(size=max(round(max(picture.size) / 42), 13))
    line = round(font.getbbox("Ag")[3] - font.getbbox("Ag")[1]) + 2
    pad, bar = line, line
    out = Image.new("RGB", (width, picture.height + pad // 2 + bar + 2 * line + pad // 2), PAPER)
    out.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(out)
    unit_width = round(draw.textlength(unit, font=font))
    left, right, top = 2 * pad, width - 2 * pad - unit_width - pad, picture.height + pad // 2
    ramp = table(colours)[::-1][np.linspace(0, 255, right - left).round().astype(np.intp)]
    out.paste(Image.fromarray(np.repeat(ramp[None], bar, axis=0)), (left, top))
    draw.text((width - pad, top + bar / 2), unit, font=font, fill=INK, anchor="rm")
    numbers = ticks(low, high, max(2, min(7, (right - left) // (4 * line))))
    digits = max(0, -math.floor(math.log10(numbers[1] - numbers[0]) + 1e-6)) if len(numbers) > 1 else 2
    for number in numbers:
        x = left + (number - low) / (high - low) * (right - left - 1)
        draw.line((x, top + bar, x, top + bar + line // 3), fill=INK, width=max(line // 12, 1))
        draw.text((x, top + bar + line // 2), f"{number:.{digits}f}", font=font, fill=INK, anchor="mt")
    return out
