"""Overlays: the mask's colours over the picture, and a legend."""

import numpy as np
import pytest
from test_mask_exports import blobs, regions_of

from clipkit.output.overlay import borders, overlay, percent
from clipkit.output.palette import palette


def grey(height, width):
    return np.full((height, width, 3), 128, np.uint8)


def test_inside_is_half_the_colour():
    """Inside a region a pixel is half picture, half the class's colour; borders are the full colour; background is left."""
    mask = np.zeros((60, 300), np.uint8)
    mask[10:50, 20:120] = 2
    found = np.asarray(overlay(grey(60, 300), mask, [], labels=3)).astype(int)
    colour = palette(4)[2].astype(int)
    np.testing.assert_allclose(found[15, 30], (128 + colour) / 2, atol=1)
    np.testing.assert_array_equal(found[10, 60], colour)
    np.testing.assert_array_equal(found[5, 5], [128] * 3)


def test_the_legend_shows_every_class():
    """Under the picture each class has a swatch of its colour, whatever the width; the picture itself is not covered."""
    mask = blobs(80, 260, 5)
    regions = regions_of(mask)
    picture = overlay(grey(80, 260), mask, regions, labels=4)
    legend = np.asarray(picture)[80:]
    assert picture.width == 260
    for region in regions:
        assert (legend == palette(5)[region.value]).all(axis=2).sum() > 50
    assert (legend.sum(axis=2) < 200).sum() > 50  # ink


@pytest.mark.parametrize("size", [(1, 1), (17, 900), (900, 17), (3000, 40), (40, 60)])
def test_any_size(size):
    """Thin and tiny pictures have overlays wide enough to read; large ones are drawn at 1600 pixels."""
    mask = np.ones(size, np.uint8)
    drawn = overlay(grey(*size), mask, regions_of(mask), labels=1)
    assert drawn.width >= 200
    assert drawn.width <= 1600
    assert drawn.height <= 1600 + 200


def test_an_empty_mask_says_so():
    """Without any class the legend has a line of text, no swatch."""
    drawn = np.asarray(overlay(grey(50, 220), np.zeros((50, 220), np.uint8), [], labels=2))
    assert (drawn[:50] == 128).all()
    assert (drawn[50:].sum(axis=2) < 200).any()


def test_long_names_are_cut_to_the_width():
    """A label longer than the picture is wide is cut, and the drawing ends."""
    mask = np.ones((40, 60), np.uint8)
    region = regions_of(mask)[0]
    object.__setattr__(region, "label", "a very long label " * 20)
    assert overlay(grey(40, 60), mask, [region], labels=1).width == 200


def test_borders_by_loops():
    """A border pixel has a neighbour (up, down, left, right) of another value."""
    mask = blobs(12, 15, 3)
    expected = np.zeros(mask.shape, bool)
    for y in range(12):
        for x in range(15):
            near = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            expected[y, x] = any(0 <= a < 12 and 0 <= b < 15 and mask[a, b] != mask[y, x] for a, b in near)
    np.testing.assert_array_equal(borders(mask), expected)


def test_shares_for_people():
    """Shares are shown with the digits that matter."""
    assert [percent(v) for v in (0.5, 0.123, 0.0461, 0.0002)] == ["50 %", "12 %", "4.6 %", "<0.1 %"]
