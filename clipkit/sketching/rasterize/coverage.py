"""How much of a pixel a stroke covers, from the distance of the pixel's centre to the stroke's axis.

The pixel is a unit box and the stroke's edge is taken as straight within it, so coverage is the area of a box
behind a half-plane, which has a closed form: the box projected on the edge's normal (nx, ny) is a trapezoid, the
convolution of two uniform densities of widths |nx| and |ny|.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor


class Profile(Protocol):
    """Area of a pixel behind an edge and its derivative, by signed distance and normal."""

    def __call__(self, signed: Tensor, wide: Tensor, narrow: Tensor) -> tuple[Tensor, Tensor]:
        """`signed`: how far the centre lies inside the edge; `wide` >= `narrow`: |normal| sorted. -> (area, density)."""


def box(signed: Tensor, wide: Tensor, narrow: Tensor) -> tuple[Tensor, Tensor]:
    """Exact area of the unit box behind the edge, in [0, 1], and its derivative by the signed distance."""
    reach = (0.5 * (wide + narrow) - signed.abs()).clamp_min_(0.0)
    ramp = torch.minimum(reach, narrow)
    # one minus the area on the nearer side: quadratic while the corner enters, linear afterwards
    tail = (ramp * ramp / (2.0 * narrow) + (reach - ramp)) / wide
    return torch.where(signed > 0.0, 1.0 - tail, tail), ramp / (wide * narrow)


def linear(signed: Tensor, wide: Tensor, narrow: Tensor) -> tuple[Tensor, Tensor]:
    """The usual one-pixel ramp, independent of the normal, so its gradient has no neglected term."""
    del wide, narrow
    area = (signed + 0.5).clamp(0.0, 1.0)
    return area, ((area > 0.0) & (area < 1.0)).to(signed.dtype)


def stroke_coverage(
    distance: Tensor, radius: Tensor, normal: Tensor, profile: Profile = box
) -> tuple[Tensor, Tensor, Tensor]:
    """Coverage of a stroke of half-width `radius` at `distance` from its axis, and both derivatives.

    Args:
        distance: (E,) from the pixel centre to the closest point of the axis, pixels.
        radius: (E,) half the stroke's width, pixels.
        normal: (E, 2) unit vector from the axis to the pixel centre.
        profile: `box` (exact area) or `linear`.

    Returns:
        coverage (E,) in [0, 1]; d coverage / d distance; d coverage / d radius.
    """
    size = normal.abs()
    wide = size.amax(-1)
    narrow = size.amin(-1).clamp_min(1e-6)
    near, near_density = profile(radius - distance, wide, narrow)
    far, far_density = profile(-radius - distance, wide, narrow)
    return near - far, far_density - near_density, far_density + near_density
