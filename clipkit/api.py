"""The Python API: `import clipkit; clipkit.classify("cat.jpg", ["cat", "dog"])`. One call, the same results as the command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from clipkit.errors import InputError, UsageError
from clipkit.results import Classification, Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from clipkit.media.paths import Source
    from clipkit.models.clip import Clip
    from clipkit.prompts.ensemble import Reduction
    from clipkit.prompts.scores import Scoring
    from clipkit.tasks.images import Picture

    ImageLike = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]


@overload
def classify(  # type: ignore[overload-overlap]  # str and bytes are iterables too; the first overload takes them
    images: ImageLike,
    labels: str | Sequence[str],
    *,
    model: str | Clip | None = ...,
    templates: str | Sequence[str] = ...,
    reduction: Reduction = ...,
    scoring: Scoring = ...,
    top_k: int | None = ...,
    threshold: float | None = ...,
    device: str | None = ...,
    precision: str | None = ...,
    batch_size: int = ...,
) -> Classification: ...
@overload
def classify(
    images: Iterable[ImageLike],
    labels: str | Sequence[str],
    *,
    model: str | Clip | None = ...,
    templates: str | Sequence[str] = ...,
    reduction: Reduction = ...,
    scoring: Scoring = ...,
    top_k: int | None = ...,
    threshold: float | None = ...,
    device: str | None = ...,
    precision: str | None = ...,
    batch_size: int = ...,
) -> Iterator[Classification | Failure]: ...
def classify(
    images: Any,
    labels: str | Sequence[str],
    *,
    model: str | Clip | None = None,
    templates: str | Sequence[str] = "imagenet",
    reduction: Reduction = "embed",
    scoring: Scoring = "softmax",
    top_k: int | None = None,
    threshold: float | None = None,
    device: str | None = None,
    precision: str | None = None,
    batch_size: int = 32,
) -> Classification | Iterator[Classification | Failure]:
    """Name what is in one picture, or lazily in many.

    Args:
        images: a path, encoded bytes, a PIL image (taken as it is, its EXIF orientation not applied) or an
            (H, W, 3) uint8 RGB array; or an iterable of these.
        labels: `"cat,dog"`, a list, or a shipped set's name (`imagenet`, `coco`, ...). `cat|kitten` gives a
            label two wordings.
        model: a model's name, or a model that is loaded already; None is the configured default.
        templates: a template set, a file, or a list of templates with `{}`.
        reduction: `embed`, `prob` or `none`.
        scoring: `softmax`, `sigmoid` or `cosine`.
        top_k: at most this many predictions; None gives all.
        threshold: predictions below it are dropped.
        device: `auto`, `cpu`, `cuda`, `mps`.
        precision: `auto`, `fp32`, `fp16`, `bf16`.
        batch_size: pictures a forward pass.

    Returns:
        A `Classification` for one picture; for an iterable an iterator with one `Classification` or
        `Failure` an item, in order.

    Raises:
        InputError: the one picture cannot be read.
        UsageError: no labels, an unknown set, an array of another shape.
        ModelUnavailableError: the model is not here.
    """
    from clipkit.models.loader import load_clip
    from clipkit.prompts.labels import load_labels
    from clipkit.prompts.templates import load_templates
    from clipkit.settings import setting
    from clipkit.tasks.classify import ClassifyOptions, run
    from clipkit.tasks.images import ImageOptions

    options = ClassifyOptions(
        labels=load_labels(labels),
        templates=load_templates(templates) if isinstance(templates, str) else tuple(templates),
        reduction=reduction,
        scoring=scoring,
        top_k=top_k,
        threshold=threshold,
        images=ImageOptions(batch_size=batch_size),
    )
    if model is None or isinstance(model, str):
        model = load_clip(model, setting("device", device), setting("precision", precision))
    if not _is_one(images):
        return run((_input(image, f"image {i}") for i, image in enumerate(images)), options, model)
    outcome = next(run([_input(images, "image")], options, model))
    if isinstance(outcome, Failure):
        raise InputError(outcome.kind, f"{outcome.path}: {outcome.message}")
    return outcome


def _is_one(images: Any) -> bool:
    return isinstance(images, (str, bytes, os.PathLike)) or hasattr(images, "convert") or hasattr(images, "ndim")


def _input(image: Any, name: str) -> Source | Picture:
    from clipkit.media.paths import Source

    if isinstance(image, (str, os.PathLike)):
        return Source(str(image), Path(image))
    if isinstance(image, bytes):
        return Source(name, None, image)
    from PIL import Image

    from clipkit.media.pixels import to_rgb
    from clipkit.tasks.images import Picture

    if isinstance(image, Image.Image):
        return Picture(name, to_rgb(image))
    shape: tuple[int, ...] = getattr(image, "shape", ())
    if len(shape) != 3 or shape[-1] != 3 or str(getattr(image, "dtype", "")) != "uint8":
        raise UsageError(
            f"{name}: expected a path, bytes, a PIL image or an (H, W, 3) uint8 array, not {type(image).__name__} {shape}"
        )
    return Picture(name, Image.fromarray(image))
