"""Strokes to pixels, differentiably: one `render`, three backends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from clipkit.errors import ModelUnavailableError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["RENDERERS", "Renderer", "choose_renderer", "render"]

Renderer = Literal["torch", "triton", "diffvg"]
RENDERERS: tuple[str, ...] = ("auto", "torch", "triton", "diffvg")


def choose_renderer(name: str, device: str | torch.device = "cpu") -> Renderer:
    """Resolve `auto` and check that the choice can run; never falls back to another one.

    `auto` is `torch` on every device.

    Raises:
        UsageError: no such renderer, or `triton` without a CUDA device.
        ModelUnavailableError: `triton` or `diffvg` is not installed.
    """
    from importlib.util import find_spec

    if name in {"auto", "torch"}:
        return "torch"
    if name == "triton":
        if find_spec("triton") is None:
            raise ModelUnavailableError("--renderer triton needs the package triton; use --renderer torch")
        if not str(device).startswith("cuda"):
            raise UsageError(f"--renderer triton needs a CUDA device, not {device}; use --renderer torch")
        return "triton"
    if name == "diffvg":
        from clipkit.sketching.rasterize import diffvg_backend

        if not diffvg_backend.installed():
            raise ModelUnavailableError(
                "--renderer diffvg needs pydiffvg, which has to be built from its sources; use --renderer torch"
            )
        return "diffvg"
    raise UsageError(f"unknown renderer {name!r}; choose one of {', '.join(RENDERERS)}")


def render(
    points: Tensor,
    width: Tensor,
    ink: Tensor,
    height: int,
    width_px: int,
    *,
    background: Tensor | None = None,
    renderer: Renderer = "torch",
) -> Tensor:
    """Draw strokes, in order, over a background.

    Args:
        points: (B, N, 4, 2) control points of one cubic Bezier a stroke, x then y, in pixels.
        width: (B, N) stroke widths in pixels; ends are round.
        ink: (B, N, 4) red, green, blue and opacity, or (B, N, 2) grey and opacity, all in [0, 1].
        height: rows of the picture.
        width_px: columns of the picture.
        background: broadcastable to (B, C, H, W); white when None. It receives no gradient.
        renderer: a resolved backend, see `choose_renderer`.

    Returns:
        (B, C, H, W), C = 3 for RGBA ink and 1 for grey; differentiable in points, width and ink.
    """
    if background is None:
        background = points.new_ones(1, 1, 1, 1)
    if renderer == "torch":
        from clipkit.sketching.rasterize import torch_backend

        return torch_backend.rasterise(points, width, ink, background, height, width_px)
    if renderer == "triton":
        from clipkit.sketching.rasterize import triton_backend

        return triton_backend.rasterise(points, width, ink, background, height, width_px)
    from clipkit.sketching.rasterize import diffvg_backend

    return diffvg_backend.rasterise(points, width, ink, background, height, width_px)
