"""Detection by models made for it: every box scored for every label, labels always one of the inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clipkit.detection.boxes import within
from clipkit.detection.clip_boxes import best_wording
from clipkit.detection.detector import Found
from clipkit.detection.spans import free_caption
from clipkit.errors import UsageError
from clipkit.models.grounding import FAMILIES, load
from clipkit.models.grounding_parts import Captioned
from clipkit.models.omdet_turbo import OmDetTurbo

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clipkit.models.grounding_parts import Backend
    from clipkit.prompts.labels import Label


class GroundedDetector:
    """A backend asked for labels, or for the words of a caption."""

    most = 100

    def __init__(
        self,
        backend: Backend,
        labels: Sequence[Label],
        *,
        method: str,
        digest: str,
        caption: str | None = None,
    ) -> None:
        """Settle what is asked.

        Args:
            backend: a loaded model.
            labels: what to find; may be empty where there is a caption, which then is the label.
            method: a key of `FAMILIES`, the id in records.
            digest: the hash of the weights.
            caption: a text whose words are asked for; for OmDet-Turbo its task.

        Raises:
            UsageError: a caption for a model that reads labels only, or a label that is not in it.
        """
        self.backend = backend
        self.id = method
        self.weights_hash = digest
        self.nms = FAMILIES[method].nms
        self.least = FAMILIES[method].least
        self.floor = FAMILIES[method].floor
        self.labels = tuple(label.name for label in labels) or ((caption,) if caption else ())
        self.phrases = [wording for label in labels for wording in label.aliases]
        self.owners = [i for i, label in enumerate(labels) for _ in label.aliases] or [0]
        self.caption = None
        if caption is not None and isinstance(backend, OmDetTurbo):
            if not labels:
                raise UsageError(f"the caption of {method} is its task; name what it is to find with --labels as well")
            backend.ask(caption)
        elif caption is not None:
            if not isinstance(backend, Captioned):
                raise UsageError(f"--caption is for glip and the Grounding DINO family; {method} reads labels")
            self.phrases = [label.name for label in labels]
            self.owners = list(range(max(len(labels), 1)))
            self.caption = free_caption(caption, self.phrases)

    def detect(self, image: NDArray[np.uint8], path: str = "", *, only: Sequence[int] | None = None) -> Found:  # noqa: ARG002 (the path is for boxes from files)
        """`(H, W, 3)` RGB -> every pair of box and label with the method's floor of score or more."""
        height, width = image.shape[:2]
        asked = np.arange(len(self.labels)) if only is None else np.asarray(only, np.intp)
        parts: list[Found] = []
        for owners, boxes, scores in self._answers(image):
            names = np.unique(owners)
            values = best_wording(scores.T, owners)
            label, box = np.nonzero((values >= self.floor) & (values > 0) & np.isin(names, asked)[:, None])
            parts.append(Found(within(boxes[box], width, height), values[label, box], names[label]))
        return Found(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.classes for part in parts]),
        )

    def _answers(self, image: NDArray[np.uint8]) -> list[tuple[list[int], NDArray[np.float64], NDArray[np.float64]]]:
        """Labels of the phrases, boxes `(Q, 4)` and scores `(Q, P)`, for each part of the vocabulary."""
        if self.caption is not None:
            assert isinstance(self.backend, Captioned)
            boxes, scores = self.backend.answer(image, self.caption)
            return [(self.owners, boxes, scores)]
        return [
            ([self.owners[i] for i in part], boxes, scores)
            for part, (boxes, scores) in self.backend.answers(image, self.phrases)
        ]


def open_grounded(
    method: str, labels: Sequence[Label], *, folder: Path | None, device: str | None, caption: str | None
) -> GroundedDetector:
    """Load a detector of the grounding family.

    Raises:
        UsageError: options that do not go together.
        ModelUnavailableError: transformers or the weights are not here.
        ModelError: the files do not make such a model.
    """
    backend, digest = load(method, folder, device)
    return GroundedDetector(backend, labels, method=method, digest=digest, caption=caption)
