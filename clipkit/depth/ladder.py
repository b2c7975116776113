"""DepthCLIP's ladder of words: each word stands for a distance, and a cell's depth is what its words expect.

Zhang et al. 2022, "Can Language Understand Depth?".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clipkit.errors import UsageError
from clipkit.prompts.ensemble import class_vectors
from clipkit.prompts.labels import Label

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clipkit.models.clip import Clip

WORDS = ("giant", "extremely close", "close", "not in distance", "a little remote", "far", "unseen")
BINS = (1.00, 1.50, 2.00, 2.25, 2.50, 2.75, 3.00)
TEMPLATES = ("This object is {}",)
TEMPERATURE = 0.1
SCALE = 100.0  # the authors' constant, whatever the model's own logit scale


@dataclass(frozen=True, slots=True)
class Ladder:
    """Words for distances, and what they mean in metres.

    Attributes:
        words: K descriptions of a distance.
        bins: K distances in metres, positive.
        templates: prompts with `{}` for the description; several are averaged.
        temperature: divides the logits before the softmax.
    """

    words: tuple[str, ...] = WORDS
    bins: tuple[float, ...] = BINS
    templates: tuple[str, ...] = TEMPLATES
    temperature: float = TEMPERATURE

    def __post_init__(self) -> None:
        """Refuse ladders that mean nothing.

        Raises:
            UsageError: fewer than two words, another number of bins, a distance or temperature that is not positive.
        """
        if len(self.words) < 2 or not all(word.strip() for word in self.words):
            raise UsageError("depth from words needs at least two words for distances, none of them empty")
        if len(self.words) != len(self.bins):
            raise UsageError(
                f"{len(self.words)} words but {len(self.bins)} bins: give one distance in metres for each word"
            )
        if not all(math.isfinite(value) and value > 0 for value in (*self.bins, self.temperature)):
            raise UsageError("bins and the temperature must be positive numbers")

    def vectors(self, clip: Clip) -> NDArray[np.float32]:
        """The words' text vectors, `(K, D)`, L2-normalised."""
        labels = [Label(word, (word,)) for word in self.words]
        return class_vectors(clip, labels, self.templates).vectors[:, 0]

    def expected(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosines `(..., K)` -> depth `(...)` in metres: the bins weighted by `softmax(100 cos / T)`."""
        logits = SCALE * cosines / np.float32(self.temperature)
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        depth = weights @ np.asarray(self.bins, np.float32)
        # Weights that sum to one only to rounding must not lead out of the bins.
        return np.asarray(np.clip(depth, min(self.bins), max(self.bins)), np.float32)
