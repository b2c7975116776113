"""The `triton` rasteriser for CUDA: the same arithmetic as the torch one, dense over tiles instead of sparse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from clipkit.sketching.rasterize.bezier import SEGMENTS
from clipkit.sketching.rasterize.torch_backend import NEWTON_STEPS

if TYPE_CHECKING:
    from torch import Tensor

TILE = 16


def rasterise(points: Tensor, width: Tensor, ink: Tensor, background: Tensor, height: int, width_px: int) -> Tensor:
    """Strokes over a background: (B, C, H, W); arguments as `torch_backend.rasterise`, float32 on one CUDA device."""
    image: Tensor = _Rasterise.apply(points, width, ink, background, height, width_px)
    return image


class _Rasterise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, points: Tensor, width: Tensor, ink: Tensor, background: Tensor, height: int, width_px: int
    ) -> Tensor:
        from clipkit.sketching.rasterize.triton_kernels import forward_kernel

        batch, count = points.shape[:2]
        channels = ink.shape[-1] - 1
        points, ink = points.detach().float().contiguous(), ink.detach().float().contiguous()
        radius = (0.5 * width.detach().float()).contiguous()
        paper = background.detach().float().expand(batch, channels, height, width_px).contiguous()
        image = torch.empty_like(paper)
        nearest = points.new_empty(batch, count, height, width_px)
        above = torch.empty_like(nearest)
        tiles = -(-height // TILE) * -(-width_px // TILE)
        forward_kernel[(tiles, batch)](
            points, radius, ink, paper, image, nearest, above, count, height, width_px,
            CHANNELS=channels, TILE=TILE, SEGMENTS=SEGMENTS, NEWTON=NEWTON_STEPS,
        )  # fmt: skip
        ctx.save_for_backward(points, radius, ink, paper, nearest, above)
        ctx.tiles = tiles
        return image

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from clipkit.sketching.rasterize.triton_kernels import SLOTS, backward_kernel

        points, radius, ink, paper, nearest, above = ctx.saved_tensors
        batch, count = points.shape[:2]
        channels, height, width_px = paper.shape[1:]
        partial = points.new_zeros(batch, ctx.tiles, count, SLOTS)
        backward_kernel[(ctx.tiles, batch)](
            points, radius, ink, paper, nearest, above, grad.float().contiguous(), partial, count, height, width_px,
            CHANNELS=channels, TILE=TILE, SLOT_COUNT=SLOTS,
        )  # fmt: skip
        total = partial.sum(1)
        by_ink = torch.cat((total[..., 10 : 10 + channels], total[..., 9:10]), -1)
        return total[..., :8].reshape(batch, count, 4, 2), 0.5 * total[..., 8], by_ink, None, None, None
