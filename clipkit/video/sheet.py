"""A contact sheet of hits: three pictures from each best moment, with its rank, score and time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from clipkit.errors import InputError
from clipkit.media.paths import printable
from clipkit.media.video import read_frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clipkit.tasks.retrieve_video import VideoHit

ACROSS = 3
WIDTH, HEIGHT, LINE, GAP = 256, 144, 22, 6


def contact_sheet(hits: Sequence[VideoHit], title: str) -> Image.Image:
    """One row a hit, best first; a video that cannot be read any more leaves its row grey."""
    font = ImageFont.load_default(size=14)
    width = ACROSS * (WIDTH + GAP) + GAP
    sheet = Image.new("RGB", (width, LINE + GAP + len(hits) * (LINE + HEIGHT + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP // 2), _fitting(title, font, width - 2 * GAP), "black", font)
    for number, hit in enumerate(hits):
        top = LINE + GAP + number * (LINE + HEIGHT + GAP)
        label = f"{hit.rank}.  {hit.score:.3f}  {_clock(hit.start)}-{_clock(hit.end)}  "
        name = _fitting(printable(hit.path), font, width - 2 * GAP - int(font.getlength(label)))
        draw.text((GAP, top), label + name, "black", font)
        for column, picture in enumerate(_pictures(hit)):
            sheet.paste(picture, (GAP + column * (WIDTH + GAP), top + LINE))
    return sheet


def _pictures(hit: VideoHit) -> list[Image.Image]:
    times = [hit.start + (k + 0.5) / ACROSS * (hit.end - hit.start) for k in range(ACROSS)]
    try:
        frames = [Image.fromarray(frame.pixels) for frame in read_frames(Path(hit.path), lambda _: times)]
    except InputError:
        frames = []
    return [_boxed(frame) for frame in frames] or [Image.new("RGB", (WIDTH, HEIGHT), "gray")] * ACROSS


def _boxed(frame: Image.Image) -> Image.Image:
    """The whole frame within a thumbnail, on dark grey."""
    box = Image.new("RGB", (WIDTH, HEIGHT), (32, 32, 32))
    frame = ImageOps.contain(frame, (WIDTH, HEIGHT))
    box.paste(frame, ((WIDTH - frame.width) // 2, (HEIGHT - frame.height) // 2))
    return box


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:04.1f}"


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, its middle left out where it is too long."""
    if font.getlength(text) <= width:
        return text
    keep = int(np.floor(len(text) * width / font.getlength(text))) - 3
    return f"{text[: max(0, keep // 2)]}...{text[len(text) - max(0, keep // 2) :]}"
