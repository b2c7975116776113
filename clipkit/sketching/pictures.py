"""Sketches as pixels for people: a GIF that draws itself, a sheet of all seeds beside the photograph."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from clipkit.sketching.paint import paint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clipkit.sketching.strokes import Strokes

FRAME_MS = 180
HOLD_MS = 2000
_GAP = 8
_LABEL = 18


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of (H, W, 3) pixels, the same bytes for the same pixels."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def frames(strokes: Strokes, order: Sequence[int], size: int) -> list[NDArray[np.uint8]]:
    """N pictures; the k-th shows the first k strokes of the order, painted as in the finished sketch."""
    return [paint(strokes.subset(sorted(order[: k + 1])), size) for k in range(len(order))]


def gif_bytes(strokes: Strokes, order: Sequence[int], size: int) -> bytes:
    """An endless GIF of `frames`; the finished picture stands for two seconds.

    A stroke that changes no pixel has no frame of its own: the one before stands longer.
    """
    pictures = [
        Image.fromarray(frame).quantize(64 if strokes.coloured else 32) for frame in frames(strokes, order, size)
    ]
    stream = io.BytesIO()
    pictures[0].save(
        stream,
        "GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=[FRAME_MS] * (len(pictures) - 1) + [HOLD_MS],
        loop=0,
        disposal=1,
    )
    return stream.getvalue()


def sheet(
    photo: NDArray[np.float32], sketches: Sequence[tuple[str, Strokes]], size: int, *, best: int
) -> NDArray[np.uint8]:
    """The photograph and every sketch side by side with a caption; the best one is framed."""
    tiles = [("photo", Image.fromarray((photo * 255).round().astype(np.uint8)).resize((size, size)))]
    tiles += [(caption, Image.fromarray(paint(strokes, size))) for caption, strokes in sketches]
    width = len(tiles) * (size + _GAP) + _GAP
    canvas = Image.new("RGB", (width, size + _LABEL + 2 * _GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for i, (caption, tile) in enumerate(tiles):
        left = _GAP + i * (size + _GAP)
        canvas.paste(tile, (left, _GAP))
        chosen = i == best + 1
        draw.rectangle(
            (left - 1, _GAP - 1, left + size, _GAP + size),
            outline="#d03020" if chosen else "#c0c0c0",
            width=2 if chosen else 1,
        )
        draw.text((left + 2, size + _GAP + 4), caption, fill="#d03020" if chosen else "#404040")
    return np.asarray(canvas, np.uint8)
