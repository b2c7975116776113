"""The stretch of a video that stands out for a query: a scan over all intervals of its frames' scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

STANDS_OUT = 5.0
"""The value of |t| from which an interval differs from the rest by more than the frames' own scatter."""

AS_CLEAR = 0.6
"""A further split of the better part counts where its two means lie this much as far apart as the first one's: two
levels above the rest do, the halves of an even slope (0.5) do not."""

MAX_SCANNED = 2048
"""Frames scanned exactly; longer videos are averaged to this many first (the scan is quadratic)."""


@dataclass(frozen=True, slots=True)
class Moment:
    """From `start` to `end` in seconds, and the mean score of the frames within."""

    start: float
    end: float
    score: float


def best_moment(scores: NDArray[np.float32], times: NDArray[np.float64], duration: float) -> Moment:
    """The stretch with most evidence: the largest sum of scores over the threshold of `all_moments`.

    Args:
        scores: (N,) similarity of each frame.
        times: (N,) seconds, ascending; a frame stands for the time up to half-way to its neighbours.
        duration: seconds.
    """
    runs, threshold = _runs(scores)
    first, last = max(runs, key=lambda run: float((scores[run[0] : run[1]] - threshold).sum()))
    return _moment(first, last, scores, times, duration)


def all_moments(scores: NDArray[np.float32], times: NDArray[np.float64], duration: float) -> list[Moment]:
    """Every stretch that stands out, best mean score first; the whole video where none does.

    A circular binary segmentation (Olshen et al. 2004, section 2) finds the interval whose mean differs most
    from the rest's, `t = (mean inside - mean outside) / (s sqrt(1/inside + 1/outside))` with s the scatter within
    both. Where |t| is large enough the better part is split again, as long as its parts are as far apart. Moments
    are the maximal scoring subsequences (Ruzzo and Tompa 1999) over the middle of the last two means: one weak
    frame does not cut a moment in two.
    """
    runs, _ = _runs(scores)
    return sorted((_moment(a, b, scores, times, duration) for a, b in runs), key=lambda m: -m.score)


def maximal_runs(values: NDArray[np.float32]) -> list[tuple[int, int]]:
    """All maximal scoring subsequences as [first, last), in order (Ruzzo and Tompa 1999, linear time)."""
    kept: list[tuple[int, int, float, float]] = []  # first, last, sum before it, sum at its end
    total = 0.0
    for i, value in enumerate(values.tolist()):
        before, total = total, total + value
        if value <= 0:
            continue
        new = (i, i + 1, before, total)
        while True:
            j = next((k for k in range(len(kept) - 1, -1, -1) if kept[k][2] < new[2]), None)
            if j is None or kept[j][3] >= new[3]:
                kept.append(new)
                break
            new = (kept[j][0], new[1], kept[j][2], new[3])
            del kept[j:]
    return [(first, last) for first, last, _, _ in kept]


def borders(times: NDArray[np.float64], duration: float) -> NDArray[np.float64]:
    """(N + 1,) seconds: frame i stands for [borders[i], borders[i + 1])."""
    return np.concatenate([[0.0], (times[1:] + times[:-1]) / 2, [max(duration, float(times[-1]))]])


def _moment(first: int, last: int, scores: NDArray[np.float32], times: NDArray[np.float64], duration: float) -> Moment:
    edges = borders(times, duration)
    return Moment(float(edges[first]), float(edges[last]), float(scores[first:last].mean()))


def _runs(scores: NDArray[np.float32]) -> tuple[list[tuple[int, int]], float]:
    """The stretches [first, last) that stand out, and the threshold they are over."""
    threshold, widest = -np.inf, 0.0
    kept = scores
    while (found := scan(kept)) is not None and found[0] >= STANDS_OUT:
        _, first, last = found
        inside, outside = kept[first:last].mean(), np.concatenate([kept[:first], kept[last:]]).mean()
        gap = abs(float(inside - outside))
        if gap < AS_CLEAR * widest:
            break
        middle = float(inside + outside) / 2
        better = np.concatenate([kept[a:b] for a, b in maximal_runs(kept - np.float32(middle))])
        if len(better) == len(kept):  # a weak frame within: nothing to part
            break
        threshold, widest, kept = middle, max(widest, gap), better
    if threshold == -np.inf:
        return [(0, len(scores))], threshold
    return maximal_runs(scores - np.float32(threshold)), threshold


def scan(scores: NDArray[np.float32]) -> tuple[float, int, int] | None:
    """(|t|, first, last) of the interval [first, last) that differs most from the rest; None below 4 frames."""
    count = len(scores)
    step = -(-count // MAX_SCANNED)
    if step > 1:
        groups = np.add.reduceat(scores, np.arange(0, count, step)) / np.diff([*range(0, count, step), count])
        found = scan(np.asarray(groups, np.float32))
        return None if found is None else (found[0], found[1] * step, min(found[2] * step, count))
    if count < 4:
        return None
    values = scores.astype(np.float64) - scores.mean(dtype=np.float64)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    best, where = 0.0, (0, 0)
    for length in range(1, count):
        inside = sums[length:] - sums[:-length]  # the outside is its negative: the values are centred
        between = inside * inside * (count / (length * (count - length)))  # sum of squares between the two parts
        at = int(between.argmax())
        if between[at] > best:
            best, where = float(between[at]), (at, at + length)
    total = float(values @ values)
    if best <= 1e-12 * count:  # rounding of equal scores
        return None
    within = max(total - best, 1e-9 * total)
    return float(np.sqrt(best * (count - 2) / within)), *where
