"""Detection with CLIP alone: parts of its class maps that stand out, judged again by looking at each of them closely."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.dense.segmenter import ClipOptions, ClipSegmenter
from clipkit.detection.boxes import within
from clipkit.detection.crops import SCALES, embed_boxes
from clipkit.detection.detector import Found
from clipkit.detection.nms import drop_contained
from clipkit.detection.proposals import MOST, THRESHOLDS, Ranking, propose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clipkit.dense.features import DenseClip
    from clipkit.dense.vocabulary import Vocabulary

# Maps are cut into parts on a grid with this long side: finer steps move boxes by less than they err.
GRID = 160


@dataclass(frozen=True, slots=True)
class ClipBoxOptions:
    """How CLIP detects.

    Attributes:
        clip: how class maps are made.
        thresholds: shares of each map's maximum at which parts are cut out.
        ranking: see `proposals.propose`.
        proposals: how many boxes are looked at closely.
        scales: sizes of the crops, in sides of the box; none skips the close look.
        contained: a box of which this share lies in a better box of its class goes; above 1 none goes.
    """

    clip: ClipOptions = field(default_factory=ClipOptions)
    thresholds: tuple[float, ...] = THRESHOLDS
    ranking: Ranking = "standout"
    proposals: int = MOST
    scales: tuple[float, ...] = SCALES
    contained: float = 0.9


class ClipDetector:
    """Boxes from a CLIP model's own patches and crops."""

    nms = 0.5
    least = 0.2
    most = 100

    def __init__(self, clip: DenseClip, vocabulary: Vocabulary, options: ClipBoxOptions) -> None:
        """Encode the labels once.

        Raises:
            ModelError: the image tower has no patch tokens.
        """
        self.segmenter = ClipSegmenter(clip, vocabulary, options.clip)
        self.clip = clip
        self.vocabulary = vocabulary
        self.options = options
        self.first = 1 if vocabulary.has_background else 0

    @property
    def id(self) -> str:
        """The model's name."""
        return self.clip.id

    @property
    def weights_hash(self) -> str:
        """The model's weights."""
        return self.clip.weights_hash

    @property
    def labels(self) -> tuple[str, ...]:
        """The vocabulary's things."""
        return self.vocabulary.labels

    def detect(self, image: NDArray[np.uint8], path: str = "", *, only: Sequence[int] | None = None) -> Found:  # noqa: ARG002 (the path is for boxes from files)
        """`(H, W, 3)` RGB -> boxes; score = sqrt(p_dense p_crop), the rank among proposals and the crops' softmax."""
        found = self.proposals(image, only=only)
        if self.options.scales and len(found):
            crops = self.crop_probabilities(image, found.boxes)[np.arange(len(found)), found.classes]
            found = Found(found.boxes, np.sqrt(found.scores * crops), found.classes)
        return found[drop_contained(found.boxes, found.scores, self.options.contained, found.classes)]

    def proposals(self, image: NDArray[np.uint8], *, only: Sequence[int] | None = None) -> Found:
        """The boxes that are looked at closely, with their ranks in [0, 1] as scores."""
        height, width = image.shape[:2]
        maps = self.maps(image)
        options = self.options
        found = propose(maps, thresholds=options.thresholds, ranking=options.ranking, most=options.proposals, only=only)
        step = np.array([width / maps.shape[2], height / maps.shape[1]] * 2)
        return Found(within(found.boxes * step, width, height), np.clip(found.rank, 0, 1), found.classes)

    def maps(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """`(C, h, w)` probabilities of the labels over the picture, long side at most 160 cells."""
        import torch
        from torch.nn import functional

        height, width = image.shape[:2]
        logits = self.segmenter.maps(image).values.float().cpu().numpy()
        best = torch.from_numpy(best_wording(logits, self.vocabulary.owners))
        shrink = GRID / max(height, width)
        grid = (max(round(height * shrink), 1), max(round(width * shrink), 1))
        best = functional.interpolate(best[None], size=grid, mode="bilinear", align_corners=False)[0]
        return np.asarray(best.softmax(dim=0)[self.first :].numpy(), np.float32)

    def crop_probabilities(self, image: NDArray[np.uint8], boxes: NDArray[Any]) -> NDArray[np.float64]:
        """`(N, C)` probabilities of the labels for the crops of N boxes."""
        vectors = embed_boxes(self.clip, image, boxes, self.options.scales)
        return class_probabilities(vectors @ self.segmenter.vectors.T, self.vocabulary.owners, self.clip.logit_scale)[
            :, self.first :
        ]


def best_wording(scores: NDArray[Any], owners: Sequence[int]) -> NDArray[Any]:
    """`(Q, ...)` scores of wordings -> `(C, ...)`, each class as its best wording; `owners` `(Q,)` ascends."""
    starts = np.flatnonzero(np.diff(np.asarray(owners), prepend=-1))
    return np.asarray(np.maximum.reduceat(scores, starts, axis=0))


def class_probabilities(cosines: NDArray[Any], owners: Sequence[int], scale: float) -> NDArray[np.float64]:
    """`(N, Q)` cosines -> `(N, C)`: each class as its best wording, then the softmax of `scale` times them."""
    logits = scale * best_wording(np.asarray(cosines, np.float64).T, owners).T
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
