"""Cubic Bezier curves in batches: the one curve a stroke is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

SEGMENTS = 16
"""Chords a stroke is cut into before the exact closest point is sought."""


def bernstein(t: Tensor) -> Tensor:
    """Weights of the four control points at `t`: (...,) -> (..., 4), summing to one."""
    s = 1.0 - t
    return torch.stack((s * s * s, 3.0 * t * s * s, 3.0 * t * t * s, t * t * t), -1)


def power_basis(points: Tensor) -> Tensor:
    """Coefficients of 1, t, t^2, t^3: control points (..., 4, 2) -> (..., 4, 2)."""
    p0, p1, p2, p3 = points.unbind(-2)
    return torch.stack((p0, 3.0 * (p1 - p0), 3.0 * (p0 - 2.0 * p1 + p2), p3 - p0 + 3.0 * (p1 - p2)), -2)


def sagitta(points: Tensor, segments: int = SEGMENTS) -> Tensor:
    """How far a chord can be from its curve, at most: (..., 4, 2) -> (...,), in the points' unit.

    A piece of length h in t deviates from its chord by at most max|B''| h^2 / 8, and |B''| of a cubic is largest
    at one of its ends, where it is six times the second difference of the control points.
    """
    p0, p1, p2, p3 = points.unbind(-2)
    bend = torch.maximum((p0 - 2.0 * p1 + p2).norm(dim=-1), (p1 - 2.0 * p2 + p3).norm(dim=-1))
    return bend * (6.0 / (8.0 * segments * segments))


def sample(points: Tensor, count: int) -> Tensor:
    """Points on the curves at `count` equal steps of t: (..., 4, 2) -> (..., count, 2)."""
    t = torch.linspace(0.0, 1.0, count, dtype=points.dtype, device=points.device)
    return bernstein(t) @ points
