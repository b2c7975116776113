"""The prompt ensemble: labels x templates -> class vectors, encoded once and kept on disk.

Reductions over the templates of one wording:

- `embed`: normalise each prompt's vector, average, normalise (CLIP, section 3.1.4);
- `prob`: keep every template; class probabilities are averaged over templates (ActionCLIP);
- `none`: keep every prompt as a query of its own; a class scores as its best prompt (AudioCLIP, LSeg use the
  bare label: one template, nothing to reduce).

Aliases are queries of their own and a class scores as its best alias, whichever the reduction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from clipkit.errors import UsageError
from clipkit.prompts.cache import VectorCache, vector_key
from clipkit.prompts.templates import fill

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clipkit.models.clip import Clip
    from clipkit.prompts.labels import Label

Reduction = Literal["embed", "prob", "none"]
_PROMPTS_AT_ONCE = 8192  # bounds memory: at most this many prompt vectors are alive before they are reduced


@dataclass(frozen=True, slots=True, eq=False)
class ClassVectors:
    """Text side of a zero-shot classifier.

    Attributes:
        labels: C classes.
        vectors: (Q, T, D) float32, unit length; T is 1 for `embed` and `none`.
        owner: (Q,) the class index of each query, ascending.
        reduction: how templates were or are to be reduced.
    """

    labels: tuple[Label, ...]
    vectors: NDArray[np.float32]
    owner: NDArray[np.intp]
    reduction: Reduction

    @property
    def names(self) -> tuple[str, ...]:
        """The C class names."""
        return tuple(label.name for label in self.labels)

    def best_of_class(self, query_scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """(..., Q) scores of queries -> (..., C), each class as its best query."""
        if len(self.owner) == len(self.labels):
            return query_scores
        starts = np.flatnonzero(np.diff(self.owner, prepend=-1))
        return np.maximum.reduceat(query_scores, starts, axis=-1)


def class_vectors(
    clip: Clip,
    labels: Sequence[Label],
    templates: Sequence[str],
    *,
    reduction: Reduction = "embed",
    cache: VectorCache | None = None,
) -> ClassVectors:
    """Encode every label (and alias) in every template, and reduce over templates.

    Args:
        clip: the model; only `encode_texts` and `text_key` are used.
        labels: the classes.
        templates: strings with `{}`.
        reduction: see the module's text.
        cache: where vectors are kept between runs; the default is the user cache, `VectorCache(None)` keeps nothing.
    """
    if reduction not in get_args(Reduction):
        raise UsageError(f"unknown reduction {reduction!r}; known: {', '.join(get_args(Reduction))}")
    if not labels or not templates:
        raise UsageError("class vectors need at least one label and one template")
    wordings = [alias for label in labels for alias in label.aliases]
    owner = np.repeat(np.arange(len(labels)), [len(label.aliases) for label in labels])
    if reduction == "none":
        owner = np.repeat(owner, len(templates))
    cache = VectorCache.default() if cache is None else cache
    key = vector_key(clip.text_key, wordings, templates, reduction)
    vectors = cache.load(key)
    if vectors is None:
        vectors = _encode(clip, wordings, templates, reduction)
        cache.save(key, vectors)
    return ClassVectors(tuple(labels), vectors, owner, reduction)


def _encode(clip: Clip, wordings: Sequence[str], templates: Sequence[str], reduction: Reduction) -> NDArray[np.float32]:
    """(Q, T, D) unit vectors, a few thousand prompts at a time."""
    at_once = max(1, _PROMPTS_AT_ONCE // len(templates))
    blocks = []
    for start in range(0, len(wordings), at_once):
        chunk = wordings[start : start + at_once]
        prompts = [fill(template, wording) for wording in chunk for template in templates]
        vectors = clip.encode_texts(prompts).reshape(len(chunk), len(templates), -1)
        if reduction == "embed":
            vectors = _unit(vectors.mean(axis=1, keepdims=True))
        elif reduction == "none":
            vectors = vectors.reshape(-1, 1, vectors.shape[-1])
        blocks.append(vectors)
    return np.ascontiguousarray(np.concatenate(blocks))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norm, np.finfo(np.float32).tiny), np.float32)
