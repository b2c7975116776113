"""One colour a class, the same in masks, overlays and legends: neighbours in the list look unlike one another."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

GOLDEN = 0.61803398875
# Lightness and saturation change from class to class, so that like hues are still told apart.
TONES = ((0.52, 0.85), (0.66, 0.65), (0.40, 0.75), (0.74, 0.90))


def palette(count: int) -> NDArray[np.uint8]:
    """Colours of mask values 0 to `count` - 1: `(count, 3)` uint8. Value 0 is black; no other value is."""
    colours = np.zeros((count, 3), np.uint8)
    for value in range(1, count):
        hue = (0.97 + (value - 1) * GOLDEN) % 1.0
        lightness, saturation = TONES[((value - 1) // 5) % len(TONES)]
        colours[value] = [round(255 * part) for part in colorsys.hls_to_rgb(hue, lightness, saturation)]
    return colours
