"""One face for everything that detects: a picture in, scored boxes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from clipkit.detection.nms import suppress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """N boxes of one picture, best first: `boxes` `(N, 4)` pixels, `scores` `(N,)` in [0, 1], `classes` `(N,)` label indices."""

    boxes: NDArray[Any]
    scores: NDArray[Any]
    classes: NDArray[np.intp]

    def __len__(self) -> int:
        """How many boxes."""
        return len(self.scores)

    def __getitem__(self, kept: Any) -> Self:
        """The boxes of an index array, a mask or a slice."""
        return type(self)(self.boxes[kept], self.scores[kept], self.classes[kept])

    @classmethod
    def nothing(cls) -> Self:
        """No boxes."""
        return cls(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.intp))

    def best(self, least: float, most: int | None) -> Self:
        """Sorted, without scores under `least`, at most `most`."""
        order = np.argsort(-self.scores, kind="stable")
        return self[order[self.scores[order] >= least][:most]]

    def suppressed(self, threshold: float, *, across: bool = False) -> Self:
        """After NMS within classes, or `across` them."""
        return self[suppress(self.boxes, self.scores, threshold, None if across else self.classes)]


class Detector(Protocol):
    """What the task asks: who answers, which labels there are, and the boxes of a picture."""

    @property
    def id(self) -> str:
        """The name records carry."""

    @property
    def weights_hash(self) -> str:
        """First 12 hex digits of the SHA-256 of the weights."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What `Found.classes` points into."""

    @property
    def nms(self) -> float:
        """The method's own IoU threshold of suppression."""

    @property
    def least(self) -> float:
        """The method's own smallest score worth telling."""

    @property
    def most(self) -> int:
        """The method's own largest number of boxes a picture."""

    def detect(self, image: NDArray[np.uint8], path: str = "", *, only: Sequence[int] | None = None) -> Found:
        """`(H, W, 3)` RGB -> boxes before suppression, in pixels of this very picture.

        `path` is the picture's name, for boxes that come from a file. `only` asks for some of the labels; the others
        still compete.
        """
