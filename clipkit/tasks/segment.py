"""`segment`: open-vocabulary semantic segmentation, a mask and its regions for every image."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from clipkit.dense.decide import decide
from clipkit.dense.features import DenseOptions
from clipkit.dense.segmenter import ClipOptions, ClipSegmenter
from clipkit.errors import InputError, UsageError
from clipkit.media.image import DEFAULT_MAX_PIXELS, open_image
from clipkit.media.prefetch import prefetch
from clipkit.models.loader import load_clip
from clipkit.prompts.templates import load_templates
from clipkit.results import Failure, header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from clipkit.dense.segmenter import Segmenter
    from clipkit.dense.vocabulary import Vocabulary
    from clipkit.media.paths import Source

TASK = "segment"
# Decoded pictures waiting for the model: a full-size photograph is tens of megabytes.
AHEAD = 2
PIPELINES = {
    "groupvit": "clipkit.models.groupvit",
    "lseg": "clipkit.models.lseg",
    "clipseg": "clipkit.models.clipseg",
}


@dataclass(frozen=True, slots=True)
class SegmentOptions:
    """How maps become masks.

    Attributes:
        vocabulary: the classes of the mask.
        threshold: probability under which a pixel is background; None takes the method's.
        min_area: smallest share of the image a class may cover; smaller ones go to the next best class.
        max_pixels: larger pictures are refused before decoding.
    """

    vocabulary: Vocabulary
    threshold: float | None = None
    min_area: float = 0.0
    max_pixels: int = DEFAULT_MAX_PIXELS


@dataclass(frozen=True, slots=True)
class Choice:
    """Who segments, and how.

    Attributes:
        method: `auto`, a key of `clipkit.dense.methods.METHODS`, or a key of `PIPELINES`.
        dense: size, window, stride and flip of the CLIP methods; its `method` is not read.
        refine: `auto`, `none`, `tlp` or `pamr`, for the CLIP methods.
        scale: multiplier of cosines before the softmax; None takes the method's.
        templates: prompt templates of the CLIP methods.
        weights: weights of a pipeline that are not in the hub's cache.
        model, device, precision: as `load_clip` takes them.
    """

    method: str = "auto"
    dense: DenseOptions = field(default_factory=DenseOptions)
    refine: str = "auto"
    scale: float | None = None
    templates: tuple[str, ...] = field(default_factory=load_templates)
    weights: Path | None = None
    model: str | None = None
    device: str | None = None
    precision: str | None = None


def open_segmenter(choice: Choice, vocabulary: Vocabulary) -> Segmenter:
    """Load what the choice names.

    Raises:
        UsageError: options that do not go together.
        ModelUnavailableError: weights or an optional package are missing.
        ModelError: the weights do not fit, or the model's image tower gives no patch answers.
    """
    if choice.method in PIPELINES:
        if choice.model is not None:
            raise UsageError(f"--method {choice.method} has its own model; name its files with --weights, not --model")
        if choice.refine not in {"auto", "none"}:
            raise UsageError(f"--refine {choice.refine} is for the CLIP methods; {choice.method} has its own decoder")
        pipeline = import_module(PIPELINES[choice.method])
        opened: Segmenter = pipeline.load(vocabulary, choice.weights, choice.dense, choice.device)
        return opened
    if choice.weights is not None:
        raise UsageError(f"--weights is for {', '.join(PIPELINES)}; name a CLIP model with --model")
    clip = load_clip(choice.model, choice.device, choice.precision, engine="torch")
    options = ClipOptions(
        dense=replace(choice.dense, method=choice.method),
        refine=choice.refine,
        scale=choice.scale,
        templates=choice.templates,
    )
    return ClipSegmenter(clip, vocabulary, options)


@dataclass(frozen=True, slots=True)
class Segment:
    """One class of one image: its share of the pixels, their mean probability, the box `(x0, y0, x1, y1)` around them."""

    label: str
    value: int
    area: float
    score: float
    box: tuple[int, int, int, int]

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "label": self.label,
            "area": round(self.area, 6),
            "score": round(self.score, 6),
            "box": list(self.box),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """The mask of one image.

    `index` is `(H, W)`, value 0 background, value i `labels[i - 1]`; `segments` are the classes in it, largest first.
    `mask` is the file the mask was written to, None where it was not written.
    """

    path: str
    model: str
    weights: str
    labels: tuple[str, ...]
    index: NDArray[np.uint8] | NDArray[np.uint16] = field(repr=False)
    image: NDArray[np.uint8] = field(repr=False)
    segments: tuple[Segment, ...] = ()
    mask: str | None = None

    columns: ClassVar[tuple[str, ...]] = ("path", "label", "area", "score", "x0", "y0", "x1", "y1")

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        return header(TASK, self.path, self.model, self.weights) | {
            "mask": self.mask,
            "segments": [segment.record() for segment in self.segments],
        }

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """One row a class; one row with empty cells where there is none."""
        if not self.segments:
            yield (self.path, *[""] * 7)
        for segment in self.segments:
            yield (self.path, segment.label, round(segment.area, 6), round(segment.score, 6), *segment.box)


def run(
    inputs: Iterable[Source | Failure], options: SegmentOptions, segmenter: Segmenter, *, workers: int | None = None
) -> Iterator[Segmentation | Failure]:
    """One outcome an input, in order.

    Args:
        inputs: what to segment.
        options: how maps become masks.
        segmenter: who makes the maps; it was built with the same vocabulary.
        workers: decoding threads; 0 decodes in the calling thread, None chooses by the machine.
    """

    def pixels(item: Source | Failure) -> NDArray[np.uint8] | Failure:
        if isinstance(item, Failure):
            return item
        return np.asarray(open_image(item, max_pixels=options.max_pixels))

    for item, image in prefetch(inputs, pixels, workers=workers, ahead=AHEAD):
        if isinstance(item, Failure):
            yield item.within(TASK, segmenter.id, segmenter.weights_hash)
        elif isinstance(image, InputError):
            yield Failure(item.name, image.kind, str(image)).within(TASK, segmenter.id, segmenter.weights_hash)
        elif not isinstance(image, Failure):
            yield segment(image, options, segmenter, path=item.name)


def segment(image: NDArray[np.uint8], options: SegmentOptions, segmenter: Segmenter, *, path: str = "") -> Segmentation:
    """Segment one `(H, W, 3)` RGB image."""
    height, width = image.shape[:2]
    maps = segmenter.maps(image, options.threshold)
    index, regions = decide(maps, (height, width), min_area=options.min_area)
    labels = options.vocabulary.labels
    return Segmentation(
        path=path,
        model=segmenter.id,
        weights=segmenter.weights_hash,
        labels=labels,
        index=index,
        image=image,
        segments=tuple(
            Segment(labels[r.value - 1], r.value, r.pixels / (height * width), r.score, r.box) for r in regions
        ),
    )
