"""How many strokes a picture needs: fit too many, take the least useful away, refit, until the loss minds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from clipkit.sketching.fit import Fit, FitOptions
from clipkit.sketching.order import subset_losses

if TYPE_CHECKING:
    from collections.abc import Callable

    from clipkit.sketching.losses import Objective
    from clipkit.sketching.rasterize import Renderer
    from clipkit.sketching.strokes import Strokes

MOST = 32
LEAST = 4
SHARE = 0.125  # of the strokes leave in one round


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """A sketch on the way down: its strokes and plain loss."""

    strokes: Strokes
    loss: float


def prune(
    first: Level,
    objective: Objective,
    options: FitOptions,
    *,
    epsilon: float,
    seed: int = 0,
    renderer: Renderer = "torch",
    should_stop: Callable[[], bool] | None = None,
    on_step: Callable[[Fit], None] | None = None,
) -> list[Level]:
    """Levels with fewer and fewer strokes; the last is the smallest that loses at most `epsilon` of the best one's gain.

    The gain of a sketch is what its loss is below a blank page's.

    The way down does not depend on `epsilon`, which only says how far to go: a larger one never gives more strokes.

    Args:
        first: a fitted sketch with more strokes than needed.
        objective: what was fitted.
        options: of each refit.
        epsilon: the share of the gain that may be lost.
        seed: of the refits' augmentations.
        renderer: a resolved rasteriser.
        should_stop: asked between steps; what is reached then is returned.
        on_step: called after every step of a refit.
    """
    levels = [first]
    best = first.loss
    blank = float(objective.plain(torch.ones(1, 1, objective.size, objective.size, device=objective.device))[0])
    while len(levels[-1].strokes) > LEAST:
        current = levels[-1].strokes
        leaving = max(1, int(len(current) * SHARE))
        kept = _without_least_useful(current, objective, max(LEAST, len(current) - leaving), renderer)
        fit = Fit(objective, [kept], replace(options, halve_at=None), seed=seed + len(levels), renderer=renderer)
        if not fit.run(on_step, should_stop):
            return levels
        level = Level(fit.best[0], fit.best_loss[0])
        best = min(best, level.loss)
        if level.loss > best + epsilon * (blank - best):
            return levels
        levels.append(level)
    return levels


def _without_least_useful(strokes: Strokes, objective: Objective, count: int, renderer: Renderer) -> Strokes:
    kept = list(range(len(strokes)))
    while len(kept) > count:
        without = [[i for i in kept if i != j] for j in kept]
        losses = subset_losses(strokes, without, objective, renderer=renderer)
        kept.pop(min(range(len(kept)), key=losses.__getitem__))
    return strokes.subset(kept)
