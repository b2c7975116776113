"""`sketch`: photographs to line drawings by CLIPasso (Vinker et al. 2022), strokes optimised until CLIP sees the same thing."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from clipkit.errors import InputError
from clipkit.media.image import DEFAULT_MAX_PIXELS
from clipkit.results import Failure, header
from clipkit.sketching.draw import Nobody, draw
from clipkit.sketching.features import Tower
from clipkit.sketching.order import greedy_order
from clipkit.sketching.photo import load_mask, load_photo
from clipkit.sketching.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from clipkit.media.paths import Source
    from clipkit.models.torch_engine import TorchClip
    from clipkit.sketching.draw import Drawing, Watcher
    from clipkit.sketching.rasterize import Renderer

TASK = "sketch"


@dataclass(frozen=True, slots=True)
class SketchOptions:
    """How pictures are drawn.

    Attributes:
        recipe: strokes, seeds, steps and the rest.
        renderer: a resolved rasteriser.
        mask_file: a mask for the pictures; None finds one, see `Recipe.mask`.
        ordered: whether a drawing order is computed.
        resume: go on from states that interrupted runs left.
        max_pixels: larger pictures are refused before decoding.
    """

    recipe: Recipe = field(default_factory=Recipe)
    renderer: Renderer = "torch"
    mask_file: Path | None = None
    ordered: bool = False
    resume: bool = False
    max_pixels: int = DEFAULT_MAX_PIXELS


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """What `sketch` made of one picture; `svg` and `png` are the files' names once they are written."""

    path: str
    model: str
    weights: str
    drawing: Drawing
    seconds: float
    renderer: str
    seed: int
    steps: int
    contours: float = 0.0
    starts: str = "saliency"
    order: tuple[int, ...] = ()
    order_losses: tuple[float, ...] = ()
    svg: str | None = None
    png: str | None = None

    columns: ClassVar[tuple[str, ...]] = ("path", "svg", "png", "strokes", "loss", "seed", "seconds")

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        drawing = self.drawing
        extra: dict[str, Any] = {"warning": drawing.mask.remark} if drawing.mask.remark else {}
        if not drawing.complete:
            extra["interrupted"] = True
        return header(TASK, self.path, self.model, self.weights) | {
            "svg": self.svg,
            "png": self.png,
            "strokes": len(drawing.strokes),
            "loss": round(drawing.loss, 6),
            "first_loss": round(drawing.first_loss, 6),
            "seed": self.seed,
            "seed_losses": [round(loss, 6) for _, loss in drawing.candidates],
            "steps": self.steps,
            "contours": self.contours,
            "starts": self.starts,
            "seconds": round(self.seconds, 2),
            "mask": drawing.mask.origin,
            "renderer": self.renderer,
            **extra,
        }

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """One row."""
        drawing = self.drawing
        loss, seconds = round(drawing.loss, 6), round(self.seconds, 2)
        yield (self.path, self.svg or "", self.png or "", len(drawing.strokes), loss, self.seed, seconds)


class Audience(Protocol):
    """Looks on while pictures are drawn and says where states are kept."""

    def begin(self, name: str) -> Watcher:
        """A picture is begun; the watcher of its steps."""

    def state(self, name: str) -> Path | None:
        """Where the run of a picture is kept, None for nowhere."""


class NoAudience:
    """Nobody looks on, nothing is kept."""

    def begin(self, name: str) -> Watcher:
        """Nobody."""
        del name
        return Nobody()

    def state(self, name: str) -> Path | None:
        """Nowhere."""
        del name
        return None


def run(
    inputs: Iterable[Source | Failure], options: SketchOptions, clip: TorchClip, audience: Audience | None = None
) -> Iterator[Sketch | Failure]:
    """One outcome an input, in order; after an interrupted one no more are begun.

    Raises:
        UsageError: the recipe makes no sense, or not with this model.
        ModelError: an architecture without the layers a sketch needs.
    """
    recipe = options.recipe.checked()
    weight = recipe.contours if recipe.contours is not None else float(clip.id == "builtin")
    recipe = replace(recipe, contours=weight)
    recipe = replace(recipe, starts="contours" if recipe.traced else "saliency")
    options = replace(options, recipe=recipe)
    visual: Any = clip.model.visual
    tower = Tower(visual, clip.preprocess.mean, clip.preprocess.std)
    if recipe.layers:
        tower.parse_layers(recipe.layers)
    watching = audience or NoAudience()
    for item in inputs:
        if isinstance(item, Failure):
            yield item.within(TASK, clip.id, clip.weights_hash)
            continue
        try:
            result = _sketch(item, options, clip, tower, watching)
        except InputError as error:
            yield Failure(item.name, error.kind, str(error)).within(TASK, clip.id, clip.weights_hash)
            continue
        yield result
        if not result.drawing.complete:
            return


def _sketch(item: Source, options: SketchOptions, clip: TorchClip, tower: Tower, audience: Audience) -> Sketch:
    recipe = options.recipe
    began = time.perf_counter()
    size = tower.size(recipe.resolution)
    photo = load_photo(item, size, max_pixels=options.max_pixels)
    given = None
    if options.mask_file is not None and recipe.mask:
        given = load_mask(options.mask_file, size, photo.original)
    drawing = draw(
        photo,
        tower,
        recipe,
        given_mask=given,
        renderer=options.renderer,
        watcher=audience.begin(item.name),
        state=audience.state(item.name),
        resume=options.resume,
        facts=f"{clip.weights_hash} {options.renderer}",
    )
    order: list[int] = []
    losses: list[float] = []
    if options.ordered and drawing.complete:
        order, losses = greedy_order(drawing.strokes, drawing.objective, renderer=options.renderer)
    return Sketch(
        path=item.name,
        model=clip.id,
        weights=clip.weights_hash,
        drawing=drawing,
        seconds=time.perf_counter() - began,
        renderer=options.renderer,
        seed=recipe.seed + drawing.seed,
        steps=recipe.steps,
        contours=recipe.contours or 0.0,
        starts=recipe.starts or "saliency",
        order=tuple(order),
        order_losses=tuple(losses),
    )
