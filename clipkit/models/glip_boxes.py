"""GLIP's anchors, box deltas and choice of candidates: ATSS (Zhang et al. 2020) as the authors configured it.

Boxes are `x0, y0, x1, y1` with x1 and y1 exclusive. The authors count both ends in, which is the same boxes: theirs have
x1 and y1 smaller by 1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

STRIDES = (8, 16, 32, 64, 128)
# An anchor's side in strides; one square anchor a place.
SIDE = 8
CENTRE_WEIGHT, SIZE_WEIGHT = 10.0, 5.0
MOST_GROWTH = math.log(1000 / 16)
# Mean probability over a phrase's tokens that makes a place a candidate, and candidates a level.
LEAST = 0.05
MOST = 1000


def decode(deltas: NDArray[np.float64], places: NDArray[np.intp], columns: int, stride: int) -> NDArray[np.float64]:
    """Boxes in pixels of the working picture.

    Args:
        deltas: `(N, 4)`: shifts of the centre in tenths and logarithms of growth in fifths of the anchor's side.
        places: `(N,)` places of a map, row by row.
        columns: the map's width.
        stride: pixels between its places.
    """
    centre = stride * (np.stack([places % columns, places // columns], axis=1) + 0.5)
    side = SIDE * stride
    centre = centre + deltas[:, :2] / CENTRE_WEIGHT * side
    half = np.exp(np.minimum(deltas[:, 2:] / SIZE_WEIGHT, MOST_GROWTH)) * side / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def cut(boxes: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Boxes within a picture, at least its outermost pixels."""
    limit = np.array([width, height], np.float64)
    return np.concatenate([np.clip(boxes[:, :2], 0, limit - 1), np.clip(boxes[:, 2:], 1, limit)], axis=1)


def candidates(
    probabilities: NDArray[np.float64], centerness: NDArray[np.float64], most: int = MOST
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The places of a level worth a box and their scores, sqrt(probability x centerness).

    Args:
        probabilities: `(HW, P)` of the phrases.
        centerness: `(HW,)` in [0, 1].
        most: pairs of place and phrase that stay, best first.

    Returns:
        Places `(Q,)` in order and scores `(Q, P)`, 0 where a pair is no candidate.
    """
    scores = np.sqrt(probabilities * centerness[:, None])
    pairs = np.flatnonzero(probabilities > LEAST)
    if len(pairs) > most:
        pairs = pairs[np.argpartition(-scores.ravel()[pairs], most - 1)[:most]]
    kept = np.zeros_like(scores)
    kept.ravel()[pairs] = scores.ravel()[pairs]
    places = np.unique(pairs // scores.shape[1])
    return places, kept[places]


def working_size(height: int, width: int, short: int = 800, most: int = 1333) -> tuple[int, int]:
    """Height and width with a short side of 800 pixels, less where the long one would have more than 1333."""
    low, high = min(height, width), max(height, width)
    if high / low * short > most:
        short = round(most * low / high)
    short = max(short, 1)
    long = int(short * high / low)
    return (long, short) if width < height else (short, long)
