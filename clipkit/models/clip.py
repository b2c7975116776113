"""What every task sees of a model: numpy in, numpy out, whichever engine computes.

Embedding tasks need nothing but this interface, so with the ONNX engine no torch enters the process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

ResizeMode = Literal["shortest", "longest", "squash"]
Interpolation = Literal["bicubic", "bilinear", "random"]


@dataclass(frozen=True, slots=True)
class Preprocess:
    """A model's own image preprocessing, read from its config and never guessed.

    `shortest`: resize the short side to `size`, centre crop. `longest`: resize the long side, pad with
    `fill_color`. `squash`: resize both sides, ignoring the aspect ratio. Equal to open_clip's transform
    pixel for pixel (a test).
    """

    size: tuple[int, int]  # (height, width)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bicubic"
    resize_mode: ResizeMode = "shortest"
    fill_color: int = 0

    def crop(self, image: Image.Image) -> NDArray[np.uint8]:
        """An RGB image resized and cropped: (H, W, 3) uint8."""
        from clipkit.models.preprocess import resize_and_crop

        return resize_and_crop(image, self)

    def normalize(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, H, W, 3) uint8 -> (N, 3, H, W) float32, scaled to [0, 1], mean and std applied."""
        scale = (1.0 / (255.0 * np.asarray(self.std, np.float32))).astype(np.float32)
        shift = (-np.asarray(self.mean, np.float32) / np.asarray(self.std, np.float32)).astype(np.float32)
        out = crops.transpose(0, 3, 1, 2).astype(np.float32)
        out *= scale[:, None, None]
        out += shift[:, None, None]
        return np.ascontiguousarray(out)


class Clip(Protocol):
    """A contrastive image-text model. Embeddings are float32 and L2-normalised unless `normalize=False`."""

    @property
    def id(self) -> str:
        """The name records carry, for instance `builtin` or `ViT-B-32/openai`."""

    @property
    def weights_hash(self) -> str:
        """First 12 hex digits of the SHA-256 of the weights file."""

    @property
    def embed_dim(self) -> int:
        """D, the width of the joint space."""

    @property
    def logit_scale(self) -> float:
        """The multiplier of cosines (already exponentiated; about 100 for CLIP)."""

    @property
    def logit_bias(self) -> float | None:
        """The bias of sigmoid models (SigLIP), None for softmax models."""

    @property
    def preprocess(self) -> Preprocess:
        """The image preprocessing of the model's own config."""

    @property
    def text_key(self) -> str:
        """Changes whenever text embeddings would: weights, tokenizer, context length. Keys the vector cache."""

    @property
    def device(self) -> str:
        """`cpu`, `cuda`, `cuda:1`, `mps`."""

    @property
    def engine(self) -> Literal["onnx", "torch"]:
        """Which engine computes."""

    def encode_images(self, pixels: NDArray[np.float32], *, normalize: bool = True) -> NDArray[np.float32]:
        """(N, 3, H, W) preprocessed pixels -> (N, D)."""

    def encode_texts(self, texts: Sequence[str], *, normalize: bool = True) -> NDArray[np.float32]:
        """N texts -> (N, D). Batches and trims tokens by itself; longer texts than the context are cut."""
