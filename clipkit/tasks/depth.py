"""`depth`: how far everything in a picture is, from words or from models trained on metres."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from clipkit.dense.features import DenseOptions
from clipkit.depth.camera import ASSUMED_FOV, exif_fov
from clipkit.depth.ladder import Ladder
from clipkit.depth.upsample import Upsample, depth_map
from clipkit.errors import InputError, UsageError
from clipkit.media.image import DEFAULT_MAX_PIXELS, open_image
from clipkit.media.prefetch import prefetch
from clipkit.models.loader import load_clip
from clipkit.results import Failure, header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from clipkit.depth.estimator import Estimator
    from clipkit.media.paths import Source

TASK = "depth"
CLIP_METHODS = ("depthclip", "depthclip-dense")
METRIC_METHODS = ("depth-anything", "zoedepth", "depth-pro")
METHODS = ("auto", *CLIP_METHODS, *METRIC_METHODS)
# Decoded pictures waiting for the model: a full-size photograph is tens of megabytes.
AHEAD = 2

FovSource = Literal["given", "exif", "model", "assumed"]


@dataclass(frozen=True, slots=True)
class Choice:
    """Who sees depth, and how.

    Attributes:
        method: of `METHODS`; `auto` is the one that measures better with the built-in model (docs/depth.md).
        ladder: words and bins of the CLIP methods.
        dense: how patch tokens are made, for depthclip-dense; its `size` is depthclip's too.
        model: a name of the shared loader for the CLIP methods; a transformers repository or folder for the others.
        device, precision: as `load_clip` takes them.
    """

    method: str = "auto"
    ladder: Ladder = field(default_factory=Ladder)
    dense: DenseOptions = field(default_factory=DenseOptions)
    model: str | None = None
    device: str | None = None
    precision: str | None = None


@dataclass(frozen=True, slots=True)
class DepthOptions:
    """How maps are finished.

    Attributes:
        flip: average with the mirror image; None leaves it to the method.
        upsample: `bilinear`, or `guided` by the picture's edges.
        fov: horizontal field of view in degrees, for point clouds; None takes EXIF's, else the model's, else 60.
        max_pixels: larger pictures are refused before decoding.
    """

    flip: bool | None = None
    upsample: Upsample = "bilinear"
    fov: float | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS


@dataclass(frozen=True, slots=True, eq=False)
class Depth:
    """The depth of one picture.

    `map` is `(H, W)` float32 metres along the optical axis, `image` the picture. `metric` says whether the method was
    trained on metres; where it was not, the map orders and the metres are the words' bins. `depth` is the file the map
    was written to, None where it was not written.
    """

    path: str
    model: str
    weights: str
    method: str
    metric: bool
    map: NDArray[np.float32] = field(repr=False)
    image: NDArray[np.uint8] = field(repr=False)
    fov: float = ASSUMED_FOV
    fov_source: FovSource = "assumed"
    depth: str | None = None

    columns: ClassVar[tuple[str, ...]] = ("path", "method", "min", "mean", "max", "metric")

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        low, mean, high = self.range()
        return header(TASK, self.path, self.model, self.weights) | {
            "method": self.method,
            "depth": self.depth,
            "min": round(low, 4),
            "mean": round(mean, 4),
            "max": round(high, 4),
            "metric": self.metric,
            "fov": round(self.fov, 2),
            "fov_source": self.fov_source,
        }

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """One row."""
        low, mean, high = self.range()
        yield (self.path, self.method, round(low, 4), round(mean, 4), round(high, 4), self.metric)

    def range(self) -> tuple[float, float, float]:
        """Smallest, mean and largest depth, metres."""
        return float(self.map.min()), float(self.map.mean(dtype=np.float64)), float(self.map.max())


def open_estimator(choice: Choice) -> Estimator:
    """Load what the choice names.

    Raises:
        UsageError: an unknown method.
        ModelUnavailableError: weights or an optional package are missing.
        ModelError: the weights do not fit, or the model's image tower is of the wrong kind.
    """
    if choice.method not in METHODS:
        raise UsageError(f"unknown depth method {choice.method!r}; known: {', '.join(METHODS)}")
    if choice.method in METRIC_METHODS:
        from clipkit.models.depth_metric import load_metric

        return load_metric(choice.method, choice.model, choice.device, choice.precision)
    from clipkit.depth.depthclip import DenseDepth, Layer4Depth

    clip = load_clip(choice.model, choice.device, choice.precision, engine="torch")
    if choice.method == "depthclip":
        return Layer4Depth(clip, choice.ladder, choice.dense.size)
    return DenseDepth(clip, choice.ladder, choice.dense)


def run(
    inputs: Iterable[Source | Failure], options: DepthOptions, estimator: Estimator, *, workers: int | None = None
) -> Iterator[Depth | Failure]:
    """One outcome an input, in order.

    Args:
        inputs: the pictures.
        options: how maps are finished.
        estimator: who sees depth.
        workers: decoding threads; 0 decodes in the calling thread, None chooses by the machine.
    """

    def read(item: Source | Failure) -> tuple[NDArray[np.uint8], float | None] | Failure:
        if isinstance(item, Failure):
            return item
        pixels = np.asarray(open_image(item, max_pixels=options.max_pixels))
        return pixels, None if options.fov else exif_fov(item, pixels.shape[1], pixels.shape[0])

    for item, opened in prefetch(inputs, read, workers=workers, ahead=AHEAD):
        if isinstance(item, Failure):
            yield item.within(TASK, estimator.id, estimator.weights_hash)
        elif isinstance(opened, InputError):
            yield Failure(item.name, opened.kind, str(opened)).within(TASK, estimator.id, estimator.weights_hash)
        elif not isinstance(opened, Failure):
            yield see(opened[0], options, estimator, path=item.name, exif=opened[1])


def see(
    image: NDArray[np.uint8], options: DepthOptions, estimator: Estimator, *, path: str = "", exif: float | None = None
) -> Depth:
    """The depth of one `(H, W, 3)` RGB image; `exif` is the field of view its file tells, degrees."""
    depth, seen = depth_map(image, estimator, flip=options.flip, upsample=options.upsample)
    known: tuple[tuple[float | None, FovSource], ...] = (
        (options.fov, "given"),
        (exif, "exif"),
        (seen, "model"),
        (ASSUMED_FOV, "assumed"),
    )
    fov, source = next((value, origin) for value, origin in known if value is not None)
    return Depth(
        path=path,
        model=estimator.id,
        weights=estimator.weights_hash,
        method=estimator.method,
        metric=estimator.metric,
        map=depth,
        image=image,
        fov=fov,
        fov_source=source,
    )
