"""First guesses that lie on contours: pieces of line, walked pixel by pixel and fitted with one cubic each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clipkit.sketching.saliency import draw_starts

if TYPE_CHECKING:
    from numpy.typing import NDArray

Pixel = tuple[int, int]

SHORTEST, LONGEST = 16.0, 72.0  # canvas units a first guess follows a line
CLEARANCE = 4.0  # canvas units around a guess that no other begins in
_AROUND = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))


def traced_starts(
    lines: NDArray[np.bool_], chance: NDArray[np.float64], count: int, canvas: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """`count` curves (count, 4, 2) along one-pixel lines (S, S), begun at pixels drawn from `chance` (S, S).

    Each takes its share of the lines' length and leaves the rest to the others; when no line is left the remaining
    curves begin as `draw_starts` begins them.
    """
    unit = lines.shape[0] / canvas
    share = np.clip(1.1 * lines.sum() / unit / count, SHORTEST, LONGEST) * unit
    free = {(int(y), int(x)) for y, x in np.argwhere(lines)}
    open_ = lines.copy()
    curves: list[NDArray[np.float32]] = []
    while len(curves) < count:
        weight = np.where(open_, chance, 0.0).ravel()
        if weight.sum() <= 0.0:
            break
        start = divmod(int(rng.choice(weight.size, p=weight / weight.sum())), lines.shape[1])
        path = _walk(start, free, share)
        _clear(open_, path, CLEARANCE * unit)
        free -= set(path)
        if len(path) >= 4:
            curves.append(fit_cubic(np.asarray(path, np.float64)[:, ::-1] + 0.5) / np.float32(unit))
    if len(curves) < count:
        curves += list(draw_starts(chance, count - len(curves), canvas, rng))
    return np.stack(curves).astype(np.float32)


def _walk(start: Pixel, free: set[Pixel], length: float) -> list[Pixel]:
    """Pixels of one line through `start`, about `length` of them, as straight ahead as the line goes."""
    ahead = _ahead(start, free, {start}, length / 2)
    back = _ahead(start, free, {start, *ahead}, length - len(ahead))
    return [*reversed(back), start, *ahead]


def _ahead(start: Pixel, free: set[Pixel], seen: set[Pixel], length: float) -> list[Pixel]:
    path = [start]
    while len(path) <= length:
        y, x = path[-1]
        near = [(y + dy, x + dx) for dy, dx in _AROUND if (y + dy, x + dx) in free and (y + dy, x + dx) not in seen]
        if not near:
            break
        py, px = path[max(0, len(path) - 5)]
        along = (y - py, x - px)
        best = max(near, key=lambda p: (p[0] - y) * along[0] + (p[1] - x) * along[1])
        seen.update(near)  # the pixels beside the way are part of the same line
        path.append(best)
    return path[1:]


def _clear(open_: NDArray[np.bool_], path: list[Pixel], radius: float) -> None:
    reach = int(np.ceil(radius))
    for y, x in path:
        open_[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = False


def fit_cubic(points: NDArray[np.float64]) -> NDArray[np.float32]:
    """The cubic (4, 2) nearest to ordered points (n, 2), by least squares at arc-length parameters; it keeps their ends."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    t = np.concatenate(([0.0], steps.cumsum()))
    t /= max(t[-1], 1e-9)
    s = 1.0 - t
    ends = np.outer(s**3, points[0]) + np.outer(t**3, points[-1])
    inner, *_ = np.linalg.lstsq(np.stack((3 * t * s**2, 3 * t**2 * s), 1), points - ends, rcond=None)
    return np.concatenate((points[:1], inner, points[-1:])).astype(np.float32)
