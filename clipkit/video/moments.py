"""The stretch of a video that stands out for a query: a scan over all intervals of its frames' scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHANCE = 0.01
"""A stretch stands out where frames that only scatter would bring one like it, anywhere, with at most this probability."""

AS_CLEAR = 0.6
"""A further split of the better part counts where its two means lie this much as far apart as the first one's: two
levels above the rest do, the halves of an even slope (0.5) do not."""

MAX_SCANNED = 2048
"""Borders between which stretches are looked for; longer videos have coarser ones (the scan is quadratic)."""


@dataclass(frozen=True, slots=True)
class Moment:
    """From `start` to `end` in seconds, and the mean score of the frames within."""

    start: float
    end: float
    score: float


def best_moment(
    scores: NDArray[np.float32], times: NDArray[np.float64], duration: float, shots: NDArray[np.intp] | None = None
) -> Moment:
    """The stretch with most evidence: the largest sum of scores over the threshold of `all_moments`.

    Args:
        scores: (N,) similarity of each frame.
        times: (N,) seconds, ascending; a frame stands for the time up to half-way to its neighbours.
        duration: seconds.
        shots: (S + 1,) borders of the video's shots, from `clipkit.video.shots`; None for one.
    """
    runs, threshold = _runs(scores, shots)
    first, last = max(runs, key=lambda run: float((scores[run[0] : run[1]] - threshold).sum()))
    return _moment(first, last, scores, times, duration)


def all_moments(
    scores: NDArray[np.float32], times: NDArray[np.float64], duration: float, shots: NDArray[np.intp] | None = None
) -> list[Moment]:
    """Every stretch that stands out, best mean score first; the whole video where none does.

    A circular binary segmentation (Olshen et al. 2004, section 2) finds the interval whose mean differs most
    from the rest's, `t = (mean inside - mean outside) / (s sqrt(1/inside + 1/outside))` with s the scatter within
    both. Where t is too large for chance the better part is split again, as long as its parts are as far apart. Moments
    are the maximal scoring subsequences (Ruzzo and Tompa 1999) over the middle of the last two means: one weak
    frame does not cut a moment in two. All this is done first with whole shots, of which there are few, and then with the
    frames of the best ones.
    """
    runs, _ = _runs(scores, shots)
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


def _runs(scores: NDArray[np.float32], shots: NDArray[np.intp] | None) -> tuple[list[tuple[int, int]], float]:
    """The stretches [first, last) that stand out, and the threshold they are over."""
    count = len(scores)
    whole = np.asarray([0, count]) if shots is None else shots
    of_shots = _narrowed(_Part(scores, whole))
    best = _narrowed(_Part(of_shots.scores, np.arange(len(of_shots.scores) + 1), of_shots.threshold, of_shots.gap))
    if best.threshold == -np.inf:
        return [(0, count)], best.threshold
    edges = whole if best.threshold == of_shots.threshold else np.arange(count + 1)
    over = np.add.reduceat(scores - np.float32(best.threshold), edges[:-1])
    return [(int(edges[a]), int(edges[b])) for a, b in maximal_runs(over)], best.threshold


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """What is left of a video: its scores, the borders of their units, the threshold they are over, and the gap around it."""

    scores: NDArray[np.float32]
    edges: NDArray[np.intp]
    threshold: float = -np.inf
    gap: float = 0.0


def _narrowed(part: _Part) -> _Part:
    """The better part, again and again, while an interval of units stands out."""
    while (found := scan(part.scores, part.edges)) is not None:
        t, first, last = found
        scores, edges = part.scores, part.edges
        if not stands_out(t, len(scores), len(edges) - 1):
            break
        inside, outside = scores[first:last].mean(), np.concatenate([scores[:first], scores[last:]]).mean()
        gap = abs(float(inside - outside))
        if gap < AS_CLEAR * part.gap:
            break
        middle = float(inside + outside) / 2
        units = maximal_runs(np.add.reduceat(scores - np.float32(middle), edges[:-1]))
        better = np.concatenate([np.arange(a, b) for a, b in units])
        if len(better) == len(edges) - 1:  # a weak unit within: nothing to part
            break
        kept = np.concatenate([scores[edges[i] : edges[i + 1]] for i in better])
        part = _Part(kept, np.concatenate(([0], np.cumsum(np.diff(edges)[better]))), middle, max(part.gap, gap))
    return part


def stands_out(t: float, count: int, units: int) -> bool:
    """Whether the largest |t| of all intervals of units is more than `CHANCE` would bring (Bonferroni's bound).

    Student's t with `count - 2` degrees of freedom is brought to a normal deviate by Wallace's (1959) formula.
    """
    free = count - 2
    deviate = (8 * free + 1) / (8 * free + 3) * math.sqrt(free * math.log1p(t * t / free))
    return deviate >= -NormalDist().inv_cdf(CHANCE / (units * (units + 1) - 2))


def scan(scores: NDArray[np.float32], edges: NDArray[np.intp] | None = None) -> tuple[float, int, int] | None:
    """(|t|, first, last) of the interval [first, last) that differs most from the rest; None below 4 frames.

    Args:
        scores: (N,).
        edges: (U + 1,) ascending from 0 to N, where intervals may begin and end; None for anywhere.
    """
    count = len(scores)
    if edges is None:
        edges = np.arange(count + 1)
    if (step := -(-(len(edges) - 1) // MAX_SCANNED)) > 1:
        edges = np.concatenate([edges[:-1:step], edges[-1:]])
    if count < 4 or len(edges) < 3:
        return None
    values = scores.astype(np.float64) - scores.mean(dtype=np.float64)
    sums = np.concatenate([[0.0], np.cumsum(values)])[edges]
    best, where = 0.0, (0, 0)
    for span in range(1, len(edges) - 1):
        inside = sums[span:] - sums[:-span]  # the outside is its negative: the values are centred
        length = edges[span:] - edges[:-span]
        between = inside * inside * (count / (length * (count - length)))  # sum of squares between the two parts
        at = int(between.argmax())
        if between[at] > best:
            best, where = float(between[at]), (int(edges[at]), int(edges[at + span]))
    total = float(values @ values)
    if best <= 1e-12 * count:  # rounding of equal scores
        return None
    within = max(total - best, 1e-9 * total)
    return float(np.sqrt(best * (count - 2) / within)), *where
