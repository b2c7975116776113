"""The CUDA kernels of the `triton` backend: one program a tile of pixels and a picture of the batch.

The nearest point of every stroke is found in registers. No program writes where another does, so there are no atomics
and equal inputs give equal bits; shapes depend on nothing but the arguments' shapes, so a CUDA graph can record them.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, PLR0915 - the kernel language has its own types and no functions to split into
from __future__ import annotations

import triton
import triton.language as tl

SLOTS = 13  # partial sums a stroke and tile: 8 coordinates, half-width, opacity, 3 colours


@triton.jit
def box_area(signed, wide, narrow):
    """Area of a unit pixel behind an edge, and its derivative: `coverage.box`."""
    reach = tl.maximum(0.5 * (wide + narrow) - tl.abs(signed), 0.0)
    ramp = tl.minimum(reach, narrow)
    tail = (ramp * ramp / (2.0 * narrow) + (reach - ramp)) / wide
    return tl.where(signed > 0.0, 1.0 - tail, tail), ramp / (wide * narrow)


@triton.jit
def cover(x0, y0, x1, y1, x2, y2, x3, y3, t, radius):
    """Coverage at the closest point `t` of a curve in power form, seen from the pixel.

    Returns coverage, its derivatives by distance and by half-width, and the unit normal.
    """
    x = x0 + t * (x1 + t * (x2 + t * x3))
    y = y0 + t * (y1 + t * (y2 + t * y3))
    distance = tl.sqrt(x * x + y * y)
    vx = x1 + t * (2.0 * x2 + 3.0 * t * x3)
    vy = y1 + t * (2.0 * y2 + 3.0 * t * y3)
    speed = tl.maximum(tl.sqrt(vx * vx + vy * vy), 1e-12)
    safe = tl.maximum(distance, 1e-12)
    on_axis = distance < 1e-5
    nx = tl.where(on_axis, -vy / speed, -x / safe)
    ny = tl.where(on_axis, vx / speed, -y / safe)
    wide = tl.maximum(tl.abs(nx), tl.abs(ny))
    narrow = tl.maximum(tl.minimum(tl.abs(nx), tl.abs(ny)), 1e-6)
    near, near_density = box_area(radius - distance, wide, narrow)
    far, far_density = box_area(-radius - distance, wide, narrow)
    return near - far, far_density - near_density, far_density + near_density, nx, ny


@triton.jit
def closest(x0, y0, x1, y1, x2, y2, x3, y3, SEGMENTS: tl.constexpr, NEWTON: tl.constexpr):
    """The curve parameter nearest to each pixel of a tile: best chord, then Newton steps."""
    best = x0 * 0.0 + 3.0e38
    t = x0 * 0.0
    ax, ay = x0, y0
    for k in range(SEGMENTS):
        end = (k + 1.0) / SEGMENTS
        bx = x0 + end * (x1 + end * (x2 + end * x3))
        by = y0 + end * (y1 + end * (y2 + end * y3))
        ex = bx - ax
        ey = by - ay
        u = -(ax * ex + ay * ey) / tl.maximum(ex * ex + ey * ey, 1e-12)
        u = tl.minimum(tl.maximum(u, 0.0), 1.0)
        qx = ax + u * ex
        qy = ay + u * ey
        squared = qx * qx + qy * qy
        better = squared < best
        best = tl.where(better, squared, best)
        t = tl.where(better, (k + u) / SEGMENTS, t)
        ax, ay = bx, by
    for _ in range(NEWTON):
        x = x0 + t * (x1 + t * (x2 + t * x3))
        y = y0 + t * (y1 + t * (y2 + t * y3))
        vx = x1 + t * (2.0 * x2 + 3.0 * t * x3)
        vy = y1 + t * (2.0 * y2 + 3.0 * t * y3)
        speed = vx * vx + vy * vy
        bend = speed + x * (2.0 * x2 + 6.0 * t * x3) + y * (2.0 * y2 + 6.0 * t * y3)
        step = (x * vx + y * vy) / tl.maximum(tl.maximum(bend, 0.5 * speed), 1e-12)
        step = tl.minimum(tl.maximum(step, -1.0 / SEGMENTS), 1.0 / SEGMENTS)
        t = tl.minimum(tl.maximum(t - step, 0.0), 1.0)
    return t


@triton.jit
def curve(points, radius, stroke):
    """Control points in power form, half-width, and the stroke's bounding box (a curve lies in its hull)."""
    p0x = tl.load(points + stroke * 8 + 0)
    p0y = tl.load(points + stroke * 8 + 1)
    p1x = tl.load(points + stroke * 8 + 2)
    p1y = tl.load(points + stroke * 8 + 3)
    p2x = tl.load(points + stroke * 8 + 4)
    p2y = tl.load(points + stroke * 8 + 5)
    p3x = tl.load(points + stroke * 8 + 6)
    p3y = tl.load(points + stroke * 8 + 7)
    r = tl.load(radius + stroke)
    pad = r + 0.70710679
    left = tl.minimum(tl.minimum(p0x, p1x), tl.minimum(p2x, p3x)) - pad
    right = tl.maximum(tl.maximum(p0x, p1x), tl.maximum(p2x, p3x)) + pad
    top = tl.minimum(tl.minimum(p0y, p1y), tl.minimum(p2y, p3y)) - pad
    bottom = tl.maximum(tl.maximum(p0y, p1y), tl.maximum(p2y, p3y)) + pad
    x1 = 3.0 * (p1x - p0x)
    y1 = 3.0 * (p1y - p0y)
    x2 = 3.0 * (p0x - 2.0 * p1x + p2x)
    y2 = 3.0 * (p0y - 2.0 * p1y + p2y)
    x3 = p3x - p0x + 3.0 * (p1x - p2x)
    y3 = p3y - p0y + 3.0 * (p1y - p2y)
    return p0x, p0y, x1, y1, x2, y2, x3, y3, r, left, right, top, bottom


