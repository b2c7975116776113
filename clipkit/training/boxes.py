"""Pictures cut out of photographs of several things: YOLO's label files, one thing a line, as a box or a polygon."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

Box = tuple[float, float, float, float]

LEAST = 0.04
"""Share of the picture below which a thing is too small to be seen in a packed picture."""
MARGIN = 0.1
"""Of a box's longer side, added on each side: what is around a thing tells what it is."""


def label_path(picture: str) -> str:
    """Where YOLO keeps a picture's labels: `train/images/a.jpg` -> `train/labels/a.txt`, or beside it."""
    folder, found, rest = f"/{picture}".rpartition("/images/")
    path = f"{folder}/labels/{rest}" if found else f"/{picture}"
    return re.sub(r"\.[^./]+$", ".txt", path)[1:]


def read_boxes(text: str, names: Mapping[str, str]) -> list[tuple[str, Box]]:
    """(name, (left, top, right, bottom)) of each thing that is named and large enough, in shares of the picture.

    Args:
        text: lines of a class number and either centre x, centre y, width, height, or the corners of a polygon.
        names: class number -> name; other classes are left out.
    """
    found: list[tuple[str, Box]] = []
    for line in text.splitlines():
        number, *rest = line.split() or [""]
        try:
            values = [float(value) for value in rest]
        except ValueError:
            continue
        if number not in names or len(values) < 4 or len(values) % 2:
            continue
        if len(values) == 4:
            x, y, wide, high = values
            box = (x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)
        else:
            box = (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))
        left, top, right, bottom = (min(max(value, 0.0), 1.0) for value in box)
        if (right - left) * (bottom - top) >= LEAST:
            found.append((names[number], (left, top, right, bottom)))
    return found


def around(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """The box with its margin, as near to a square as the picture has room for: (left, top, right, bottom) in pixels."""
    left, top, right, bottom = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    side = (1 + 2 * MARGIN) * max(right - left, bottom - top, 1.0)

    def span(low: float, high: float, most: int) -> tuple[int, int]:
        size = min(side, most)
        first = min(max((low + high - size) / 2, 0.0), most - size)
        return int(first), max(int(first) + 1, round(first + size))

    (x0, x1), (y0, y1) = span(left, right, width), span(top, bottom, height)
    return x0, y0, x1, y1
