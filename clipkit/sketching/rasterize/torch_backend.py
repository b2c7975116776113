"""The default rasteriser: strokes to pixels in plain torch, on any device, with an analytic backward pass.

Only pixels near a stroke are ever touched. Each curve is cut into chords; each chord proposes the pixels of a small
window; the nearest chord wins a (pixel, stroke) pair by one sort of packed integers; Newton steps find the true closest
point of the curve; the coverage there is the area of a pixel behind the stroke's edge. The backward pass needs no
graph: by the envelope theorem the derivative of a minimum distance is taken at the closest point held fixed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from clipkit.sketching.rasterize.bezier import SEGMENTS, bernstein, power_basis, sagitta, sample
from clipkit.sketching.rasterize.coverage import box, stroke_coverage

if TYPE_CHECKING:
    from torch import Tensor

    from clipkit.sketching.rasterize.coverage import Profile

NEWTON_STEPS = 2
HALF_DIAGONAL = math.sqrt(0.5)  # a pixel further than this from the edge is not cut by it
DISTANCE_BITS = 20
SEGMENT_BITS = 4  # log2(SEGMENTS)
PAYLOAD_BITS = DISTANCE_BITS + SEGMENT_BITS


@dataclass(slots=True)
class Entries:
    """The covered (pixel, stroke) pairs, sorted by pixel and, within one pixel, from the top stroke down."""

    pixel: Tensor  # (E,) index into B*H*W
    stroke: Tensor  # (E,) index into B*N
    coverage: Tensor  # (E,)
    by_distance: Tensor  # (E,) d coverage / d distance
    by_radius: Tensor  # (E,) d coverage / d radius
    normal: Tensor  # (E, 2)
    weights: Tensor  # (E, 4) of the control points, at the closest point
    ranks: list[Tensor]  # depth r of a pixel's pile: the entries that lie there, each pixel once


def rasterise(
    points: Tensor, width: Tensor, ink: Tensor, background: Tensor, height: int, width_px: int, profile: Profile = box
) -> Tensor:
    """Strokes over a background: (B, C, H, W).

    Args:
        points: (B, N, 4, 2) control points, x then y, pixels; the first pixel's centre is (0.5, 0.5).
        width: (B, N) stroke widths, pixels.
        ink: (B, N, C + 1) colour and, last, opacity.
        background: (B, C, H, W) or broadcastable to it; no gradient flows to it.
        height: H.
        width_px: W.
        profile: how coverage is computed; `linear` is there for exact gradient checks.
    """
    image: Tensor = _Rasterise.apply(points, width, ink, background, height, width_px, profile)
    return image


class _Rasterise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        points: Tensor,
        width: Tensor,
        ink: Tensor,
        background: Tensor,
        height: int,
        width_px: int,
        profile: Profile,
    ) -> Tensor:
        batch, count = points.shape[:2]
        channels = ink.shape[-1] - 1
        flat = points.detach().reshape(batch * count, 4, 2)
        flat_ink = ink.detach().reshape(batch * count, -1)
        colour, opacity = flat_ink[:, :channels], flat_ink[:, channels:]
        entries = find_entries(flat, 0.5 * width.detach().reshape(-1), batch, height, width_px, profile)
        paper = background.detach().expand(batch, channels, height, width_px)
        paper = paper.permute(0, 2, 3, 1).reshape(batch * height * width_px, channels)

        alpha = entries.coverage * opacity[:, 0].index_select(0, entries.stroke)
        transmittance = torch.ones(len(paper), dtype=points.dtype, device=points.device)
        above = torch.ones_like(alpha)  # transmittance of the strokes over each entry
        image = torch.zeros_like(paper)
        tint = colour.index_select(0, entries.stroke)
        for rank in entries.ranks:
            pixel = entries.pixel.index_select(0, rank)
            through = transmittance.index_select(0, pixel)
            part = alpha.index_select(0, rank)
            above.index_copy_(0, rank, through)
            # a pixel occurs once in a rank, so plain copies do not collide
            image.index_copy_(
                0,
                pixel,
                image.index_select(0, pixel) + (through * part).unsqueeze(1) * tint.index_select(0, rank),
            )
            transmittance.index_copy_(0, pixel, through * (1.0 - part))
        image += transmittance.unsqueeze(1) * paper

        ctx.entries, ctx.shape = entries, (batch, count, channels, height, width_px)
        ctx.save_for_backward(alpha, above, opacity, tint, paper)
        return image.reshape(batch, height, width_px, channels).permute(0, 3, 1, 2).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        entries: Entries = ctx.entries
        batch, count, channels, _, _ = ctx.shape
        alpha, above, opacity, tint, paper = ctx.saved_tensors
        flow = grad.permute(0, 2, 3, 1).reshape(-1, channels).index_select(0, entries.pixel)
        # from the deepest stroke up: what shows where the entry lets light through
        behind = paper.clone()
        by_alpha = torch.empty_like(alpha)
        for rank in reversed(entries.ranks):
            pixel = entries.pixel.index_select(0, rank)
            lower = behind.index_select(0, pixel)
            contrast = tint.index_select(0, rank) - lower
            by_alpha.index_copy_(0, rank, (contrast * flow.index_select(0, rank)).sum(-1))
            behind.index_copy_(0, pixel, lower + alpha.index_select(0, rank).unsqueeze(1) * contrast)
        by_alpha *= above

        strokes = batch * count
        by_coverage = by_alpha * opacity[:, 0].index_select(0, entries.stroke)
        # moving the axis towards the pixel shortens the distance: minus the normal, shared by the Bernstein weights
        pull = (by_coverage * entries.by_distance).unsqueeze(1) * entries.normal
        parts = [
            (-entries.weights.unsqueeze(2) * pull.unsqueeze(1)).reshape(-1, 8),
            (0.5 * by_coverage * entries.by_radius).unsqueeze(1),
        ]
        if ctx.needs_input_grad[2]:
            parts += [(above * alpha).unsqueeze(1) * flow, (by_alpha * entries.coverage).unsqueeze(1)]
        together = torch.cat(parts, 1)
        total = together.new_zeros(strokes, together.shape[1]).index_add_(0, entries.stroke, together)
        return (
            total[:, :8].reshape(batch, count, 4, 2),
            total[:, 8].reshape(batch, count),
            total[:, 9:].reshape(batch, count, channels + 1) if ctx.needs_input_grad[2] else None,
            None,
            None,
            None,
            None,
        )


def find_entries(flat: Tensor, radius: Tensor, batch: int, height: int, width: int, profile: Profile) -> Entries:
    """Every (pixel, stroke) pair with coverage, from `flat` (M, 4, 2) and `radius` (M,), M = batch * strokes."""
    per_image = len(flat) // batch
    key = _candidates(flat, radius, per_image, height, width)
    pair = key >> PAYLOAD_BITS
    if len(pair):
        nearest = torch.ones_like(pair, dtype=torch.bool)
        torch.ne(pair[1:], pair[:-1], out=nearest[1:])
        chosen = torch.nonzero(nearest).squeeze(1)
        key, pair = key.index_select(0, chosen), pair.index_select(0, chosen)
    pixel = pair // per_image
    stroke = (pixel // (height * width)) * per_image + (per_image - 1 - (pair - pixel * per_image))
    inside = pixel % (height * width)
    centre = torch.stack((inside % width, inside // width), -1).to(flat.dtype) + 0.5
    t, normal, distance = _closest(flat, stroke, key & (SEGMENTS - 1), centre)
    coverage, by_distance, by_radius = stroke_coverage(distance, radius.index_select(0, stroke), normal, profile)

    kept = torch.nonzero(coverage > 0.0).squeeze(1)
    pixel = pixel.index_select(0, kept)
    return Entries(
        pixel=pixel,
        stroke=stroke.index_select(0, kept),
        coverage=coverage.index_select(0, kept),
        by_distance=by_distance.index_select(0, kept),
        by_radius=by_radius.index_select(0, kept),
        normal=normal.index_select(0, kept),
        weights=bernstein(t.index_select(0, kept)),
        ranks=_ranks(pixel),
    )


def _candidates(flat: Tensor, radius: Tensor, per_image: int, height: int, width: int) -> Tensor:
    """Sorted int64 keys, one a (pixel, stroke, chord) with the centre in reach of the chord.

    From the highest bit: pixel, stroke (top first), squared distance in fixed point, chord. After sorting, the first
    key of each (pixel, stroke) is its nearest chord, on every device and at every number of threads.
    """
    nodes = sample(flat, SEGMENTS + 1)
    start, end = nodes[:, :-1], nodes[:, 1:]
    reach = radius + HALF_DIAGONAL + sagitta(flat)
    pad = reach[:, None, None]
    limit = torch.tensor([width, height], device=flat.device, dtype=flat.dtype)
    low = torch.minimum((torch.minimum(start, end) - pad - 0.5).ceil().clamp_min(0.0), limit).long().reshape(-1, 2)
    high = torch.minimum((torch.maximum(start, end) + pad - 0.5).floor().clamp_min(-1.0), limit - 1.0)
    size = (high.long().reshape(-1, 2) - low + 1).clamp_min(0)
    area = size[:, 0] * size[:, 1]
    if len(flat) * height * width > 1 << (62 - PAYLOAD_BITS):
        raise ValueError(f"{len(flat)} strokes on {width}x{height} pixels are too many for one call")

    chord = torch.repeat_interleave(torch.arange(len(area), device=flat.device), area)
    local = torch.arange(len(chord), device=flat.device) - (area.cumsum(0) - area).index_select(0, chord)
    across = size[:, 0].index_select(0, chord)
    row = local // across
    column = local - row * across + low[:, 0].index_select(0, chord)
    row += low[:, 1].index_select(0, chord)

    along = (end - start).reshape(-1, 2)
    scale = along / along.square().sum(-1, keepdim=True).clamp_min(1e-12)
    origin = start.reshape(-1, 2)
    frame = torch.cat((origin, along, scale), 1).index_select(0, chord)
    x = column.to(flat.dtype) + 0.5 - frame[:, 0]
    y = row.to(flat.dtype) + 0.5 - frame[:, 1]
    u = (x * frame[:, 4] + y * frame[:, 5]).clamp_(0.0, 1.0)
    x -= u * frame[:, 2]
    y -= u * frame[:, 3]
    squared = x * x + y * y
    stroke = chord // SEGMENTS
    share = squared / (reach * reach).index_select(0, stroke)

    kept = torch.nonzero(share < 1.0).squeeze(1)
    chord, stroke = chord.index_select(0, kept), stroke.index_select(0, kept)
    image = stroke // per_image
    pixel = (image * height + row.index_select(0, kept)) * width + column.index_select(0, kept)
    key = pixel * per_image + (per_image - 1 - (stroke - image * per_image))
    key = (key << DISTANCE_BITS) + (share.index_select(0, kept) * ((1 << DISTANCE_BITS) - 1)).long()
    key = (key << SEGMENT_BITS) + (chord & (SEGMENTS - 1))
    # NumPy's vectorised sort is an order of magnitude faster than torch's on one CPU thread
    return torch.from_numpy(np.sort(key.numpy())) if key.device.type == "cpu" else key.sort().values


def _closest(flat: Tensor, stroke: Tensor, chord: Tensor, centre: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The closest point of each stroke to a pixel centre: t (E,), unit normal (E, 2), distance (E,)."""
    coefficient = power_basis(flat).reshape(-1, 8).index_select(0, stroke).unbind(1)
    x0, y0, x1, y1, x2, y2, x3, y3 = coefficient
    x0, y0 = x0 - centre[:, 0], y0 - centre[:, 1]  # the curve seen from the pixel
    first = chord.to(flat.dtype) / SEGMENTS

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        return x0 + t * (x1 + t * (x2 + t * x3)), y0 + t * (y1 + t * (y2 + t * y3))

    ax, ay = at(first)
    bx, by = at(first + 1.0 / SEGMENTS)
    ex, ey = bx - ax, by - ay
    u = (-(ax * ex + ay * ey) / (ex * ex + ey * ey).clamp_min_(1e-12)).clamp_(0.0, 1.0)
    t = first + u / SEGMENTS
    for _ in range(NEWTON_STEPS):
        x, y = at(t)
        vx, vy = x1 + t * (2.0 * x2 + 3.0 * t * x3), y1 + t * (2.0 * y2 + 3.0 * t * y3)
        speed = vx * vx + vy * vy
        curvature = speed + x * (2.0 * x2 + 6.0 * t * x3) + y * (2.0 * y2 + 6.0 * t * y3)
        # where the second derivative is small or negative Newton runs away; Gauss-Newton's own term does not
        step = (x * vx + y * vy) / torch.maximum(curvature, 0.5 * speed).clamp_min_(1e-12)
        t = (t - step.clamp_(-1.0 / SEGMENTS, 1.0 / SEGMENTS)).clamp_(0.0, 1.0)
    x, y = at(t)
    distance = (x * x + y * y).sqrt_()
    vx, vy = x1 + t * (2.0 * x2 + 3.0 * t * x3), y1 + t * (2.0 * y2 + 3.0 * t * y3)
    speed = (vx * vx + vy * vy).sqrt_().clamp_min_(1e-12)
    on_axis = distance < 1e-5  # there the direction to the pixel is noise and the curve's own normal is meant
    safe = distance.clamp_min(1e-12)
    normal = torch.stack((torch.where(on_axis, -vy / speed, -x / safe), torch.where(on_axis, vx / speed, -y / safe)), 1)
    return t, normal, distance


def _ranks(pixel: Tensor) -> list[Tensor]:
    """Entries grouped by their depth in their pixel's pile, from a sorted `pixel` (E,)."""
    index = torch.arange(len(pixel), device=pixel.device)
    if not len(pixel):
        return []
    first = torch.ones_like(pixel, dtype=torch.bool)
    torch.ne(pixel[1:], pixel[:-1], out=first[1:])
    depth = index - torch.where(first, index, 0).cummax(0).values
    groups = [torch.nonzero(first).squeeze(1)]
    rest = torch.nonzero(depth > 0).squeeze(1)
    level = 1
    while len(rest):
        here = depth.index_select(0, rest) == level
        groups.append(rest[here])
        rest = rest[~here]
        level += 1
    return groups
