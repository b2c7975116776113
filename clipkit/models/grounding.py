"""Detectors that read words: the Grounding DINO family, OWLv2 and OmDet-Turbo through transformers, and the way to GLIP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from clipkit.detection.spans import Caption, caption, chunks, span_scores
from clipkit.errors import ModelError, UsageError
from clipkit.models.device import resolve_device
from clipkit.models.grounding_parts import PHRASES, Parts, corners
from clipkit.models.offline import no_network
from clipkit.models.omdet_turbo import OmDetTurbo, backbone_config
from clipkit.models.pipeline_files import find_model, from_folder, need_transformers, quiet
from clipkit.models.weights import weights_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clipkit.models.grounding_parts import Answer, Backend


@dataclass(frozen=True, slots=True)
class Family:
    """One method: its transformers class, the repository whose cached files are taken, its smallest score, its NMS.

    `floor` is the score under which pairs of box and label are not worth suppressing.
    """

    kind: str
    repo: str
    least: float
    nms: float = 0.6
    floor: float = 0.05


FAMILIES: dict[str, Family] = {
    "grounding-dino": Family("GroundingDinoForObjectDetection", "IDEA-Research/grounding-dino-tiny", 0.25),
    "mm-grounding-dino": Family(
        "MMGroundingDinoForObjectDetection", "openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_v3det", 0.25
    ),
    "llmdet": Family("MMGroundingDinoForObjectDetection", "iSEE-Laboratory/llmdet_tiny", 0.25),
    # No transformers model; candidates are chosen before centerness counts. 0.5 is the least of the authors' demo.
    "glip": Family("", "", 0.5, floor=0.0),
    "owlv2": Family("Owlv2ForObjectDetection", "google/owlv2-base-patch16-ensemble", 0.1, 0.5),
    "omdet-turbo": Family("OmDetTurboForObjectDetection", "omlab/omdet-turbo-swin-tiny-hf", 0.3, 0.5),
}


class GroundingDino:
    """Grounding DINO, MM-Grounding-DINO and LLMDet: one caption of all phrases, scored by spans of tokens."""

    def __init__(self, parts: Parts) -> None:
        """Take a loaded model."""
        self.parts = parts
        self.budget = int(parts.model.config.max_text_len) - 2

    def answers(self, image: NDArray[np.uint8], phrases: Sequence[str]) -> Iterator[tuple[range, Answer]]:
        """Vocabularies longer than the text are asked in parts."""
        lengths = [len(self._tokens(caption([phrase]).text)["input_ids"]) - 2 for phrase in phrases]
        for part in chunks(lengths, self.budget):
            yield part, self.answer(image, caption([phrases[i] for i in part]))

    def answer(self, image: NDArray[np.uint8], text: Caption) -> Answer:
        """Boxes of one caption.

        Raises:
            UsageError: the caption is longer than the model reads.
        """
        tokens = self._tokens(text.text)
        if (length := len(tokens["input_ids"]) - 2) > self.budget:
            raise UsageError(f"the caption has {length} tokens, more than the model reads ({self.budget}); shorten it")
        offsets = [(0, 0) if text.text[a:b] in {".", "?"} else (a, b) for a, b in tokens["offset_mapping"]]
        ids = torch.tensor([tokens["input_ids"]], device=self.parts.device)
        with torch.inference_mode():
            found = self.parts.model(
                **self.parts.pixels(image),
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                token_type_ids=torch.zeros_like(ids),
            )
        probabilities = found.logits[0].float().sigmoid().cpu().numpy()
        height, width = image.shape[:2]
        boxes = corners(found.pred_boxes[0], width, height)
        return boxes, span_scores(probabilities[:, : len(offsets)], offsets, text.spans)

    def _tokens(self, text: str) -> Any:
        return self.parts.tokenizer(text, return_offsets_mapping=True)


class Owlv2:
    """OWLv2: each phrase is a text of its own; the picture is padded to a square, to which boxes refer."""

    def __init__(self, parts: Parts) -> None:
        """Take a loaded model."""
        self.parts = parts
        self.length = int(parts.model.config.text_config.max_position_embeddings)

    def answers(self, image: NDArray[np.uint8], phrases: Sequence[str]) -> Iterator[tuple[range, Answer]]:
        """64 phrases at a time."""
        pixels = self.parts.pixels(image)
        side = max(image.shape[:2])
        for start in range(0, len(phrases), PHRASES):
            part = range(start, min(start + PHRASES, len(phrases)))
            tokens = self.parts.tokenizer(
                [f"a photo of a {phrases[i]}" for i in part],
                padding="max_length",
                truncation=True,
                max_length=self.length,
                return_tensors="pt",
            ).to(self.parts.device)
            with torch.inference_mode():
                found = self.parts.model(
                    pixel_values=pixels["pixel_values"],
                    input_ids=tokens["input_ids"],
                    attention_mask=tokens["attention_mask"],
                )
            probabilities = found.logits[0].float().sigmoid().cpu().numpy().astype(np.float64)
            yield part, (corners(found.pred_boxes[0], side, side), probabilities)


BACKENDS: dict[str, Callable[[Parts], Backend]] = {
    "GroundingDinoForObjectDetection": GroundingDino,
    "MMGroundingDinoForObjectDetection": GroundingDino,
    "Owlv2ForObjectDetection": Owlv2,
    "OmDetTurboForObjectDetection": OmDetTurbo,
}


def load(method: str, folder: Path | None, device: str | None) -> tuple[Backend, str]:
    """A backend that is ready, and the hash of its weights; nothing is downloaded.

    Args:
        method: a key of `FAMILIES`.
        folder: a folder with config, weights, tokenizer and preprocessor; None takes the hub's cache. For `glip`, the
            authors' checkpoint file.
        device: as `load_clip` takes it.

    Raises:
        ModelUnavailableError: transformers or the weights are not here.
        ModelError: the files do not make such a model.
    """
    if method == "glip":
        from clipkit.models import glip

        return glip.load(folder, device)
    need_transformers(method)
    family = FAMILIES[method]
    place, weights = find_model(method, family.repo, folder)
    import transformers

    model = from_folder(family.kind, place, **backbone_config(family.kind, place))
    try:
        with quiet(), no_network():
            image_processor = transformers.AutoImageProcessor.from_pretrained(place, local_files_only=True)
            tokenizer = transformers.AutoTokenizer.from_pretrained(place, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"{place} lacks the tokenizer or the preprocessor of {method}: {first}") from error
    where = resolve_device(device or "auto")
    parts = Parts(model.to(where).eval().requires_grad_(requires_grad=False), image_processor, tokenizer, where)
    return BACKENDS[family.kind](parts), weights_hash(weights)
