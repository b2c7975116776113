"""How far a depth map is from the measured one: the field's six numbers (Eigen, Puhrsch and Fergus 2014)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of a map, or their means over maps.

    `delta1` to `delta3` are shares of pixels whose ratio to the truth, whichever way round, is under 1.25, 1.25^2 and
    1.25^3 (higher is better); `abs_rel` is the mean of |d - d*| / d*, `rmse` is in metres, `log10` is the mean
    difference of decimal logarithms (lower is better).
    """

    delta1: float
    delta2: float
    delta3: float
    abs_rel: float
    rmse: float
    log10: float

    def record(self) -> dict[str, float]:
        """The JSON fields."""
        return {name: round(value, 6) for name, value in zip(NAMES, self.values(), strict=True)}

    def values(self) -> tuple[float, ...]:
        """The numbers in the order of `NAMES`."""
        return tuple(getattr(self, name) for name in NAMES)


NAMES = tuple(field.name for field in fields(Errors))


def errors(truth: NDArray[np.float32], predicted: NDArray[np.float32]) -> Errors:
    """Compare measured and predicted depths of the same pixels, both positive, in metres; arrays of any one shape.

    Raises:
        ValueError: no pixels.
    """
    if truth.size == 0:
        raise ValueError("no pixels to compare")
    truth, predicted = truth.astype(np.float64), predicted.astype(np.float64)
    ratio = np.maximum(truth / predicted, predicted / truth)
    difference = truth - predicted
    return Errors(
        delta1=float((ratio < 1.25).mean()),
        delta2=float((ratio < 1.25**2).mean()),
        delta3=float((ratio < 1.25**3).mean()),
        abs_rel=float((np.abs(difference) / truth).mean()),
        rmse=float(np.sqrt((difference**2).mean())),
        log10=float(np.abs(np.log10(truth) - np.log10(predicted)).mean()),
    )


def mean_errors(several: Sequence[Errors]) -> Errors:
    """The mean of each number over maps, every map counting the same, as the authors average."""
    return Errors(*(float(value) for value in np.mean([one.values() for one in several], axis=0)))


def median_scaled(truth: NDArray[np.float32], predicted: NDArray[np.float32]) -> NDArray[np.float32]:
    """The prediction times the ratio of medians, which forgives a wrong scale (Zhou et al. 2017)."""
    return np.asarray(predicted * np.float32(np.median(truth) / np.median(predicted)), np.float32)
