"""One photograph to one sketch: the whole method, from attention to the best of all seeds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from clipkit.sketching.checkpoint import fingerprint, load_state, save_state
from clipkit.sketching.contours import ContourGuide, strongest_contours
from clipkit.sketching.fit import Fit
from clipkit.sketching.losses import ClipassoLoss
from clipkit.sketching.masking import Mask, choose_mask, over_white
from clipkit.sketching.paint import paint
from clipkit.sketching.prune import MOST, Level, prune
from clipkit.sketching.saliency import attention_map, draw_starts, start_probability
from clipkit.sketching.strokes import CANVAS, Strokes
from clipkit.sketching.tracing import traced_starts

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from clipkit.sketching.features import Tower
    from clipkit.sketching.photo import Photo
    from clipkit.sketching.rasterize import Renderer
    from clipkit.sketching.recipe import Recipe

SAVE_EVERY = 100  # steps
GUESSED_OUTSIDE = 0.4  # interest in contours off an object that was only guessed
REFIT_SHARE = 0.25  # of the steps, for each round of `--strokes auto`


class Watcher(Protocol):
    """Who looks on while a sketch is drawn."""

    def on_step(self, fit: Fit, done: int, total: int, under: Strokes | None) -> None:
        """After each step: the fit, its steps so far and in all, and the strokes that are fixed already."""

    def should_stop(self) -> bool:
        """Asked between steps; True ends the drawing with what there is."""


class Nobody:
    """Looks away and never stops anything."""

    def on_step(self, fit: Fit, done: int, total: int, under: Strokes | None) -> None:
        """Nothing."""

    def should_stop(self) -> bool:
        """Never."""
        return False


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A finished (or interrupted) sketch.

    Attributes:
        strokes: the best sketch.
        loss: its loss on the plain picture.
        first_loss: the lowest loss among the first guesses.
        seed: index of the seed that won.
        candidates: every seed's best sketch and loss.
        levels: strokes and loss of each round of `--strokes auto`.
        history: the best loss so far, a value a step.
        mask: what was cut out.
        photo: (S, S, 3) what was drawn, the background white where masked.
        objective: the loss, for ordering strokes.
        complete: False where it was interrupted.
    """

    strokes: Strokes
    loss: float
    first_loss: float
    seed: int
    candidates: tuple[tuple[Strokes, float], ...]
    levels: tuple[tuple[int, float], ...]
    history: tuple[float, ...]
    mask: Mask
    photo: NDArray[np.float32]
    objective: ClipassoLoss
    complete: bool = True


def draw(
    photo: Photo,
    tower: Tower,
    recipe: Recipe,
    *,
    given_mask: NDArray[np.float32] | None = None,
    renderer: Renderer = "torch",
    watcher: Watcher | None = None,
    state: Path | None = None,
    resume: bool = False,
    facts: str = "",
) -> Drawing:
    """Draw a photograph.

    Args:
        photo: of side `tower.size(recipe.resolution)`.
        tower: the model.
        recipe: what is wanted.
        given_mask: (S, S), the user's mask.
        renderer: a resolved rasteriser.
        watcher: is told of every step and may stop.
        state: where the run is kept while it goes; removed when it is complete.
        resume: go on from `state` where it exists.
        facts: what else the result depends on, such as the weights' hash; a state with other facts is refused.

    Raises:
        InputError: `state` is damaged or of another run.
        UsageError: `recipe.layers` names what the model has not.
    """
    layers = tower.parse_layers(recipe.layers) if recipe.layers else None
    looked = attention_map(tower, photo.rgb)
    mask = Mask(None, "none")
    if recipe.mask:
        mask = choose_mask(photo.rgb, photo.inside, alpha=photo.alpha, given=given_mask, attention=looked)
    target = photo.rgb if mask.values is None else over_white(photo.rgb, mask.values)
    if mask.values is not None:
        looked = attention_map(tower, target) * mask.values
    weight = recipe.contours or 0.0
    lines = None
    if weight > 0.0 or recipe.traced:
        lines = strongest_contours(
            photo.rgb,
            _interest(looked, mask),
            recipe.strokes or MOST,
            inside=photo.inside,
            cut=None if mask.values is None else target,
        )
    objective = ClipassoLoss(
        tower,
        torch.from_numpy(np.ascontiguousarray(target.transpose(2, 0, 1))),
        layers=layers,
        augmentations=recipe.augmentations,
        embedding_weight=recipe.embedding_weight,
        guide=ContourGuide(lines, recipe.width, tower.device) if lines is not None and weight > 0.0 else None,
        guide_weight=weight,
    )
    chance = start_probability(looked * photo.inside, target, mask=mask.values, lines=lines)
    run = _Run(objective, recipe, chance, lines if recipe.traced else None, renderer, watcher or Nobody(), state)
    run.mark = fingerprint(target, repr(sorted(asdict(recipe).items())), facts)
    if resume and state is not None and (found := load_state(state, run.mark)) is not None:
        run.take_up(*found)
    return run.finish(mask, target)


