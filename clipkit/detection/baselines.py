"""What any detector must beat: boxes drawn at random, and the whole picture as one box."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from clipkit.detection.clip_boxes import class_probabilities
from clipkit.detection.crops import embed_boxes
from clipkit.detection.detector import Found
from clipkit.prompts.ensemble import class_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clipkit.dense.vocabulary import Vocabulary
    from clipkit.models.clip import Clip

RANDOM_BOXES = 64


class ChanceDetector:
    """Random corners, random labels, random scores: the same for the same name of a picture."""

    nms = 0.5
    least = 0.0
    most = 100
    id = "chance"
    weights_hash = ""

    def __init__(self, labels: Sequence[str]) -> None:
        """Guess among these labels."""
        self.labels = tuple(labels)

    def detect(self, image: NDArray[np.uint8], path: str = "", *, only: Sequence[int] | None = None) -> Found:
        """64 boxes."""
        height, width = image.shape[:2]
        draw = np.random.default_rng(zlib.crc32(path.encode("utf-8", "surrogatepass")))
        corners = np.sort(draw.random((RANDOM_BOXES, 2, 2)), axis=1) * (width, height)
        classes = draw.choice(np.arange(len(self.labels)) if only is None else np.asarray(only), RANDOM_BOXES)
        return Found(corners.reshape(-1, 4), draw.random(RANDOM_BOXES), classes.astype(np.intp))


class WholeDetector:
    """The whole picture is the box of every label, scored by CLIP's probability for the picture."""

    nms = 0.5
    least = 0.0
    most = 100

    def __init__(self, clip: Clip, vocabulary: Vocabulary, templates: Sequence[str]) -> None:
        """Encode the labels once."""
        self.clip = clip
        self.vocabulary = vocabulary
        self.labels = vocabulary.labels
        self.id = clip.id
        self.weights_hash = clip.weights_hash
        self.vectors = class_vectors(clip, vocabulary.classes, templates).vectors[:, 0]

    def detect(self, image: NDArray[np.uint8], path: str = "", *, only: Sequence[int] | None = None) -> Found:  # noqa: ARG002 (no name is needed)
        """One box a label."""
        height, width = image.shape[:2]
        whole = np.array([[0.0, 0.0, width, height]])
        cosines = embed_boxes(self.clip, image, whole, (1.0,)) @ self.vectors.T
        scores = class_probabilities(cosines, self.vocabulary.owners, self.clip.logit_scale)[0]
        classes = np.arange(len(self.labels)) if only is None else np.asarray(only, np.intp)
        first = 1 if self.vocabulary.has_background else 0
        return Found(np.repeat(whole, len(classes), 0), scores[first + classes], classes)
