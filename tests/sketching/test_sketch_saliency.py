"""Where strokes begin, and what the object is."""

from __future__ import annotations

import numpy as np
import pytest

from clipkit.sketching.masking import choose_mask, grabcut, over_white
from clipkit.sketching.saliency import draw_starts, start_probability, stretched, xdog
from clipkit.sketching.tracing import fit_cubic, traced_starts

SIDE = 96


def disc(radius=26, centre=(48, 48)):
    y, x = np.mgrid[:SIDE, :SIDE]
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2


def scene(rng=None):
    rng = rng or np.random.default_rng(0)
    rgb = np.full((SIDE, SIDE, 3), (0.2, 0.5, 0.25), np.float32)
    rgb[disc()] = (0.85, 0.45, 0.2)
    return (rgb + rng.normal(0, 0.03, rgb.shape)).clip(0, 1).astype(np.float32)


def blurred(grey, deviation):
    reach = int(4 * deviation + 0.5)
    weight = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    weight /= weight.sum()
    for axis in (0, 1):
        padding = [(reach, reach) if a == axis else (0, 0) for a in (0, 1)]
        padded = np.pad(grey, padding, mode="symmetric")
        size = grey.shape[axis]
        grey = sum(w * np.take(padded, range(i, i + size), axis) for i, w in enumerate(weight))
    return grey


def test_xdog_is_its_formula():
    """The soft threshold of a difference of Gaussians, written with plain sums, binarised where Otsu's variance is largest."""
    grey = ((scene() @ np.asarray([0.2125, 0.7154, 0.0721], np.float32)) - 0.45) / 0.27
    difference = blurred(grey, 0.8) - 0.98 * blurred(grey, 8.0)
    soft = np.where(difference < -0.1, 1.0, 1.0 + np.tanh(200 * difference))
    scaled = (soft - soft.min()) / (soft.max() - soft.min())
    levels = np.linspace(0, 1, 257)[1:-1]
    between = []
    for level in levels:
        above = scaled > level
        share = above.mean()
        apart = scaled[above].mean() - scaled[~above].mean() if 0 < share < 1 else 0.0
        between.append(share * (1 - share) * apart**2)
    expected = scaled > levels[int(np.argmax(between))]
    assert (xdog(grey.astype(np.float32)) == expected).mean() > 0.99


def test_strokes_begin_on_attended_edges():
    """Probabilities sum to one, are largest where attention is, and zero off the mask."""
    attention = np.tile(np.linspace(0, 1, SIDE, dtype=np.float32), (SIDE, 1))
    chance = start_probability(attention, scene(), mask=disc().astype(np.float32))
    assert chance.sum() == pytest.approx(1.0)
    assert (chance[~disc()] == 0).all()
    assert chance.max() / chance[chance > 0].min() > 2


def test_softmax_with_temperature():
    """On given lines the chance is softmax(attention / 0.3) over the lines."""
    attention = np.linspace(0.1, 1, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    lines = np.zeros((SIDE, SIDE), bool)
    lines[[10, 50], :] = True
    chance = start_probability(attention, scene(), lines=lines)
    expected = np.exp(attention[lines].astype(float) / 0.3)
    assert np.allclose(chance[lines], expected / expected.sum())


def test_a_picture_without_edges_still_has_starts():
    """Constant attention on a flat picture is uniform, not an error."""
    chance = start_probability(np.ones((SIDE, SIDE), np.float32), np.full((SIDE, SIDE, 3), 0.5, np.float32))
    assert chance.sum() == pytest.approx(1.0)
    assert np.count_nonzero(chance) >= 64
    assert (stretched(np.full((3, 3), 7.0, np.float32)) == 1).all()


def test_first_guesses_are_short_chains():
    """Starts are distinct pixels of the map; each step is at most 2.5 % of the canvas an axis; the seed decides."""
    chance = np.zeros((SIDE, SIDE))
    chance[30:34, 40:44] = 1 / 16
    points = draw_starts(chance, 16, 224.0, np.random.default_rng(3))
    pixels = points[:, 0] * SIDE / 224
    assert len({tuple(p) for p in np.floor(pixels).astype(int).tolist()}) == 16
    assert ((pixels >= [40, 30]) & (pixels <= [44, 34])).all()
    assert np.abs(np.diff(points, axis=1)).max() <= 0.025 * 224 + 1e-4
    assert np.array_equal(points, draw_starts(chance, 16, 224.0, np.random.default_rng(3)))
    assert draw_starts(chance, 40, 224.0, np.random.default_rng(3)).shape == (40, 4, 2)


def test_traced_guesses_lie_on_the_lines():
    """Guesses follow a circle within two pixels, share it, and go on as short chains where no line is left."""
    y, x = np.mgrid[:SIDE, :SIDE]
    ring = np.abs(np.hypot(x - 48, y - 48) - 30) < 0.5
    chance = ring / ring.sum()
    points = traced_starts(ring, chance, 6, 224.0, np.random.default_rng(0)) * SIDE / 224
    t = np.linspace(0, 1, 20)[:, None]
    basis = np.concatenate(((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3), 1)
    curve = np.einsum("tk,nkd->ntd", basis, points) - 48.5
    assert np.abs(np.hypot(*curve.reshape(-1, 2).T) - 30).max() < 2
    angles = np.sort(np.arctan2(*curve.reshape(-1, 2).T))
    assert np.diff(angles).max() < 1.5
    assert traced_starts(ring, chance, 60, 224.0, np.random.default_rng(0)).shape == (60, 4, 2)


def test_a_cubic_is_fitted_to_its_own_points():
    """Points of a gentle cubic give it back; the ends are exact."""
    control = np.asarray([[0, 0], [10, 3], [20, -3], [30, 0]], float)
    t = np.linspace(0, 1, 60)[:, None]
    curve = np.concatenate(((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3), 1) @ control
    fitted = fit_cubic(curve)
    assert np.abs(fitted - control).max() < 1.0
    assert np.allclose(fitted[[0, 3]], control[[0, 3]])


def test_grabcut_finds_the_object_from_blurred_attention():
    """From attention that is coarse and shifted the object is found with an overlap of at least 0.8."""
    import cv2

    attention = cv2.GaussianBlur(disc(18, (56, 40)).astype(np.float32), (0, 0), 12)
    found = grabcut(scene(), stretched(attention), np.ones((SIDE, SIDE), bool)) > 0.5
    overlap = (found & disc()).sum() / (found | disc()).sum()
    assert overlap >= 0.8
    assert np.array_equal(found, grabcut(scene(), stretched(attention), np.ones((SIDE, SIDE), bool)) > 0.5)


def test_which_mask_wins():
    """Alpha before the file before attention; an implausible one leaves the whole picture and says so."""
    inside = np.ones((SIDE, SIDE), bool)
    alpha, given = disc().astype(np.float32), disc(10).astype(np.float32)
    attention = stretched(disc(18).astype(np.float32))

    def choose(**kinds):
        return choose_mask(scene(), inside, **({"alpha": None, "given": None, "attention": None} | kinds))

    assert choose(alpha=alpha, given=given, attention=attention).origin == "alpha"
    assert choose(given=given, attention=attention).values is given
    assert choose(attention=attention).origin == "attention"
    assert choose().values is None
    for share, word in ((disc(3), "almost nothing"), (np.ones_like(alpha), "almost everything")):
        refused = choose(given=share.astype(np.float32))
        assert refused.values is None
        assert word in refused.remark
    assert (over_white(scene(), alpha)[0, 0] == 1).all()
