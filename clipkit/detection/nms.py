"""Which of many overlapping boxes stay: greedy non-maximum suppression by class or over all, and boxes within boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.detection.boxes import area, iou, overlap

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def suppress(
    boxes: NDArray[Any], scores: NDArray[Any], threshold: float, classes: NDArray[Any] | None = None
) -> NDArray[np.intp]:
    """Greedy NMS: the best box stays, every box that overlaps it by more than `threshold` goes, and again.

    Args:
        boxes: `(N, 4)`.
        scores: `(N,)`.
        threshold: IoU above which the lower-scored box goes.
        classes: `(N,)`; boxes of different classes do not touch each other. None: all count as one class.

    Returns:
        Indices of the boxes that stay, best first; equal scores keep their order.
    """
    return _by_class(lambda part: iou(boxes[part], boxes[part]) > threshold, scores, classes)


def drop_contained(
    boxes: NDArray[Any], scores: NDArray[Any], share: float, classes: NDArray[Any] | None = None
) -> NDArray[np.intp]:
    """A box goes when `share` of its area or more lies in one better box (of its class) that stays.

    Returns:
        Indices of the boxes that stay, best first.
    """

    def contained(part: NDArray[np.intp]) -> NDArray[np.bool_]:
        sizes = np.maximum(area(boxes[part]), np.finfo(np.float64).tiny)
        return np.asarray(overlap(boxes[part], boxes[part]) >= share * sizes[None])

    return _by_class(contained, scores, classes)


def _by_class(
    beats: Callable[[NDArray[np.intp]], NDArray[np.bool_]], scores: NDArray[Any], classes: NDArray[Any] | None
) -> NDArray[np.intp]:
    """Greedy choice within each class; `beats(part)[i, j]`: i removes j where i stays and scores better."""
    scores = np.asarray(scores)
    owners = np.zeros(len(scores), np.intp) if classes is None else np.asarray(classes)
    kept = []
    for owner in np.unique(owners):
        part = np.flatnonzero(owners == owner)
        part = part[np.argsort(-scores[part], kind="stable")]
        gone = np.zeros(len(part), np.bool_)
        matrix = beats(part)
        for i in range(len(part)):
            if not gone[i]:
                kept.append(part[i])
                gone |= matrix[i]
    chosen = np.sort(np.array(kept, np.intp))
    return chosen[np.argsort(-scores[chosen], kind="stable")]
