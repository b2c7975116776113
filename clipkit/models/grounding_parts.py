"""What every detector of the grounding family has: its loaded pieces, and boxes from its frame to pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from numpy.typing import NDArray

    from clipkit.detection.spans import Caption

    Answer = tuple[NDArray[np.float64], NDArray[np.float64]]

# Phrases a forward pass of models that read each phrase as a text of its own.
PHRASES = 64


class Backend(Protocol):
    """A loaded model that is asked for phrases."""

    def answers(self, image: NDArray[np.uint8], phrases: Sequence[str]) -> Iterator[tuple[range, Answer]]:
        """Boxes `(Q, 4)` in pixels and scores `(Q, P)` of each part of the phrases; a score of 0 is no answer."""


@runtime_checkable
class Captioned(Backend, Protocol):
    """A backend that reads sentences too."""

    def answer(self, image: NDArray[np.uint8], text: Caption) -> Answer:
        """Boxes of one caption."""


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
