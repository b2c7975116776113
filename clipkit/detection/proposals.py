"""Boxes from class maps: connected parts above several thresholds, ranked by how much they stand out from around."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from clipkit.detection.boxes import area, grow
from clipkit.detection.nms import suppress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Shares of a map's maximum.
THRESHOLDS = (0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85)
# Parts smaller than this share of the map are grain.
LEAST_AREA = 0.001
RING = 1.5
MOST = 64
# Neighbouring thresholds cut nearly the same box; one of them is enough.
ALIKE = 0.8

# Small peaks stand out most from their surroundings; this power of a box's share of the picture holds against it.
SIZE_POWER = 0.25

Ranking = Literal["standout", "contrast", "mean"]


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """N boxes in cells of the maps, best first: `boxes` `(N, 4)`, `classes` `(N,)` the map each came from, `rank` `(N,)`."""

    boxes: NDArray[np.float64]
    classes: NDArray[np.intp]
    rank: NDArray[np.float64]


class Sums:
    """Integral images of C maps, so that the mean over any box costs four look-ups."""

    def __init__(self, maps: NDArray[Any]) -> None:
        """Sum `(C, h, w)` maps."""
        self._sums = np.zeros((len(maps), maps.shape[1] + 1, maps.shape[2] + 1))
        np.cumsum(maps, axis=1, out=self._sums[:, 1:, 1:])
        np.cumsum(self._sums[:, 1:, 1:], axis=2, out=self._sums[:, 1:, 1:])

    def over(self, boxes: NDArray[Any], classes: NDArray[np.intp] | None = None) -> NDArray[np.float64]:
        """Sums over boxes of whole cells: `(N,)` of the map `classes[i]` for box i, `(C, N)` of every map without."""
        x0, y0, x1, y1 = np.asarray(boxes, np.intp).T
        which: Any = slice(None) if classes is None else classes
        s = self._sums
        return np.asarray(s[which, y1, x1] - s[which, y0, x1] - s[which, y1, x0] + s[which, y0, x0])

    def means(self, boxes: NDArray[Any], classes: NDArray[np.intp] | None = None) -> NDArray[np.float64]:
        """Means over boxes of whole cells, as `over`."""
        return np.asarray(self.over(boxes, classes) / np.maximum(area(boxes), 1))


def propose(
    maps: NDArray[Any],
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    ranking: Ranking = "standout",
    most: int = MOST,
    only: Sequence[int] | None = None,
) -> Proposals:
    """Boxes around the 8-connected parts of each map above shares of its maximum.

    Args:
        maps: `(C, h, w)` probabilities, one map a class.
        thresholds: shares of each map's maximum.
        ranking: `mean` is the mean inside, `contrast` that minus the mean in the ring up to 1.5 times the sides,
            `standout` the contrast times the fourth root of the box's share of the picture.
        most: how many to keep over all classes.
        only: the maps to look at; None is all.
    """
    import cv2

    height, width = maps.shape[1:]
    found: list[NDArray[Any]] = []
    owners: list[int] = []
    for value in range(len(maps)) if only is None else only:
        top = float(maps[value].max())
        for share in thresholds:
            binary = (maps[value] >= share * top).astype(np.uint8)
            _, _, stats, _ = cv2.connectedComponentsWithStats(binary, connectivity=8)
            parts = stats[1:][stats[1:, cv2.CC_STAT_AREA] >= LEAST_AREA * height * width]
            found.append(np.concatenate([parts[:, :2], parts[:, :2] + parts[:, 2:4]], axis=1))
            owners += [value] * len(parts)
    boxes = np.concatenate(found) if found else np.zeros((0, 4))
    if not len(boxes):
        return Proposals(np.zeros((0, 4)), np.zeros(0, np.intp), np.zeros(0))
    classes = np.array(owners, np.intp)
    sums = Sums(maps)
    rank = sums.means(boxes, classes) if ranking == "mean" else contrast(sums, boxes, classes, width, height)
    if ranking == "standout":
        rank = rank * (area(boxes) / (height * width)) ** SIZE_POWER
    # Suppression looks at pairs: the far end of a long list cannot win and is cut before.
    first = np.argsort(-rank, kind="stable")[: 16 * most]
    boxes, classes, rank = boxes[first], classes[first], rank[first]
    kept = suppress(boxes, rank, ALIKE, classes)[:most]
    return Proposals(np.asarray(boxes[kept], np.float64), classes[kept], rank[kept])


def contrast(
    sums: Sums, boxes: NDArray[Any], classes: NDArray[np.intp], width: int, height: int
) -> NDArray[np.float64]:
    """Mean inside minus mean in the ring between each box and 1.5 times its sides, `(N,)`.

    A box that fills the map has no ring and keeps its mean.
    """
    outer = grow(boxes, RING, width, height)
    outer[:, :2], outer[:, 2:] = np.floor(outer[:, :2]), np.ceil(outer[:, 2:])
    inside = sums.over(boxes, classes)
    around = sums.over(outer, classes) - inside
    cells = area(outer) - area(boxes)
    ring = np.divide(around, cells, out=np.zeros_like(around), where=cells > 0)
    return np.asarray(inside / np.maximum(area(boxes), 1) - ring)
