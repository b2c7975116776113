"""`classify`: zero-shot image classification with a prompt ensemble (Radford et al. 2021, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from clipkit.prompts.ensemble import ClassVectors, Reduction, class_vectors
from clipkit.prompts.labels import Label
from clipkit.prompts.scores import Scoring, class_scores
from clipkit.prompts.templates import load_templates
from clipkit.results import Classification, Failure, Prediction
from clipkit.tasks.images import ImageOptions, embed_images

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from clipkit.media.paths import Source
    from clipkit.models.clip import Clip
    from clipkit.tasks.images import Picture

TASK = "classify"
NEUTRAL = Label("something", ("something",))


@dataclass(frozen=True, slots=True)
class ClassifyOptions:
    """What to ask of each picture.

    Attributes:
        labels: the classes.
        templates: prompt templates with `{}`.
        reduction: how a label's prompts become one score.
        scoring: `softmax` (one of the labels holds), `sigmoid` (each for itself), `cosine` (plain).
        top_k: at most this many predictions; None keeps all.
        threshold: predictions below it are dropped.
        images: how pictures are read.
    """

    labels: tuple[Label, ...]
    templates: tuple[str, ...] = field(default_factory=load_templates)
    reduction: Reduction = "embed"
    scoring: Scoring = "softmax"
    top_k: int | None = 5
    threshold: float | None = None
    images: ImageOptions = field(default_factory=ImageOptions)


def run(
    inputs: Iterable[Source | Picture | Failure], options: ClassifyOptions, clip: Clip
) -> Iterator[Classification | Failure]:
    """One outcome an input, in order."""
    scorer = Scorer(clip, options)
    for outcome in embed_images(inputs, clip, options.images):
        if isinstance(outcome, Failure):
            yield outcome.within(TASK, clip.id, clip.weights_hash)
        else:
            source, embedding = outcome
            yield Classification(source.name, clip.id, clip.weights_hash, scorer.predictions(embedding))


class Scorer:
    """Class vectors ready for one model, and the scores they give."""

    def __init__(self, clip: Clip, options: ClassifyOptions) -> None:
        """Encode the class vectors, or find them in the cache."""
        self.clip = clip
        self.options = options
        self.classes: ClassVectors = class_vectors(clip, options.labels, options.templates, reduction=options.reduction)
        self.neutral = None
        if options.scoring == "sigmoid" and clip.logit_bias is None:
            self.neutral = class_vectors(clip, (NEUTRAL,), options.templates).vectors[0, 0]

    def scores(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, D) image embeddings -> (N, C) scores."""
        return class_scores(
            embeddings,
            self.classes,
            scoring=self.options.scoring,
            logit_scale=self.clip.logit_scale,
            logit_bias=self.clip.logit_bias,
            neutral=self.neutral,
        )

    def predictions(self, embedding: NDArray[np.float32]) -> tuple[Prediction, ...]:
        """(D,) image embedding -> predictions, best first; equal scores keep the order of the labels."""
        scores = self.scores(embedding[None])[0]
        order = np.argsort(-scores, kind="stable")[: self.options.top_k]
        names = self.classes.names
        return tuple(
            Prediction(names[i], float(scores[i]))
            for i in order
            if self.options.threshold is None or scores[i] >= self.options.threshold
        )
