"""Where the picture changes: a video's shots from its frames' embeddings alone, whatever is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOW = 256
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
    found = [0]
    while found[-1] < count:
        first = found[-1]
        part = frames[first : first + WINDOW]
        borders = _segment(part, noise * (np.log(min(count, WINDOW)) + 1.0))
        if first + len(part) < count and len(borders) > 1:
            borders.pop()  # the window's end: the last shot may go on
        found += [first + border for border in borders]
    return np.asarray(found, np.intp)


def _segment(frames: NDArray[np.float32], price: float) -> list[int]:
    """The ends of the shots, each at `price`, by dynamic programming over the last border."""
    count = len(frames)
    gram = frames.astype(np.float64) @ frames.T
    sums = np.zeros((count + 1, count + 1))
    sums[1:, 1:] = gram.cumsum(0).cumsum(1)
    power = np.concatenate(([0.0], np.cumsum(np.diagonal(gram))))
    along = np.diagonal(sums)
    best, before = np.zeros(count + 1), np.zeros(count + 1, np.intp)
    for end in range(1, count + 1):
        block = along[end] - 2.0 * sums[end, :end] + along[:end]  # products of all pairs in [begin, end)
        cost = best[:end] + power[end] - power[:end] - block / (end - np.arange(end)) + price
        before[end] = cost.argmin()
        best[end] = cost[before[end]]
    ends = [count]
    while before[ends[-1]]:
        ends.append(int(before[ends[-1]]))
    return ends[::-1]
