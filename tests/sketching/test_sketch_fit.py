"""The optimiser: plain Adam, honest snapshots, halving, and a run that can be cut anywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sketch_truth import PixelObjective, random_strokes

from clipkit.errors import InputError
from clipkit.sketching.checkpoint import fingerprint, load_state, save_state
from clipkit.sketching.fit import Fit, FitOptions
from clipkit.sketching.paint import tensors
from clipkit.sketching.rasterize import render
from clipkit.sketching.strokes import CANVAS, Strokes

SIZE = 56


def black(count, seed):
    return Strokes.black(random_strokes(count, CANVAS, seed)[0].numpy(), 12.0)


def picture(strokes):
    return render(*tensors(strokes, SIZE), SIZE, SIZE)


@pytest.fixture
def objective():
    return PixelObjective(picture(black(4, 99)))


def test_steps_are_adams(objective):
    """Without augmentation the parameters after some steps are those of torch.optim.Adam."""
    start = black(3, 1)
    objective.training = lambda pictures, _: (objective._loss(pictures), objective._loss(pictures).detach())
    fit = Fit(objective, [start], FitOptions(steps=6, learning_rate=0.7))
    leaf = torch.from_numpy(start.points)[None].requires_grad_()
    adam = torch.optim.Adam([leaf], lr=0.7)
    for _ in range(6):
        fit.advance()
        adam.zero_grad()
        scale = SIZE / CANVAS
        ink = torch.tensor([0.0, 1.0]).expand(1, 3, 2)
        objective._loss(render(leaf * scale, torch.full((1, 3), 12.0 * scale), ink, SIZE, SIZE)).sum().backward()
        adam.step()
    assert torch.allclose(fit._values["points"], leaf.detach(), atol=1e-3)


def test_the_best_sketch_is_the_one_that_was_scored(objective):
    """Rendering the kept strokes gives exactly the kept loss, for every seed."""
    fit = Fit(objective, [black(4, s) for s in (1, 2, 3)], FitOptions(steps=25))
    assert fit.run()
    for strokes, loss in zip(fit.best, fit.best_loss, strict=True):
        assert float(objective.plain(picture(strokes))[0]) == pytest.approx(loss, abs=1e-6)
    assert min(fit.best_loss) == fit.best_loss[fit.leader] < 0.8 * min(fit.first_loss)


def test_seeds_in_a_batch_are_seeds_alone(objective):
    """A sketch takes the same way whichever others run beside it."""
    options = FitOptions(steps=10)
    objective.training = lambda pictures, _: (objective._loss(pictures), objective._loss(pictures).detach())
    together = Fit(objective, [black(4, 1), black(4, 2)], options)
    together.run()
    for i, seed in enumerate((1, 2)):
        alone = Fit(objective, [black(4, seed)], options)
        alone.run()
        assert np.allclose(alone.best[0].points, together.best[i].points, atol=1e-3)


def test_halving_keeps_the_leader(objective):
    """After `halve_at` steps only the best seed moves, and the others keep what they reached."""
    fit = Fit(objective, [black(4, s) for s in range(3)], FitOptions(steps=12, halve_at=5))
    for _ in range(5):
        fit.advance()
    leader, reached = fit.alive, list(fit.best_loss)
    assert leader == [int(np.argmin(reached))]
    fit.run()
    assert all(fit.best_loss[i] == reached[i] for i in range(3) if i != leader[0])


def test_widths_and_colours_are_learned_within_bounds(objective):
    """Learned widths and colours move and stay in range; kept ones do not move."""
    target = torch.ones(1, 3, SIZE, SIZE)
    target[:, 0, 10:40, 10:40] = 0.2
    fit = Fit(PixelObjective(target), [black(4, 1)], FitOptions(steps=30, width_rate=2.0, color_rate=0.1))
    fit.run()
    final = fit._values
    assert ((final["color"] >= 0) & (final["color"] <= 1)).all()
    assert final["color"].max() > 0.05
    assert ((final["width"] >= 0.3) & (final["width"] <= 20)).all()
    kept = Fit(objective, [black(4, 1)], FitOptions(steps=3))
    kept.run()
    assert (kept.best[0].width == 12.0).all()
    assert (kept.best[0].color == 0).all()


@pytest.mark.parametrize("cut", [1, 7, 13])
def test_resuming_equals_not_stopping(objective, tmp_path, cut):
    """State written between any two steps, through a file, leads to bit-identical strokes and losses."""
    options = FitOptions(steps=20, halve_at=10, width_rate=0.1)

    def fresh():
        return Fit(objective, [black(4, s) for s in range(2)], options, seed=3)

    whole = fresh()
    whole.run()
    first = fresh()
    assert not first.run(should_stop=lambda: first.step >= cut)
    save_state(tmp_path / "state.npz", first.state(), {"mark": "m"})
    arrays, _ = load_state(tmp_path / "state.npz", "m")
    second = fresh()
    second.load(arrays)
    assert second.run()
    assert second.best_loss == whole.best_loss
    assert second.history == whole.history
    for a, b in zip(whole.best, second.best, strict=True):
        assert np.array_equal(a.points, b.points)
        assert np.array_equal(a.width, b.width)


def test_frozen_strokes_lie_under_the_fitted_ones():
    """Fitting over frozen black strokes scores the picture of both together."""
    under, over = black(3, 5), black(2, 6)
    objective = PixelObjective(torch.ones(1, 1, SIZE, SIZE))
    fit = Fit(objective, [over], FitOptions(steps=1), under=under)
    assert torch.allclose(fit.pictures(fit._values), picture(under.followed_by(over)), atol=1e-6)


def test_rates_fall_only_when_asked():
    """Constant as published, or a half cosine to a tenth over the last half."""
    assert FitOptions(steps=100).rate(99) == 1.0
    decaying = FitOptions(steps=100, decay=True)
    rates = [decaying.rate(step) for step in range(101)]
    assert rates[:51] == [1.0] * 51
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert rates[100] == pytest.approx(0.1)


def test_states_of_other_runs_are_refused(tmp_path):
    """A state with another mark, a damaged file and no file are told apart."""
    path = tmp_path / "state.npz"
    assert load_state(path, "a") is None
    save_state(path, {"x": np.arange(3)}, {"mark": "a", "stage": 0})
    assert load_state(path, "a")[0]["x"].tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="other options"):
        load_state(path, "b")
    path.write_bytes(b"PK nonsense")
    with pytest.raises(InputError, match="damaged"):
        load_state(path, "a")
    photo = np.zeros((4, 4, 3), np.float32)
    assert fingerprint(photo, "a", "b") != fingerprint(photo, "ab")
    assert fingerprint(photo, "a") != fingerprint(photo + 1, "a")
