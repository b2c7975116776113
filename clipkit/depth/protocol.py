"""Which pixels count: the NYU protocol of DepthCLIP's evaluation, and the plain one for pictures of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from clipkit.depth.metrics import Errors, errors, median_scaled
from clipkit.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Crop = Literal["nyu", "none"]
NYU_FRAME = (480, 640)
NYU_INPUT = (slice(56, 472), slice(60, 604))
"""Rows and columns the model sees: 416 x 544, without the white frame of NYU pictures."""
NYU_SCORED = (slice(45, 471), slice(46, 601))
"""Rows and columns that may count (Eigen et al. 2014); what lies outside the model's picture does not."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """What is shown and what is scored.

    Attributes:
        crop: `nyu` for 640 x 480 pictures of NYU Depth v2, `none` for whole pictures.
        nearest: measured depths up to this many metres do not count; predictions are raised to it.
        farthest: measured depths from this many metres do not count; predictions are lowered to it.
    """

    crop: Crop = "nyu"
    nearest: float = 1e-3
    farthest: float = 10.0

    def shown(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The part of an `(H, W, 3)` picture that the method sees.

        Raises:
            InputError: the crop is not defined for this size.
        """
        if self.crop == "none":
            return image
        height, width = image.shape[:2]
        if (height, width) != NYU_FRAME:
            raise InputError(
                "wrong_size",
                f"{width} x {height} pixels; the NYU crop is defined for 640 x 480 (--crop none takes all)",
            )
        return np.ascontiguousarray(image[NYU_INPUT])

    def scored(
        self, truth: NDArray[np.float32], predicted: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The pixels that count, before the prediction is capped.

        Args:
            truth: measured depth of the whole picture, metres, `(H, W)`; 0 and NaN are holes.
            predicted: depth of what was shown.

        Returns:
            Measured and predicted depths, each `(n,)`.

        Raises:
            InputError: the sizes do not belong together, or nothing was measured in the range.
        """
        whole, allowed = predicted, np.ones(truth.shape, np.bool_)
        if self.crop == "nyu" and truth.shape == NYU_FRAME:
            whole = np.zeros(truth.shape, np.float32)
            whole[NYU_INPUT] = predicted
            allowed[:] = False
            allowed[NYU_SCORED] = True
        if whole.shape != truth.shape:
            raise InputError(
                "wrong_size",
                f"the measured map is {truth.shape[1]} x {truth.shape[0]}, the picture {whole.shape[1]} x {whole.shape[0]}",
            )
        with np.errstate(invalid="ignore"):
            valid = allowed & (truth > self.nearest) & (truth < self.farthest) & (whole > self.nearest)
        if not valid.any():
            raise InputError(
                "no_truth",
                f"no pixel was measured between {self.nearest:g} and {self.farthest:g} m; "
                "check --depth-scale, or the range with --min-depth and --max-depth",
            )
        return truth[valid], whole[valid]

    def compare(self, truth: NDArray[np.float32], predicted: NDArray[np.float32]) -> tuple[Errors, Errors]:
        """Errors of one map as it is, and after median scaling. Arguments and errors as `scored`."""
        measured, found = self.scored(truth, predicted)
        return (
            errors(measured, self.capped(found)),
            errors(measured, self.capped(median_scaled(measured, found))),
        )

    def capped(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predictions moved into the range that counts."""
        return np.clip(depth, np.float32(self.nearest), np.float32(self.farthest))
