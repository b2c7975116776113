"""Where the picture changes: a video's shots from its frames' embeddings alone, whatever is asked for."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOW = 128
"""Frames segmented together; a longer video goes on from the last border before."""

STILL = 1e-3
"""The least scatter that frames of one shot are taken to have: rounding makes no shots."""


def shots(frames: NDArray[np.float32]) -> NDArray[np.intp]:
    """Borders (S + 1,) of a video's S shots: shot i is frames [borders[i], borders[i + 1]).

    Kernel temporal segmentation (Potapov et al. 2014, section 3.2) with a linear kernel: of all ways to cut the frames, the
    one with the least scatter around the shots' means plus `scatter of a frame * (log N + 1)` a shot. A frame's scatter is
    half its squared distance to the frame before, the median over the video.

    Args:
        frames: (N, D) unit embeddings in order of time.
    """
    count = len(frames)
    if count < 2:
        return np.asarray([0, count] if count else [0], np.intp)
    noise = max(STILL, float(np.median(1.0 - (frames[1:] * frames[:-1]).sum(1))))
    price = noise * (np.log(min(count, WINDOW)) + 1.0)
    found, forced = [0], set[int]()
    while found[-1] < count:
        first = found[-1]
        borders = _segment(frames[first : first + WINDOW], price)
        if first + borders[-1] < count:
            if len(borders) > 1:
                borders.pop()  # the window's end: the last shot may go on
            else:
                forced.add(first + borders[0])
        found += [first + border for border in borders]
    kept = [0]
    for border, after in pairwise(found[1:]):
        if border not in forced or _gain(frames[kept[-1] : border], frames[border:after]) > price:
            kept.append(border)
    return np.asarray([*kept, count], np.intp)


def _gain(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """By how much the scatter around the means is less for two parts than for both together."""
    gap = one.mean(0, dtype=np.float64) - other.mean(0, dtype=np.float64)
    return len(one) * len(other) / (len(one) + len(other)) * float(gap @ gap)


def _segment(frames: NDArray[np.float32], price: float) -> list[int]:
    """The ends of the shots, each at `price`, by dynamic programming over the last border."""
    count = len(frames)
    gram = frames.astype(np.float64) @ frames.T
    sums = np.zeros((count + 1, count + 1))
    sums[1:, 1:] = gram.cumsum(0).cumsum(1)
    power = np.concatenate(([0.0], np.cumsum(np.diagonal(gram))))
    along = np.diagonal(sums)
    length = np.maximum(np.subtract.outer(np.arange(count + 1), np.arange(count + 1)), 1)
    # cost[end, begin]: the scatter of the shot [begin, end), whose products of all pairs are in parentheses, and its price
    cost = np.subtract.outer(power, power) - (np.add.outer(along, along) - 2.0 * sums) / length + price
    best, before = np.zeros(count + 1), np.zeros(count + 1, np.intp)
    for end in range(1, count + 1):
        total = best[:end] + cost[end, :end]
        before[end] = total.argmin()
        best[end] = total[before[end]]
    ends = [count]
    while before[ends[-1]]:
        ends.append(int(before[ends[-1]]))
    return ends[::-1]
