"""Image vectors x class vectors -> scores, in numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clipkit.prompts.ensemble import ClassVectors

Scoring = Literal["softmax", "sigmoid", "cosine"]


def class_scores(
    images: NDArray[np.float32],
    classes: ClassVectors,
    *,
    scoring: Scoring,
    logit_scale: float,
    logit_bias: float | None = None,
    neutral: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Scores of N images over C classes.

    - `softmax`: `softmax_c(scale cos)`, the closed-set probability of CLIP; with the `prob` reduction the
      probabilities are averaged over templates (ActionCLIP).
    - `sigmoid`: `sigmoid(scale cos + bias)`, each label for itself (SigLIP). A model without a bias is read
      against a neutral prompt instead: `sigmoid(scale (cos - cos_neutral))`, the two-way softmax of the label and
      the neutral prompt.
    - `cosine`: the plain cosine, no scale.

    Args:
        images: (N, D) unit vectors.
        classes: C classes with Q queries and T templates.
        scoring: which of the three.
        logit_scale: the model's scale.
        logit_bias: the model's bias, None where it has none.
        neutral: (D,) unit vector of the neutral prompt, needed for `sigmoid` where there is no bias.

    Returns:
        (N, C) float32.
    """
    queries, templates, width = classes.vectors.shape
    flat = classes.vectors.transpose(1, 0, 2).reshape(templates * queries, width)
    cosine = (images @ flat.T).reshape(len(images), templates, queries)
    cosine = classes.best_of_class(cosine)  # (N, T, C)
    if scoring == "cosine":
        return _over_templates(cosine)
    if scoring == "softmax":
        return _over_templates(softmax(logit_scale * cosine))
    if logit_bias is not None:
        logits = logit_scale * cosine + logit_bias
    else:
        assert neutral is not None, "sigmoid scores of a model without a bias need a neutral prompt"
        logits = logit_scale * (cosine - (images @ neutral)[:, None, None])
    return _over_templates(sigmoid(logits))


def _over_templates(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(scores.mean(axis=1), np.float32)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), np.float32)


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)) without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), np.float32)
