"""Drawing order and the number of strokes, on a target whose strokes are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sketch_truth import PixelObjective, random_strokes

from clipkit.sketching.fit import Fit, FitOptions
from clipkit.sketching.order import greedy_order, order_losses
from clipkit.sketching.paint import paint, tensors
from clipkit.sketching.pictures import frames
from clipkit.sketching.prune import Level, prune
from clipkit.sketching.rasterize import render
from clipkit.sketching.recipe import Recipe
from clipkit.sketching.strokes import CANVAS, Strokes

SIZE = 48


def known(count=12, seed=4):
    return Strokes.black(random_strokes(count, CANVAS, seed, spread=0.5)[0].numpy(), 6.0)


def objective_for(strokes):
    return PixelObjective(render(*tensors(strokes, SIZE), SIZE, SIZE))


def test_greedy_order_beats_random_order():
    """The area under loss against strokes is at most that of every random order; the ends agree."""
    strokes = known()
    objective = objective_for(strokes)
    order, losses = greedy_order(strokes, objective)
    assert sorted(order) == list(range(12))
    assert losses == pytest.approx(order_losses(strokes, order, objective), abs=1e-6)
    assert losses[-1] == pytest.approx(0.0, abs=1e-6)
    rng = np.random.default_rng(0)
    for _ in range(10):
        assert sum(losses) <= sum(order_losses(strokes, list(rng.permutation(12)), objective))


def test_most_of_the_gain_comes_early():
    """Where half the strokes are details, nine tenths of the gain are drawn by the eighth of twelve."""
    strokes = known(seed=5)
    strokes.points[::2] = strokes.points[::2, :1] + 0.3 * (strokes.points[::2] - strokes.points[::2, :1])
    _, losses = greedy_order(strokes, objective_for(strokes))
    assert losses[0] - losses[8] >= 0.9 * (losses[0] - losses[-1])


def test_frames_grow_by_one_stroke():
    """Frame k shows the first k strokes of the order; the last one is the finished picture."""
    strokes = known(6)
    order = [3, 0, 5, 1, 4, 2]
    pictures = frames(strokes, order, 48)
    assert len(pictures) == 6
    for k, frame in enumerate(pictures, 1):
        assert np.array_equal(frame, paint(strokes.subset(sorted(order[:k])), 48))
    assert np.array_equal(pictures[-1], paint(strokes, 48))
    ink = [int((255 - frame.astype(int)).sum()) for frame in pictures]
    assert ink == sorted(ink)


@pytest.fixture(scope="module")
def too_many():
    """Thirty-two strokes fitted to a drawing of twelve, begun on it as saliency would begin them."""
    target = known(seed=5)
    objective = objective_for(target)
    rng = np.random.default_rng(1)
    along = target.points[rng.integers(0, 12, 32), rng.integers(0, 4, 32)]
    guess = along[:, None] + np.concatenate((np.zeros((32, 1, 2)), rng.normal(0, 8, (32, 3, 2)).cumsum(1)), 1)
    first = Fit(objective, [Strokes.black(guess.astype(np.float32), 6.0)], FitOptions(steps=150, decay=True))
    first.run()
    return objective, Level(first.best[0], first.best_loss[0])


@pytest.fixture(scope="module")
def way_down(too_many):
    """From there down, at the default tolerance."""
    objective, start = too_many
    return prune(start, objective, FitOptions(steps=60, decay=True), epsilon=Recipe().epsilon)


def test_auto_finds_about_twelve(way_down):
    """A drawing of twelve strokes needs ten to fourteen."""
    assert 10 <= len(way_down[-1].strokes) <= 14, [(len(level.strokes), level.loss) for level in way_down]


def test_auto_is_near_the_best_fixed_count(too_many, way_down):
    """The loss auto settles for is at most 5 % of the gain worse than the best of 4, 8, 16 and 32 strokes."""
    objective, start = too_many
    fixed = [start.loss]
    for count in (4, 8, 16):
        fit = Fit(objective, [start.strokes.subset(range(count))], FitOptions(steps=150, decay=True))
        fit.run()
        fixed.append(fit.best_loss[0])
    blank = float(objective.plain(torch.ones(1, 1, SIZE, SIZE))[0])
    assert way_down[-1].loss <= min(fixed) + 0.05 * (blank - min(fixed))


def test_a_wider_tolerance_never_needs_more_strokes(too_many):
    """The way down is one and the same; a larger epsilon goes further along it."""
    objective, start = too_many
    ways = [prune(start, objective, FitOptions(steps=5), epsilon=epsilon) for epsilon in (0.0, 0.02, 0.2)]
    counts = [len(way[-1].strokes) for way in ways]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]
    for shorter, longer in itertools.pairwise(ways):
        for a, b in zip(shorter, longer, strict=False):
            assert a.loss == b.loss
