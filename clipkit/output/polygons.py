"""Outlines of a mask as polygons along the pixels' edges: filled by the even-odd rule they give the mask back exactly.

Coordinates are pixel corners: a mask of one pixel at the origin is (0, 0), (1, 0), (1, 1), (0, 1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


def polygons(mask: NDArray[np.bool_], tolerance: float = 0.0) -> list[Points]:
    """One closed polygon `(N, 2)` of (x, y) for each 4-connected part, largest first.

    A hole is joined to its outline by a bridge that is walked there and back, so that formats without holes can hold
    it.

    Args:
        mask: `(H, W)` bool.
        tolerance: how far the simplified outline may lie from the true one, pixels (Douglas-Peucker); 0 keeps the
            mask exactly.
    """
    import cv2

    if not mask.any():
        return []
    _, parts = cv2.connectedComponents(np.asarray(mask, np.uint8), connectivity=4)
    outer: dict[int, Points] = {}
    holes: dict[int, list[Points]] = {}
    for part, loop in _loops(np.asarray(parts)):
        # Outlines are walked clockwise on screen, holes the other way.
        if signed_area(loop) > 0:
            outer[part] = simplify(loop, tolerance)
        else:
            holes.setdefault(part, []).append(simplify(loop, tolerance))
    whole = [bridge(loop, holes.get(part, [])) for part, loop in outer.items()]
    return sorted(whole, key=lambda loop: -abs(signed_area(loop)))


def signed_area(points: Points) -> float:
    """The area inside, positive where the walk is clockwise on screen (y down)."""
    x, y = points[:, 0], points[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def simplify(points: Points, tolerance: float) -> Points:
    """A walk along pixel edges with fewer corners; an outline that would vanish stays as it is.

    The middles of the edges are simplified and not their ends: they lie on the outline that the stairs stand for, so
    that regions neither grow nor shrink.
    """
    import cv2

    if tolerance <= 0:
        return points
    ahead = np.roll(points, -1, axis=0) - points
    lengths = np.abs(ahead).sum(axis=1).astype(int)
    steps = np.concatenate([np.arange(length) + 0.5 for length in lengths])
    middles = np.repeat(points, lengths, axis=0) + steps[:, None] * np.repeat(np.sign(ahead), lengths, axis=0)
    fewer = cv2.approxPolyDP(middles.astype(np.float32)[:, None], tolerance, closed=True)[:, 0].astype(np.float64)
    return fewer if len(fewer) >= 3 and abs(signed_area(fewer)) >= 1 else points


def bridge(outline: Points, holes: list[Points]) -> Points:
    """An outline and its holes as one walk: each hole is entered from the outline's nearest corner and left the same way.

    Bridges are walked twice, so by the even-odd rule they change nothing, whatever they cross.
    """
    detours: dict[int, list[Points]] = {}
    for hole in holes:
        at = int(((outline - hole[0]) ** 2).sum(axis=1).argmin())
        detours.setdefault(at, []).append(np.concatenate([hole, hole[:1], outline[at : at + 1]]))
    pieces: list[Points] = []
    done = 0
    for at in sorted(detours):
        pieces += [outline[done : at + 1], *detours[at]]
        done = at + 1
    return np.concatenate([*pieces, outline[done:]])


def _loops(parts: NDArray[np.int32]) -> list[tuple[int, Points]]:
    """Walk the pixel edges between a part and anything else, the part to the right; corners only."""
    following = _edges(parts)
    loops = []
    while following:
        start = next(iter(following))
        part = next(iter(following[start]))[1]
        walk = [start]
        at, heading = start, None
        while True:
            steps = following[at]
            step = _turn(steps, part, heading)
            steps.remove(step)
            if not steps:
                del following[at]
            heading = step[0]
            at = (at[0] + heading[0], at[1] + heading[1])
            if at == start and not _more(following.get(at, []), part, heading):
                break
            walk.append(at)
        points = np.asarray(walk, np.float64)
        straight = (np.roll(points, 1, axis=0) - points == points - np.roll(points, -1, axis=0)).all(axis=1)
        loops.append((part, points[~straight]))
    return loops


Step = tuple[tuple[int, int], int]


def _edges(parts: NDArray[np.int32]) -> dict[tuple[int, int], list[Step]]:
    """For each corner (x, y), the steps that leave it: direction and the part on the right-hand side."""
    padded = np.pad(parts, 1)
    inside = padded[1:-1, 1:-1]
    leaving: dict[tuple[int, int], list[Step]] = {}
    # Side of the pixel, the neighbour across it, the corner it starts from, the way it is walked.
    sides = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (0, 1)),
        (padded[2:, 1:-1], (1, 1), (-1, 0)),
        (padded[1:-1, :-2], (0, 1), (0, -1)),
    )
    for neighbour, (dx, dy), heading in sides:
        ys, xs = np.nonzero((inside > 0) & (neighbour != inside))
        for x, y, part in zip((xs + dx).tolist(), (ys + dy).tolist(), inside[ys, xs].tolist(), strict=True):
            leaving.setdefault((x, y), []).append((heading, part))
    return leaving


def _turn(steps: list[Step], part: int, heading: tuple[int, int] | None) -> Step:
    """The step that keeps to the same pixel where two pixels touch at a corner: the sharpest turn to the right."""
    own = [step for step in steps if step[1] == part]
    if heading is None or len(own) == 1:
        return own[0]
    right = (-heading[1], heading[0])
    return next((step for step in own if step[0] == right), own[0])


def _more(steps: list[Step], part: int, heading: tuple[int, int]) -> bool:
    """Whether the walk passes through its start instead of ending there: the start is a corner two pixels share."""
    right = (-heading[1], heading[0])
    return (right, part) in steps
