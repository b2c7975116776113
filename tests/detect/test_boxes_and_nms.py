"""Box arithmetic and suppression against plain loops."""

import numpy as np
import pytest
from detect_stand import random_boxes

from clipkit.detection.boxes import area, grow, iou, within
from clipkit.detection.nms import drop_contained, suppress


def loop_iou(a, b):
    """One pair at a time."""
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
    return w * h / union if union > 0 else 0.0


def loop_nms(boxes, scores, threshold, classes):
    """The textbook loop: take the best, throw away what it covers."""
    left = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [i for i in left if classes[i] != classes[best] or loop_iou(boxes[best], boxes[i]) <= threshold]
    return kept


def test_iou_equals_the_loop():
    """Every pair's IoU equals the one computed pair by pair, to 1e-6; an empty box overlaps nothing."""
    a, b = random_boxes(0, 12), random_boxes(1, 9)
    b[0] = [5, 5, 5, 9]
    expected = [[loop_iou(x, y) for y in b] for x in a]
    assert np.allclose(iou(a, b), expected, atol=1e-6)
    assert not iou(a, b)[:, 0].any()


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.7])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_suppression_equals_the_loop(threshold, seed):
    """By class and over all, the same boxes stay in the same order as in the textbook loop."""
    boxes = random_boxes(seed, 60)
    draw = np.random.default_rng(seed)
    scores = draw.integers(0, 12, 60) / 12  # ties on purpose
    classes = draw.integers(0, 3, 60)
    assert suppress(boxes, scores, threshold, classes).tolist() == loop_nms(boxes, scores, threshold, classes)
    assert suppress(boxes, scores, threshold).tolist() == loop_nms(boxes, scores, threshold, [0] * 60)


def test_suppression_equals_torchvision():
    """torchvision's own NMS keeps the same boxes."""
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    boxes = random_boxes(5, 80)
    scores = np.random.default_rng(5).permutation(80) / 80
    kept = torchvision.ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.4)
    assert suppress(boxes, scores, 0.4).tolist() == kept.tolist()


def test_nothing_in_nothing_out():
    """No boxes are suppressed to no boxes."""
    assert suppress(np.zeros((0, 4)), np.zeros(0), 0.5).shape == (0,)


def test_a_box_within_a_better_one_of_its_class_goes():
    """The inner box goes where it is worse and of the same class, and stays in every other case."""
    boxes = np.array([[0, 0, 100, 100], [10, 10, 30, 30], [90, 90, 120, 120]], float)
    assert drop_contained(boxes, np.array([0.9, 0.5, 0.4]), 0.9, np.zeros(3)).tolist() == [0, 2]
    assert drop_contained(boxes, np.array([0.9, 0.5, 0.4]), 0.9, np.array([0, 1, 0])).tolist() == [0, 1, 2]
    assert drop_contained(boxes, np.array([0.5, 0.9, 0.4]), 0.9, np.zeros(3)).tolist() == [1, 0, 2]


def test_growing_keeps_the_centre_and_the_picture():
    """Far from the border the sides scale about the centre; at the border the box is cut."""
    assert grow(np.array([[40, 40, 60, 50]]), 1.5, 100, 100).tolist() == [[35, 37.5, 65, 52.5]]
    assert grow(np.array([[0, 0, 60, 50]]), 1.5, 100, 60).tolist() == [[0, 0, 75, 60]]
    assert within(np.array([[-5, 2, 120, 70]]), 100, 60).tolist() == [[0, 2, 100, 60]]
    assert area(np.array([[3, 3, 1, 9]])).tolist() == [0]
