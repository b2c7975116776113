"""Errors equal hand-computed values, and the NYU protocol counts the pixels it says."""

import math

import numpy as np
import pytest

from clipkit.depth.metrics import Errors, errors, mean_errors, median_scaled
from clipkit.depth.protocol import NYU_INPUT, Protocol
from clipkit.errors import InputError


def f32(*values):
    return np.array(values, np.float32)


def test_errors_by_hand():
    """Four pixels, every number worked out on paper."""
    found = errors(f32(1, 2, 4, 2), f32(1.2, 2, 2, 3.2))
    # ratios 1.2, 1, 2, 1.6; differences .2, 0, 2, 1.2
    assert found.delta1 == pytest.approx(2 / 4)
    assert found.delta2 == pytest.approx(2 / 4)
    assert found.delta3 == pytest.approx(3 / 4)
    assert found.abs_rel == pytest.approx((0.2 + 0 + 0.5 + 0.6) / 4, abs=1e-6)
    assert found.rmse == pytest.approx(math.sqrt((0.04 + 0 + 4 + 1.44) / 4), abs=1e-6)
    assert found.log10 == pytest.approx((math.log10(1.2) + 0 + math.log10(2) + math.log10(1.6)) / 4, abs=1e-6)


def test_deltas_are_strict():
    """A ratio of exactly 1.25 does not count for delta1, whichever way round."""
    assert errors(f32(1, 1.25), f32(1.25, 1)).delta1 == 0
    assert errors(f32(1), f32(1.2499)).delta1 == 1


def test_means_count_every_map_the_same():
    """A map of few pixels weighs as much as one of many."""
    one, two = errors(f32(1), f32(2)), errors(f32(1, 1, 1), f32(1, 1, 1))
    assert mean_errors([one, two]) == Errors(0.5, 0.5, 0.5, 0.5, 0.5, pytest.approx(math.log10(2) / 2, abs=1e-7))


def test_median_scaling():
    """A map that is wrong by a factor alone is right after scaling; a constant becomes the median."""
    truth = f32(1, 2, 3, 4, 8)
    np.testing.assert_allclose(median_scaled(truth, truth * 7), truth, rtol=1e-6)
    np.testing.assert_allclose(median_scaled(truth, np.full(5, 0.4, np.float32)), np.full(5, 3.0), rtol=1e-6)


def test_no_pixels():
    """Nothing to compare is an error, not a NaN."""
    with pytest.raises(ValueError, match="no pixels"):
        errors(f32(), f32())


def test_nyu_counts_what_lies_in_both_frames():
    """Rows 56 to 470 and columns 60 to 600: the shown part, within Eigen's rows and columns. Pixel by pixel."""
    truth = np.arange(480 * 640, dtype=np.float32).reshape(480, 640) / (480 * 640) * 8 + 1
    predicted = truth[NYU_INPUT].copy()
    measured, found = Protocol().scored(truth, predicted)
    by_hand = [
        truth[row, column] for row in range(480) for column in range(640) if 56 <= row < 471 and 60 <= column < 601
    ]
    np.testing.assert_array_equal(measured, np.array(by_hand, np.float32))
    np.testing.assert_array_equal(found, measured)


def test_holes_and_caps():
    """Holes, NaN, the cap itself and what is beyond it do not count; predictions are moved into the range."""
    truth = f32(0, 1e-3, math.nan, 10, 12, 2, 5)[None]
    predicted = f32(1, 1, 1, 1, 1, 50, 4)[None]
    protocol = Protocol("none")
    measured, found = protocol.scored(truth, predicted)
    np.testing.assert_array_equal(measured, f32(2, 5))
    assert protocol.capped(found).tolist() == [10.0, 4.0]
    plain, scaled = protocol.compare(truth, predicted)
    assert plain.abs_rel == pytest.approx((4 + 0.2) / 2)
    # medians 3.5 and 27: the scaled prediction is 6.48 and 0.519
    assert scaled.abs_rel == pytest.approx((50 * 3.5 / 27 / 2 - 1 + 1 - 4 * 3.5 / 27 / 5) / 2, abs=1e-5)


def test_sizes_that_do_not_fit():
    """Another size than NYU's, or a map of another size than its picture, is told in one line."""
    with pytest.raises(InputError, match="640 x 480"):
        Protocol().shown(np.zeros((500, 741, 3), np.uint8))
    with pytest.raises(InputError, match="the measured map is 4 x 3, the picture 5 x 3"):
        Protocol("none").scored(np.ones((3, 4), np.float32), np.ones((3, 5), np.float32))
    with pytest.raises(InputError, match="depth-scale"):
        Protocol("none").scored(np.full((3, 4), 2000, np.float32), np.ones((3, 4), np.float32))
    assert Protocol().shown(np.zeros((480, 640, 3), np.uint8)).shape == (416, 544, 3)
