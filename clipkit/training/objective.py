"""What the image tower is asked for: to land where CLIP's text embedding of its label lies, and not where the others do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the field's name for it)

from clipkit.training.teacher import TEMPERATURE

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

NEAR_SYNONYM = 0.8
"""Names whose centred text embeddings have at least this cosine are not held against one another."""


def allowed_negatives(vectors: NDArray[np.float32], kinds: Mapping[int, int], rare: NDArray[np.bool_]) -> Tensor:
    """Which names may be wrong answers for which: (V, V) bool, true on the diagonal.

    A kind and its members are no mistakes for one another (a beagle is a dog), nor are near-synonyms; members of one kind are.
    A rare name is held against no other picture: it would only ever be pushed away, and be lost for pictures never seen.

    Args:
        vectors: (V, D), unit length.
        kinds: member -> kind, both indices below V.
        rare: (V,), names with few pictures.
    """
    allowed = torch.from_numpy(vectors @ vectors.T < NEAR_SYNONYM)
    for member, kind in kinds.items():
        allowed[member, kind] = allowed[kind, member] = False
        for other, its in kinds.items():
            if its == member:  # the kind's kind
                allowed[other, kind] = allowed[kind, other] = False
    allowed[:, torch.from_numpy(rare)] = False
    allowed.fill_diagonal_(fill_value=True)
    return allowed


def image_loss(
    features: Tensor, labels: Tensor, shown: Tensor, targets: Tensor, allowed: Tensor, logit_scale: Tensor
) -> Tensor:
    """Mean cross-entropy of `softmax(logit_scale * cos(feature, target))` over the names that may be wrong.

    The image half of the contrastive loss of CLIP (Radford et al. 2021, figure 3) with a fixed text side and the whole
    vocabulary in place of the batch.

    Args:
        features: (N, D), any length.
        labels: (N,), indices below V; a picture with -1 counts for nothing.
        shown: (N, M), what else the picture shows and is no wrong answer either; -1 for nothing.
        targets: (V, D), unit length.
        allowed: (V, V) bool, from `allowed_negatives`.
        logit_scale: the factor itself, not its logarithm.
    """
    named = labels >= 0
    features, labels, shown = features[named], labels[named], shown[named]
    logits = logit_scale * F.normalize(features.float(), dim=-1) @ targets.T
    true = torch.zeros(len(labels), len(targets) + 1, dtype=torch.bool, device=labels.device)
    true = true.scatter(1, shown.where(shown >= 0, len(targets)), value=True)[:, :-1]  # -1 goes to a column of its own
    wrong = allowed[labels] & ~true
    competing = wrong.scatter(1, labels[:, None], value=True)
    total = F.cross_entropy(logits.masked_fill(~competing, float("-inf")), labels, reduction="sum")
    return total / len(named)


def teacher_loss(features: Tensor, classes: Tensor, shares: Tensor, targets: Tensor, logit_scale: Tensor) -> Tensor:
    """Mean of T^2 KL(teacher || student), both softened by the temperature T (Hinton et al. 2015, section 2.1).

    The student's distribution is the softmax of `logit_scale * cos(feature, target) / T` over the teacher's classes.

    Args:
        features: (N, D), any length.
        classes: (N, K), indices below C.
        shares: (N, K), the teacher's at temperature T; a picture whose shares are all 0 counts for nothing.
        targets: (C, D), unit length.
        logit_scale: the factor itself, not its logarithm.
    """
    student = (logit_scale / TEMPERATURE * F.normalize(features.float(), dim=-1) @ targets.T).log_softmax(dim=-1)
    divergence = torch.xlogy(shares, shares) - shares * student.gather(1, classes)
    return TEMPERATURE**2 * divergence.sum() / len(features)


def text_loss(features: Tensor, targets: Tensor, vocabulary: Tensor, logit_scale: float = 20.0) -> Tensor:
    """Mean of 1 - cosine, plus how far the likeness to every name is off (the text side of relational distillation).

    The second part is the KL divergence between the softmaxes of the likenesses to all V names, of the target and of the
    feature: what counts for zero-shot use is the order of the names.

    Args:
        features: (N, D), any length.
        targets: (N, D), unit length.
        vocabulary: (V, D), unit length.
        logit_scale: sharpness of both softmaxes.
    """
    unit = F.normalize(features.float(), dim=-1)
    cosine = (unit * targets).sum(dim=-1)
    wanted = (logit_scale * targets @ vocabulary.T).softmax(dim=-1)
    found = (logit_scale * unit @ vocabulary.T).log_softmax(dim=-1)
    return (1 - cosine).mean() + F.kl_div(found, wanted, reduction="batchmean")
