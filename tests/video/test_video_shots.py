"""Shots from embeddings alone, against all ways to cut a short video and against planted cuts."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from clipkit.video.pooling import unit
from clipkit.video.shots import STILL, WINDOW, shots


def scenes(lengths, seed=0, dimensions=64, scatter=0.05):
    """Unit frames: around one direction of chance a scene."""
    rng = np.random.default_rng(seed)
    means = [unit(rng.normal(size=dimensions).astype(np.float32)) for _ in lengths]
    frames = [m + rng.normal(0, scatter, (n, dimensions)) for m, n in zip(means, lengths, strict=True)]
    return unit(np.concatenate(frames).astype(np.float32))


@pytest.mark.parametrize("seed", range(8))
def test_no_other_cutting_is_cheaper(seed):
    """Scatter around the shots' means plus the price of each: the least over every set of borders."""
    rng = np.random.default_rng(seed)
    frames = scenes(rng.integers(1, 5, 3), seed, dimensions=6, scatter=0.25)
    count = len(frames)
    steps = np.sort([0.5 * np.sum((b - a) ** 2) for a, b in pairwise(frames)])
    price = max(STILL, np.median(steps)) * (np.log(count) + 1)

    def cost(borders):
        parts = np.split(frames.astype(np.float64), borders)
        return sum(((part - part.mean(0)) ** 2).sum() + price for part in parts)

    every = [cut for size in range(count) for cut in combinations(range(1, count), size)]
    found = shots(frames)
    assert found[0] == 0
    assert found[-1] == count
    assert cost(found[1:-1]) == pytest.approx(min(cost(cut) for cut in every), rel=1e-5)


@pytest.mark.parametrize(
    "lengths", [(10, 10, 14, 10, 10), (3, 30, 4), (60,), (1, 20), (WINDOW - 3, 9, 700, 40), (3 * WINDOW,), (WINDOW, 5)]
)
def test_planted_cuts_are_found(lengths):
    """Every scene is a shot and nothing else is, also where a window of the segmentation ends within one."""
    assert shots(scenes(lengths)).tolist() == [0, *np.cumsum(lengths)]


def test_a_still_video_is_one_shot():
    """Frames that differ by rounding have no cuts; no frame, no shot."""
    frames = np.repeat(scenes((1,)), 50, axis=0).astype(np.float16).astype(np.float32)
    frames += np.random.default_rng(0).normal(0, 1e-4, frames.shape).astype(np.float32)
    assert shots(unit(frames)).tolist() == [0, 50]
    assert shots(frames[:1]).tolist() == [0, 1]
    assert shots(frames[:0]).tolist() == [0]
