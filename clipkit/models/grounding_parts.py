"""What every detector of the grounding family has: its loaded pieces, and boxes from its frame to pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Answer = tuple[NDArray[np.float64], NDArray[np.float64]]

# Phrases a forward pass of models that read each phrase as a text of its own.
PHRASES = 64


@dataclass(frozen=True, slots=True)
class Parts:
    """A loaded model with what belongs to it."""

    model: Any
    image_processor: Any
    tokenizer: Any
    device: str

    def pixels(self, image: NDArray[np.uint8]) -> dict[str, Any]:
        """The model's own preprocessing of one picture."""
        # A copy: decoded pictures are read-only, which torch warns of.
        made = self.image_processor(images=image.copy(), return_tensors="pt", input_data_format="channels_last")
        return {name: value.to(self.device) for name, value in made.items() if name in {"pixel_values", "pixel_mask"}}


def corners(boxes: torch.Tensor, width: float, height: float) -> NDArray[np.float64]:
    """Centres and sides in 0..1 -> `x0, y0, x1, y1` in pixels of a `width` x `height` frame."""
    rows = boxes.float().cpu().numpy().astype(np.float64)
    half = rows[:, 2:] / 2
    return np.asarray(np.concatenate([rows[:, :2] - half, rows[:, :2] + half], axis=1) * np.array([width, height] * 2))
