"""Words for distances: the softmax-weighted bins, and ladders that are refused."""

import math

import numpy as np
import pytest
from support.fake import FakeClip

from clipkit.depth.ladder import BINS, WORDS, Ladder
from clipkit.errors import UsageError
from clipkit.prompts.templates import fill


def test_expected_depth_by_hand():
    """softmax(100 cos / T) over the words, times the bins, term by term."""
    cosines = np.array([0.21, 0.2, 0.215, 0.19, 0.205, 0.2, 0.21], np.float32)
    weights = [math.exp(100 * float(c) / 0.5) for c in cosines]
    by_hand = sum(w * b for w, b in zip(weights, BINS, strict=True)) / sum(weights)
    assert Ladder(temperature=0.5).expected(cosines) == pytest.approx(by_hand, abs=1e-5)


def test_temperature_moves_between_the_mean_and_the_best_word():
    """A hot ladder knows nothing and says the bins' mean; a cold one says the best word's bin."""
    cosines = np.array([0.1, 0.1, 0.3, 0.1, 0.1, 0.1, 0.1], np.float32)
    assert Ladder(temperature=1e6).expected(cosines) == pytest.approx(sum(BINS) / 7, abs=1e-4)
    assert Ladder(temperature=1e-3).expected(cosines) == pytest.approx(2.0, abs=1e-6)


def test_depth_stays_within_the_bins():
    """Whatever the cosines, no depth leaves the bins, and none is NaN."""
    cosines = np.random.default_rng(0).uniform(-1, 1, (40, 30, 7)).astype(np.float32)
    for temperature in (1e-6, 0.1, 10.0):
        depth = Ladder(temperature=temperature).expected(cosines)
        assert depth.shape == (40, 30)
        assert depth.dtype == np.float32
        assert depth.min() >= 1.0
        assert depth.max() <= 3.0


def test_prompts_are_the_papers():
    """`This object is giant`, ..., normalised; several templates are averaged and normalised again."""
    clip = FakeClip(dim=8)
    one = Ladder().vectors(clip)
    by_hand = np.stack([clip.vector(f"This object is {word}") for word in WORDS])
    np.testing.assert_allclose(one, by_hand / np.linalg.norm(by_hand, axis=1, keepdims=True), atol=1e-6)
    templates = ("This object is {}", "It is {}")
    two = Ladder(templates=templates).vectors(clip)
    mean = np.mean(
        [[FakeClip._unit(clip.vector(fill(t, w)), normalize=True) for w in WORDS] for t in templates], axis=0
    )
    np.testing.assert_allclose(two, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"words": ("near",), "bins": (1.0,)},
        {"words": ("near", "far")},
        {"words": ("near", " "), "bins": (1.0, 2.0)},
        {"bins": (0.0, *BINS[1:])},
        {"bins": (math.nan, *BINS[1:])},
        {"temperature": 0.0},
    ],
)
def test_ladders_that_mean_nothing(wrong):
    """Another number of bins, empty words, distances or temperatures that are not positive: one clear error."""
    with pytest.raises(UsageError, match="words|bins|temperature"):
        Ladder(**wrong)
