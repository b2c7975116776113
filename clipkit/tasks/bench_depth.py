"""`bench depth`: errors of a depth method on photographs with measured depth, beside a map that is the same everywhere."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from clipkit.depth.ladder import BINS
from clipkit.depth.metrics import NAMES, Errors, mean_errors
from clipkit.depth.protocol import Protocol
from clipkit.depth.truth import read_depth
from clipkit.depth.upsample import depth_map
from clipkit.errors import InputError
from clipkit.media.image import DEFAULT_MAX_PIXELS, open_image
from clipkit.results import Failure, header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from clipkit.depth.estimator import Estimator
    from clipkit.depth.truth import Pair
    from clipkit.depth.upsample import Upsample

TASK = "bench depth"
CONSTANT = sum(BINS) / len(BINS)
"""The baseline's depth everywhere, metres: what DepthCLIP says when it knows nothing."""


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """How a method is measured.

    Attributes:
        protocol: what is shown and what counts.
        scale: integer values of the measured maps for one metre.
        flip: average with the mirror image; None leaves it to the method.
        upsample: `bilinear` or `guided`.
        constant: the baseline's depth, metres.
        max_pixels: larger pictures are refused before decoding.
    """

    protocol: Protocol = field(default_factory=Protocol)
    scale: float = 1000.0
    flip: bool | None = None
    upsample: Upsample = "bilinear"
    constant: float = CONSTANT
    max_pixels: int = DEFAULT_MAX_PIXELS


@dataclass(frozen=True, slots=True)
class Compared:
    """Errors as they are and after median scaling."""

    plain: Errors
    scaled: Errors

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        return {**self.plain.record(), "median_scaled": self.scaled.record()}


@dataclass(frozen=True, slots=True)
class DepthErrors:
    """What `bench depth` measures: means over `count` pictures, of the method and of the constant map."""

    path: str
    model: str
    weights: str
    method: str
    found: Compared
    constant: float
    baseline: Compared
    count: int
    per_second: float

    columns: ClassVar[tuple[str, ...]] = ("path", "method", "scale", "count", *NAMES)

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        return header(TASK, self.path, self.model, self.weights) | {
            "method": self.method,
            **self.found.record(),
            "baseline": {"constant": round(self.constant, 4), **self.baseline.record()},
            "count": self.count,
            "per_second": round(self.per_second, 3),
        }

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Method and baseline, each as it is and median-scaled."""
        named = ((self.method, self.found), (f"constant {self.constant:.2f} m", self.baseline))
        for name, compared in named:
            for scale, errors in (("none", compared.plain), ("median", compared.scaled)):
                yield (self.path, name, scale, self.count, *(round(value, 3) for value in errors.values()))


def run(
    pairs: Iterable[Pair], path: str, options: BenchOptions, estimator: Estimator
) -> Iterator[DepthErrors | Failure]:
    """A `Failure` for each pair that cannot be used, then one `DepthErrors` over those that can.

    `per_second` counts pictures a second in the method alone.

    Args:
        pairs: photographs with measured depth.
        path: what the user named.
        options: how the method is measured.
        estimator: the method.
    """
    found: list[tuple[Errors, Errors]] = []
    constant: list[tuple[Errors, Errors]] = []
    seconds = 0.0
    for pair in pairs:
        try:
            image = options.protocol.shown(np.asarray(open_image(pair.photo, max_pixels=options.max_pixels)))
            truth = read_depth(pair.depth, options.scale)
            started = time.perf_counter()
            depth, _ = depth_map(image, estimator, flip=options.flip, upsample=options.upsample)
            seconds += time.perf_counter() - started
            flat = np.full(depth.shape, options.constant, np.float32)
            both = options.protocol.compare(truth, depth), options.protocol.compare(truth, flat)
        except InputError as error:
            failure = Failure(pair.photo.name, error.kind, str(error))
            yield failure.within(TASK, estimator.id, estimator.weights_hash)
            continue
        found.append(both[0])
        constant.append(both[1])
    if not found:
        return
    yield DepthErrors(
        path=path,
        model=estimator.id,
        weights=estimator.weights_hash,
        method=estimator.method,
        found=_mean(found),
        constant=options.constant,
        baseline=_mean(constant),
        count=len(found),
        per_second=len(found) / max(seconds, 1e-9),
    )


def _mean(several: list[tuple[Errors, Errors]]) -> Compared:
    return Compared(mean_errors([plain for plain, _ in several]), mean_errors([scaled for _, scaled in several]))