class _Run:
    """The stages of one drawing: one, or several with `sequential`."""

    def __init__(
        self,
        objective: ClipassoLoss,
        recipe: Recipe,
        chance: NDArray[np.float64],
        lines: NDArray[np.bool_] | None,
        renderer: Renderer,
        watcher: Watcher,
        state: Path | None,
    ) -> None:
        self.objective, self.recipe, self.chance, self.renderer = objective, recipe, chance, renderer
        self.watcher, self.state, self.lines = watcher, state, lines
        count = recipe.strokes or MOST
        chunk = recipe.sequential or count
        self.stages = [min(chunk, count - first) for first in range(0, count, chunk)]
        self.steps = max(1, recipe.steps // len(self.stages))
        self.stage = 0
        self.under: Strokes | None = None
        self.earlier: list[float] = []
        self.first_loss = float("inf")
        self.mark = ""
        self.fit = self._begin()

    def _begin(self) -> Fit:
        """The next stage's fit: new strokes begin where nothing is drawn yet."""
        chance = self.chance
        if self.under is not None:
            chance = chance * _bare(self.under, len(chance)) + 1e-12 * (chance > 0)
        starts = []
        for i in range(self.recipe.seeds):
            rng = np.random.default_rng([self.recipe.seed, i, self.stage])
            count = self.stages[self.stage]
            if self.lines is None:
                points = draw_starts(chance, count, CANVAS, rng)
            else:
                bare = self.lines if self.under is None else self.lines & (_bare(self.under, len(chance)) > 0.5)
                points = traced_starts(bare, chance, count, CANVAS, rng)
            starts.append(Strokes.black(points, self.recipe.width))
        options = self.recipe.fit_options(self.steps)
        seed = self.recipe.seed * 1000 + self.stage
        return Fit(self.objective, starts, options, seed=seed, under=self.under, renderer=self.renderer)

    def take_up(self, arrays: dict[str, NDArray[Any]], facts: dict[str, Any]) -> None:
        """Go on from a state."""
        self.stage = int(facts["stage"])
        self.earlier = arrays.pop("earlier").tolist()
        self.first_loss = float(arrays.pop("first"))
        frozen = {name: arrays.pop(f"under_{name}") for name in ("points", "width", "color", "opacity")}
        self.under = Strokes(**frozen) if len(frozen["points"]) else None
        self.fit = self._begin()
        self.fit.load(arrays)

    def save(self) -> None:
        """Write the state, where one is kept."""
        if self.state is None:
            return
        under = self.under or Strokes.black(np.zeros((0, 4, 2), np.float32), 1.0)
        arrays = self.fit.state()
        arrays |= {f"under_{name}": getattr(under, name) for name in ("points", "width", "color", "opacity")}
        arrays |= {"earlier": np.asarray(self.earlier), "first": np.asarray(self.first_loss)}
        save_state(self.state, arrays, {"mark": self.mark, "stage": self.stage})

    def finish(self, mask: Mask, target: NDArray[np.float32]) -> Drawing:
        """Run what is left and gather the result."""
        while (complete := self._run_stage()) and self.stage + 1 < len(self.stages):
            self.under = self._whole(self.fit.best[self.fit.leader])
            self.earlier += self.fit.history
            self.stage += 1
            self.fit = self._begin()
            self.save()
        fit = self.fit
        if not complete and not fit.history and self.under is not None:
            best, loss = self.under, self.earlier[-1]
        else:
            best, loss = self._whole(fit.best[fit.leader]), fit.best_loss[fit.leader]
        levels: list[Level] = []
        if complete and self.recipe.strokes is None:
            levels, complete = self._prune(Level(best, loss))
            best, loss = levels[-1].strokes, levels[-1].loss
        if complete and self.state is not None:
            self.state.unlink(missing_ok=True)
        if not np.isfinite(loss):  # stopped before the first step
            loss = float(self.objective.plain(_picture(best, self.objective, self.renderer))[0])
        return Drawing(
            strokes=best,
            loss=loss,
            first_loss=self.first_loss,
            seed=fit.leader,
            candidates=tuple((self._whole(each), its) for each, its in zip(fit.best, fit.best_loss, strict=True)),
            levels=tuple((len(level.strokes), level.loss) for level in levels),
            history=(*self.earlier, *fit.history),
            mask=mask,
            photo=target,
            objective=self.objective,
            complete=complete,
        )

    def _run_stage(self) -> bool:
        total = self.steps * len(self.stages)

        def on_step(fit: Fit) -> None:
            if not np.isfinite(self.first_loss):
                self.first_loss = min(fit.first_loss)
            self.watcher.on_step(fit, self.stage * self.steps + fit.step, total, self.under)
            if fit.step % SAVE_EVERY == 0:
                self.save()

        complete = self.fit.run(on_step, self.watcher.should_stop)
        if not complete or self.recipe.strokes is None:
            self.save()
        return complete

    def _prune(self, first: Level) -> tuple[list[Level], bool]:
        options = replace(self.recipe.fit_options(max(1, round(REFIT_SHARE * self.steps))), decay=True)

        def on_step(fit: Fit) -> None:
            self.watcher.on_step(fit, fit.step, fit.options.steps, None)

        levels = prune(
            first,
            self.objective,
            options,
            epsilon=self.recipe.epsilon,
            seed=self.recipe.seed,
            renderer=self.renderer,
            should_stop=self.watcher.should_stop,
            on_step=on_step,
        )
        return levels, not self.watcher.should_stop()

    def _whole(self, strokes: Strokes) -> Strokes:
        return strokes if self.under is None else self.under.followed_by(strokes)


def _interest(attention: NDArray[np.float32], mask: Mask) -> NDArray[np.float32]:
    """How much a contour matters: attention above a floor, on and just around the object.

    Of a mask that was only guessed from attention, what lies outside still counts a little.
    """
    import cv2

    if mask.values is None:
        return 0.3 + attention
    side = 2 * max(1, len(attention) // 75) + 1
    near = cv2.dilate(mask.values, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    outside = GUESSED_OUTSIDE if mask.origin == "attention" else 0.0
    return np.asarray((0.3 + attention) * np.where(near > 0.5, 1.0, outside), np.float32)


def _bare(strokes: Strokes, size: int) -> NDArray[np.float64]:
    """Where paper shows, softened over a few pixels: (S, S) in [0, 1]."""
    import cv2

    paper = paint(strokes, size, supersample=1)[..., 0].astype(np.float32) / 255.0
    return np.asarray(cv2.GaussianBlur(paper, (0, 0), size / 56), np.float64) ** 4


def _picture(strokes: Strokes, objective: ClipassoLoss, renderer: Renderer) -> torch.Tensor:
    from clipkit.sketching.paint import tensors
    from clipkit.sketching.rasterize import render

    with torch.no_grad():
        return render(
            *tensors(strokes, objective.size, objective.device), objective.size, objective.size, renderer=renderer
        )
