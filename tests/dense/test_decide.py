"""From maps to masks: strips, thresholds, aliases, small classes."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from clipkit.dense import decide as d
from clipkit.dense.decide import Maps, decide


def random_maps(q, h, w, seed=0, kind="softmax", owners=None, threshold=0.0):
    values = 3 * torch.randn(q, h, w, generator=torch.Generator().manual_seed(seed))
    return Maps(values, owners or tuple(range(1, q + 1)), kind, threshold)


@pytest.mark.parametrize("size", [(40, 61), (7, 5), (1, 1), (13, 200)])
def test_rows_equal_the_whole_interpolation(size):
    """Any strip of rows equals torch's bilinear interpolation cut to these rows, growing and shrinking."""
    values = torch.randn(3, 12, 17, generator=torch.Generator().manual_seed(0))
    whole = functional.interpolate(values[None], size=size, mode="bilinear", align_corners=False)[0]
    for top in range(0, size[0], 3):
        bottom = min(top + 3, size[0])
        torch.testing.assert_close(
            d.enlarge_rows(values, size, top, bottom), whole[:, top:bottom], atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "probability"])
def test_strips_do_not_show(monkeypatch, kind):
    """One strip a row gives the same mask, areas, scores and boxes as all rows at once."""
    maps = random_maps(4, 9, 8, kind=kind, threshold=0.3)
    whole = decide(maps, (30, 44))
    monkeypatch.setattr(d, "STRIP", 1)
    striped = decide(maps, (30, 44))
    np.testing.assert_array_equal(whole[0], striped[0])
    assert [(r.value, r.pixels, r.box) for r in whole[1]] == [(r.value, r.pixels, r.box) for r in striped[1]]
    np.testing.assert_allclose([r.score for r in whole[1]], [r.score for r in striped[1]], atol=1e-6)


def test_regions_by_loops():
    """Area, mean probability and box of every class, counted pixel by pixel."""
    maps = random_maps(3, 6, 7, owners=(0, 1, 2))
    mask, regions = decide(maps, (6, 7))
    probability = torch.softmax(maps.values, dim=0).numpy()
    assert sum(region.pixels for region in regions) == int((mask > 0).sum())
    for region in regions:
        ys, xs = np.nonzero(mask == region.value)
        assert region.pixels == len(ys)
        assert region.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        mean = np.mean([probability[region.value, y, x] for y, x in zip(ys, xs, strict=True)])
        assert region.score == pytest.approx(mean, abs=1e-5)


def test_the_best_alias_speaks_for_its_class():
    """A class with two queries takes a pixel as soon as one of them is the most probable."""
    values = torch.tensor([[[2.0]], [[0.0]], [[3.0]]])
    mask, regions = decide(Maps(values, (1, 2, 2)), (1, 1))
    assert mask[0, 0] == 2
    assert regions[0].score == pytest.approx(float(torch.softmax(values.flatten(), 0)[2]))


def test_under_the_threshold_is_background():
    """A pixel whose best probability is under the threshold is 0, at it is not."""
    maps = Maps(torch.tensor([[[0.4, 0.6]], [[0.2, 0.1]]]), (1, 2), "probability", 0.5)
    np.testing.assert_array_equal(decide(maps, (1, 2))[0], [[0, 1]])


def test_small_classes_give_their_pixels_to_the_next_best():
    """A class under the least area is gone from mask and regions; its pixels go to the second best class."""
    values = torch.zeros(3, 10, 10)
    values[0] = 1.0
    values[2] = 0.5
    values[1, 0, 0] = 5.0
    values[0, 0, 0] = -1.0
    maps = Maps(values, (1, 2, 3))
    assert decide(maps, (10, 10))[0][0, 0] == 2
    mask, regions = decide(maps, (10, 10), min_area=0.02)
    assert mask[0, 0] == 3 or mask[0, 0] == 1
    assert mask[0, 0] == 3
    assert 2 not in [region.value for region in regions]


def test_nothing_left_is_background():
    """When every class is too small, the mask is all 0 and there is no region."""
    mask, regions = decide(random_maps(2, 4, 4), (4, 4), min_area=1.0)
    assert not mask.any()
    assert regions == ()


def test_many_classes_take_sixteen_bits():
    """Up to 255 classes a mask has 8 bits, above 16."""
    assert decide(random_maps(255, 2, 2), (2, 2))[0].dtype == np.uint8
    values = torch.zeros(300, 1, 1)
    values[299] = 1
    mask, _ = decide(Maps(values, tuple(range(1, 301))), (3, 3))
    assert mask.dtype == np.uint16
    assert (mask == 300).all()
