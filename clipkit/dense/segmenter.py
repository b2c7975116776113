"""One face for everything that segments: an image in, class maps out. Here for CLIP; GroupViT and others have theirs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from clipkit.dense.decide import Maps
from clipkit.dense.features import DenseOptions, dense_cosines, settle
from clipkit.errors import UsageError
from clipkit.prompts.ensemble import class_vectors
from clipkit.prompts.templates import load_templates

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from clipkit.dense.features import DenseClip
    from clipkit.dense.vocabulary import Vocabulary

REFINEMENTS = ("auto", "none", "tlp", "pamr")
# Elements of the maps that are refined: larger images are refined smaller, then enlarged (float32: 64 MB).
REFINED = 16_000_000


class Segmenter(Protocol):
    """What the task asks: who answers, when a pixel is background, and the class maps of an image."""

    @property
    def id(self) -> str:
        """The name records carry."""

    @property
    def weights_hash(self) -> str:
        """First 12 hex digits of the SHA-256 of the weights."""

    def maps(self, image: NDArray[np.uint8], threshold: float | None = None) -> Maps:
        """`(H, W, 3)` RGB -> class maps at the method's own resolution.

        `threshold` is the probability under which a pixel is background; None takes the method's own.
        """


@dataclass(frozen=True, slots=True)
class ClipOptions:
    """How CLIP segments. `refine` is one of `REFINEMENTS` (auto is tlp), `scale` None takes the method's."""

    dense: DenseOptions = field(default_factory=DenseOptions)
    refine: str = "auto"
    scale: float | None = None
    templates: tuple[str, ...] = field(default_factory=load_templates)


class ClipSegmenter:
    """Class maps from a CLIP model's own patches."""

    def __init__(self, clip: DenseClip, vocabulary: Vocabulary, options: ClipOptions) -> None:
        """Encode the labels once.

        Args:
            clip: a model of the torch engine.
            vocabulary: what to ask.
            options: how.

        Raises:
            ModelError: the image tower has no patch tokens, or the method does not fit it.
            UsageError: an unknown refinement.
        """
        if options.refine not in REFINEMENTS:
            raise UsageError(f"unknown refinement {options.refine!r}; known: {', '.join(REFINEMENTS)}")
        self.clip = clip
        self.options = options
        self.refine = "tlp" if options.refine == "auto" else options.refine
        self.vocabulary = vocabulary
        self.frame = settle(clip, options.dense)
        self.scale = self.frame.method.scale if options.scale is None else options.scale
        self.vectors = class_vectors(clip, vocabulary.classes, options.templates).vectors[:, 0]

    @property
    def id(self) -> str:
        """The model's name."""
        return self.clip.id

    @property
    def weights_hash(self) -> str:
        """The model's weights."""
        return self.clip.weights_hash

    def maps(self, image: NDArray[np.uint8], threshold: float | None = None) -> Maps:
        """Scaled logits, one map a query. The method's own threshold counts only where background is a class."""
        if threshold is None:
            threshold = self.frame.method.threshold if self.vocabulary.has_background else 0.0
        cosines = dense_cosines(self.clip, image, self.vectors, self.options.dense)
        if self.refine != "none":
            cosines = self._refined(cosines, image)
        return Maps(cosines * self.scale, self.vocabulary.owners, threshold=threshold)

    def _refined(self, cosines: Tensor, image: NDArray[np.uint8]) -> Tensor:
        """Refined against the picture's own pixels: TLP on its coarse grid, PAMR at full size where memory allows."""
        import torch
        from PIL import Image
        from torch.nn import functional

        from clipkit.dense import pamr, tlp

        height, width = image.shape[:2]
        shrink = min(1.0, (REFINED / (len(cosines) * height * width)) ** 0.5)
        size = (max(round(height * shrink), 1), max(round(width * shrink), 1))
        picture = Image.fromarray(image)
        if size != (height, width):
            picture = picture.resize(size[::-1], Image.Resampling.BILINEAR, reducing_gap=3.0)
        pixels = torch.from_numpy(self.clip.preprocess.normalize(np.asarray(picture)[None])[0]).to(cosines.device)
        with torch.inference_mode():
            if self.refine == "tlp":
                return tlp.refine(cosines, pixels, torch.from_numpy(self.vectors).to(cosines.device))
            logits = functional.interpolate(cosines[None], size=size, mode="bilinear", align_corners=False)[0]
            return pamr.refine(logits, pixels)
