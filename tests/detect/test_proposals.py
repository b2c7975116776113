"""Boxes from maps: known blobs come back, ranks equal plain sums."""

import numpy as np
import pytest

from clipkit.detection.boxes import iou
from clipkit.detection.proposals import Sums, contrast, propose


def blobs(height=60, width=80):
    """Two maps: one with two blobs that do not touch, one with a slope."""
    maps = np.full((2, height, width), 0.05)
    maps[0, 10:30, 5:25] = 0.9
    maps[0, 40:55, 50:70] = 0.8
    maps[1] = np.linspace(0.05, 0.06, width)
    return maps


def test_blobs_come_back_to_the_cell():
    """Each blob is a proposal of its own with exactly its cells, before anything of the flat map."""
    found = propose(blobs())
    assert found.classes[:2].tolist() == [0, 0]
    assert {tuple(box) for box in found.boxes[:2].tolist()} == {(5, 10, 25, 30), (50, 40, 70, 55)}


def test_corners_that_touch_are_one_part():
    """Parts are 8-connected: two squares that share a corner make one box."""
    maps = np.zeros((1, 20, 20))
    maps[0, 2:6, 2:6] = maps[0, 6:10, 6:10] = 1
    assert propose(maps).boxes.tolist() == [[2, 2, 10, 10]]


def test_grain_is_dropped():
    """A part under a thousandth of the picture is no proposal."""
    maps = np.zeros((1, 100, 100))
    maps[0, 5:8, 5:8] = 1
    maps[0, 50:60, 50:60] = 0.9
    assert propose(maps).boxes.tolist() == [[50, 50, 60, 60]]


def test_means_and_rings_equal_loops():
    """Integral images give the means, and the contrast, that summing cell by cell gives."""
    maps = np.random.default_rng(0).random((3, 20, 30))
    boxes = np.array([[3, 4, 9, 12], [0, 0, 30, 20], [20, 10, 30, 20]])
    classes = np.array([0, 2, 1])
    sums = Sums(maps)
    means, rings = [], []
    for (x0, y0, x1, y1), c in zip(boxes, classes, strict=True):
        inside = maps[c, y0:y1, x0:x1]
        cx, cy, w, h = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) * 0.75, (y1 - y0) * 0.75
        X0, Y0 = int(max(np.floor(cx - w), 0)), int(max(np.floor(cy - h), 0))
        X1, Y1 = int(min(np.ceil(cx + w), 30)), int(min(np.ceil(cy + h), 20))
        around = [maps[c, y, x] for y in range(Y0, Y1) for x in range(X0, X1) if not (x0 <= x < x1 and y0 <= y < y1)]
        means.append(inside.mean())
        rings.append(inside.mean() - (np.mean(around) if around else 0))
    assert np.allclose(sums.means(boxes, classes), means, atol=1e-9)
    assert np.allclose(sums.means(boxes)[classes, np.arange(3)], means, atol=1e-9)
    assert np.allclose(contrast(sums, boxes, classes, 30, 20), rings, atol=1e-9)


@pytest.mark.parametrize("ranking", ["standout", "contrast", "mean"])
def test_rankings_agree_on_a_plain_blob(ranking):
    """Every ranking puts a lone blob first, and no more boxes come than were asked for."""
    found = propose(blobs(), ranking=ranking, most=3)
    assert iou(found.boxes[:1], np.array([[5, 10, 25, 30]]))[0, 0] == 1
    assert len(found.boxes) <= 3


def test_only_some_maps_are_looked_at():
    """`only` limits the classes of the answer."""
    assert set(propose(blobs(), only=[1]).classes.tolist()) == {1}
