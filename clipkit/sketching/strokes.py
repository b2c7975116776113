"""A finished sketch as plain arrays: what optimisation ends with and every export starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CANVAS = 224
"""Side of the square canvas whose units stroke coordinates and widths are in, CLIPasso's picture size."""


@dataclass(frozen=True, slots=True, eq=False)
class Strokes:
    """N strokes on the canvas, in painting order.

    Attributes:
        points: (N, 4, 2) float32 control points of one cubic Bezier each, x then y, canvas units.
        width: (N,) float32 stroke widths, canvas units.
        color: (N, 3) float32 RGB in [0, 1].
        opacity: (N,) float32 in [0, 1].
    """

    points: NDArray[np.float32]
    width: NDArray[np.float32]
    color: NDArray[np.float32]
    opacity: NDArray[np.float32]

    def __len__(self) -> int:
        """N."""
        return len(self.points)

    def subset(self, index: Sequence[int] | NDArray[np.intp]) -> Strokes:
        """Some of the strokes, in the order given."""
        picked = np.asarray(index, np.intp)
        return Strokes(self.points[picked], self.width[picked], self.color[picked], self.opacity[picked])

    def followed_by(self, later: Strokes) -> Strokes:
        """These strokes with others painted over them."""
        pairs = ((self.points, later.points), (self.width, later.width), (self.color, later.color))
        joined = [np.concatenate(pair) for pair in pairs]
        return Strokes(joined[0], joined[1], joined[2], np.concatenate((self.opacity, later.opacity)))

    @property
    def coloured(self) -> bool:
        """Whether any stroke is not grey."""
        return bool((self.color != self.color[:, :1]).any())

    @classmethod
    def black(cls, points: NDArray[np.float32], width: float) -> Strokes:
        """Opaque black strokes of one width, from control points (N, 4, 2)."""
        count = len(points)
        return cls(
            np.asarray(points, np.float32),
            np.full(count, width, np.float32),
            np.zeros((count, 3), np.float32),
            np.ones(count, np.float32),
        )

    def records(self) -> list[dict[str, Any]]:
        """JSON objects, one a stroke."""
        return [
            {
                "points": [[round(float(x), 4), round(float(y), 4)] for x, y in points],
                "width": round(float(width), 4),
                "color": hex_color(color),
                "opacity": round(float(opacity), 4),
            }
            for points, width, color, opacity in zip(self.points, self.width, self.color, self.opacity, strict=True)
        ]


def hex_color(color: NDArray[np.float32]) -> str:
    """RGB in [0, 1] as `#rrggbb`."""
    return "#" + "".join(f"{round(float(c) * 255):02x}" for c in np.clip(color, 0.0, 1.0))
