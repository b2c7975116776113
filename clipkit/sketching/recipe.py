"""What a sketch is asked to be, and the presets of `--quality`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from clipkit.errors import UsageError
from clipkit.sketching.fit import FitOptions
from clipkit.sketching.losses import EMBEDDING_WEIGHT

Quality = Literal["draft", "normal", "paper"]
QUALITIES: tuple[Quality, ...] = ("draft", "normal", "paper")
Starts = Literal["contours", "saliency"]
MOST_STROKES = 512


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one photograph is drawn.

    Attributes:
        strokes: how many, or None to find out.
        seeds: sketches begun; the best is kept.
        seed: of all randomness.
        steps: of the optimiser, for each sketch.
        augmentations: warped pairs beside the plain one.
        halve_at: the share of the steps after which only the best seed goes on; 1 lets all run to the end.
        decay: whether the rates fall towards the end.
        resolution: side of the picture CLIP is shown; a ViT has its own.
        learning_rate: of control points, canvas units a step.
        width: of strokes, canvas units (the canvas is 224 wide).
        optimize_width: whether widths are learned.
        color: whether colours are learned.
        sequential: strokes fitted at a time, the earlier ones frozen; 0 fits all together.
        epsilon: with `strokes=None`, the share of the gain over a blank page that fewer strokes may lose.
        layers: `name[:weight],...` of the loss; None takes the architecture's own.
        embedding_weight: of the embedding's distance.
        mask: whether the background is removed.
        contours: weight of the contour guide; None is 1 for the built-in model and 0, CLIPasso's own loss, for others.
        starts: the first guesses: along contours, or CLIPasso's short random curves at salient edges (the guide's contours
            where it has weight); None is contours where the guide has weight.
    """

    strokes: int | None = 16
    seeds: int = 3
    seed: int = 0
    steps: int = 2001
    augmentations: int = 4
    halve_at: float = 1.0
    decay: bool = False
    resolution: int = 224
    learning_rate: float = 1.0
    width: float = 3.0
    optimize_width: bool = False
    color: bool = False
    sequential: int = 0
    epsilon: float = 0.01
    layers: str | None = None
    embedding_weight: float = EMBEDDING_WEIGHT
    mask: bool = True
    contours: float | None = None
    starts: Starts | None = None

    @property
    def traced(self) -> bool:
        """Whether first guesses lie along contours."""
        return self.starts == "contours" if self.starts else bool(self.contours)

    def checked(self) -> Recipe:
        """This recipe.

        Raises:
            UsageError: a number is out of range, or two wishes exclude each other.
        """
        if self.strokes is not None and not 1 <= self.strokes <= MOST_STROKES:
            raise UsageError(f"--strokes {self.strokes}: give 1 to {MOST_STROKES}, or auto")
        bounds = (
            ("seeds", self.seeds, 1, 64),
            ("steps", self.steps, 1, 100_000),
            ("augmentations", self.augmentations, 0, 64),
            ("resolution", self.resolution, 64, 1024),
            ("width", self.width, 0.3, 20.0),
            ("epsilon", self.epsilon, 0.0, 10.0),
            ("contours", self.contours or 0.0, 0.0, 100.0),
        )
        for name, value, low, high in bounds:
            if not low <= value <= high:
                raise UsageError(f"--{name} {value}: give {low:g} to {high:g}")
        if self.sequential and self.strokes is None:
            raise UsageError("--sequential needs a number of strokes, not --strokes auto")
        return self

    def fit_options(self, steps: int | None = None) -> FitOptions:
        """The optimiser's part; `steps` replaces the number of steps."""
        count = steps or self.steps
        return FitOptions(
            steps=count,
            learning_rate=self.learning_rate,
            width_rate=0.1 * self.learning_rate if self.optimize_width else 0.0,
            color_rate=0.01 * self.learning_rate if self.color else 0.0,
            halve_at=max(1, round(self.halve_at * count)) if self.halve_at < 1.0 and self.seeds > 1 else None,
            decay=self.decay,
        )


def preset(quality: str) -> Recipe:
    """`draft` in under a minute on a laptop, `normal` in minutes, `paper` with the settings of the publication.

    Raises:
        UsageError: no such preset.
    """
    paper = Recipe()
    if quality == "paper":
        return paper
    if quality == "normal":
        return replace(paper, steps=500, augmentations=2, halve_at=0.3, decay=True)
    if quality == "draft":
        return replace(paper, steps=200, augmentations=1, halve_at=0.2, decay=True, resolution=160)
    raise UsageError(f"unknown quality {quality!r}; choose one of {', '.join(QUALITIES)}")
