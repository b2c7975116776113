"""One face for everything that sees depth: an image in, a depth map at the method's own resolution out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """Depth of one image.

    Attributes:
        depth: `(h, w)` float32, metres along the optical axis; it covers the whole image.
        corners: the outermost values lie on the image's corners (`align_corners`) and not in the middle of cells.
        fov: the horizontal field of view the model sees in the image, degrees; None where it does not say.
    """

    depth: NDArray[np.float32]
    corners: bool = False
    fov: float | None = None


class Estimator(Protocol):
    """What the task asks of a method."""

    @property
    def id(self) -> str:
        """The name records carry."""

    @property
    def weights_hash(self) -> str:
        """First 12 hex digits of the SHA-256 of the weights."""

    @property
    def method(self) -> str:
        """Which method this is."""

    @property
    def metric(self) -> bool:
        """Whether the values are trained metres; words only order what they see."""

    @property
    def flips(self) -> bool:
        """Whether the method averages with the mirror image when nobody says otherwise."""

    def estimate(self, image: NDArray[np.uint8]) -> Estimate:
        """The depth of an `(H, W, 3)` RGB image of any size."""
