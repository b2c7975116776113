"""Which of many overlapping boxes stay: greedy non-maximum suppression by class or over all, and boxes within boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.detection.boxes import area, iou, overlap

if TYPE_CHECKING:
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
    return _greedy(iou(boxes, boxes) > threshold, scores, classes)


def drop_contained(
    boxes: NDArray[Any], scores: NDArray[Any], share: float, classes: NDArray[Any] | None = None
) -> NDArray[np.intp]:
    """A box goes when `share` of its area or more lies in one better box (of its class) that stays.

    Returns:
        Indices of the boxes that stay, best first.
    """
    shared = overlap(boxes, boxes)
    sizes = area(boxes)
    contained = shared >= share * np.maximum(sizes, np.finfo(np.float64).tiny)[None]
    return _greedy(contained, scores, classes)


def _greedy(
    beats: NDArray[np.bool_], scores: NDArray[Any], classes: NDArray[Any] | None
) -> NDArray[np.intp]:
    """`beats[i, j]`: i removes j where i stays and scores better."""
    if classes is not None:
        beats = beats & (np.asarray(classes)[:, None] == np.asarray(classes)[None])
    alive = np.ones(len(scores), np.bool_)
    kept = []
    for i in np.argsort(-np.asarray(scores), kind="stable"):
        if alive[i]:
            kept.append(i)
            alive &= ~beats[i]
    return np.array(kept, np.intp)