@triton.jit
def forward_kernel(
    points, radius, ink, paper, image, nearest, above, count, height, width,
    CHANNELS: tl.constexpr, TILE: tl.constexpr, SEGMENTS: tl.constexpr, NEWTON: tl.constexpr,
):  # fmt: skip
    """Composite the strokes of one picture over one tile, from the top stroke down.

    `nearest` and `above` (B, N, H, W) keep, for the backward pass, the closest parameter and the transmittance over
    each stroke; only pixels of tiles that a stroke's box touches are written.
    """
    batch = tl.program_id(1)
    across = tl.cdiv(width, TILE)
    row = (tl.program_id(0) // across) * TILE
    column = (tl.program_id(0) % across) * TILE
    ys = row + tl.arange(0, TILE)[:, None]
    xs = column + tl.arange(0, TILE)[None, :]
    inside = (ys < height) & (xs < width)
    cx = xs + 0.5 + ys * 0.0
    cy = ys + 0.5 + xs * 0.0
    here = ys * width + xs
    plane = height * width

    through = cx * 0.0 + 1.0
    red = cx * 0.0
    green = cx * 0.0
    blue = cx * 0.0
    for j in range(count):
        stroke = batch * count + count - 1 - j
        p0x, p0y, x1, y1, x2, y2, x3, y3, r, left, right, top, bottom = curve(points, radius, stroke)
        if (left < column + TILE) & (right > column) & (top < row + TILE) & (bottom > row):
            x0 = p0x - cx
            y0 = p0y - cy
            t = closest(x0, y0, x1, y1, x2, y2, x3, y3, SEGMENTS, NEWTON)
            covered, _a, _b, _nx, _ny = cover(x0, y0, x1, y1, x2, y2, x3, y3, t, r)
            alpha = covered * tl.load(ink + stroke * (CHANNELS + 1) + CHANNELS)
            tl.store(nearest + stroke.to(tl.int64) * plane + here, t, mask=inside)
            tl.store(above + stroke.to(tl.int64) * plane + here, through, mask=inside)
            part = through * alpha
            red += part * tl.load(ink + stroke * (CHANNELS + 1))
            if CHANNELS == 3:
                green += part * tl.load(ink + stroke * (CHANNELS + 1) + 1)
                blue += part * tl.load(ink + stroke * (CHANNELS + 1) + 2)
            through *= 1.0 - alpha
    place = batch * CHANNELS * plane + here
    tl.store(image + place, red + through * tl.load(paper + place, mask=inside, other=0.0), mask=inside)
    if CHANNELS == 3:
        place += plane
        tl.store(image + place, green + through * tl.load(paper + place, mask=inside, other=0.0), mask=inside)
        place += plane
        tl.store(image + place, blue + through * tl.load(paper + place, mask=inside, other=0.0), mask=inside)


@triton.jit
def tile_sum(values):
    """The sum over a tile, a scalar."""
    return tl.sum(tl.sum(values, 1), 0)


@triton.jit
def backward_kernel(
    points, radius, ink, paper, nearest, above, grad, partial, count, height, width,
    CHANNELS: tl.constexpr, TILE: tl.constexpr, SLOT_COUNT: tl.constexpr,
):  # fmt: skip
    """Partial sums of the gradients over one tile: `partial` (B, tiles, N, SLOTS), zero where nothing is written.

    From the bottom stroke up: what shows behind a stroke is a running composite, so nothing is divided.
    """
    batch = tl.program_id(1)
    across = tl.cdiv(width, TILE)
    row = (tl.program_id(0) // across) * TILE
    column = (tl.program_id(0) % across) * TILE
    ys = row + tl.arange(0, TILE)[:, None]
    xs = column + tl.arange(0, TILE)[None, :]
    inside = (ys < height) & (xs < width)
    cx = xs + 0.5 + ys * 0.0
    cy = ys + 0.5 + xs * 0.0
    here = ys * width + xs
    plane = height * width

    place = batch * CHANNELS * plane + here
    red = tl.load(paper + place, mask=inside, other=0.0)
    flow_red = tl.load(grad + place, mask=inside, other=0.0)
    green = red * 0.0
    blue = red * 0.0
    flow_green = red * 0.0
    flow_blue = red * 0.0
    if CHANNELS == 3:
        green = tl.load(paper + place + plane, mask=inside, other=0.0)
        blue = tl.load(paper + place + 2 * plane, mask=inside, other=0.0)
        flow_green = tl.load(grad + place + plane, mask=inside, other=0.0)
        flow_blue = tl.load(grad + place + 2 * plane, mask=inside, other=0.0)

    for n in range(count):
        stroke = batch * count + n
        p0x, p0y, x1, y1, x2, y2, x3, y3, r, left, right, top, bottom = curve(points, radius, stroke)
        if (left < column + TILE) & (right > column) & (top < row + TILE) & (bottom > row):
            t = tl.load(nearest + stroke.to(tl.int64) * plane + here, mask=inside, other=0.0)
            over = tl.load(above + stroke.to(tl.int64) * plane + here, mask=inside, other=0.0)
            x0 = p0x - cx
            y0 = p0y - cy
            covered, by_distance, by_radius, nx, ny = cover(x0, y0, x1, y1, x2, y2, x3, y3, t, r)
            opacity = tl.load(ink + stroke * (CHANNELS + 1) + CHANNELS)
            alpha = tl.where(inside, covered * opacity, 0.0)
            tint = tl.load(ink + stroke * (CHANNELS + 1))
            contrast = (tint - red) * flow_red
            red += alpha * (tint - red)
            if CHANNELS == 3:
                tint = tl.load(ink + stroke * (CHANNELS + 1) + 1)
                contrast += (tint - green) * flow_green
                green += alpha * (tint - green)
                tint = tl.load(ink + stroke * (CHANNELS + 1) + 2)
                contrast += (tint - blue) * flow_blue
                blue += alpha * (tint - blue)
            by_alpha = tl.where(inside, over * contrast, 0.0)
            pull = -by_alpha * opacity * by_distance
            s = 1.0 - t
            w0 = s * s * s * pull
            w1 = 3.0 * t * s * s * pull
            w2 = 3.0 * t * t * s * pull
            w3 = t * t * t * pull
            slot = partial + ((batch * tl.num_programs(0) + tl.program_id(0)) * count + n).to(tl.int64) * SLOT_COUNT
            tl.store(slot + 0, tile_sum(w0 * nx))
            tl.store(slot + 1, tile_sum(w0 * ny))
            tl.store(slot + 2, tile_sum(w1 * nx))
            tl.store(slot + 3, tile_sum(w1 * ny))
            tl.store(slot + 4, tile_sum(w2 * nx))
            tl.store(slot + 5, tile_sum(w2 * ny))
            tl.store(slot + 6, tile_sum(w3 * nx))
            tl.store(slot + 7, tile_sum(w3 * ny))
            tl.store(slot + 8, tile_sum(by_alpha * opacity * by_radius))
            tl.store(slot + 9, tile_sum(by_alpha * covered))
            tl.store(slot + 10, tile_sum(over * alpha * flow_red))
            if CHANNELS == 3:
                tl.store(slot + 11, tile_sum(over * alpha * flow_green))
                tl.store(slot + 12, tile_sum(over * alpha * flow_blue))
