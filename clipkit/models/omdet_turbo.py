"""OmDet-Turbo (Zhao et al. 2024): classes are texts of their own, and a task says in a sentence what is to be done."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from clipkit.detection.spans import chunks
from clipkit.errors import ModelError, UsageError
from clipkit.models.grounding_parts import PHRASES, Parts, corners

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clipkit.models.grounding_parts import Answer

KIND = "OmDetTurboForObjectDetection"
# What configs of transformers 4 say of the backbone, at their top.
OLD = ("backbone", "backbone_kwargs", "use_timm_backbone", "use_pretrained_backbone")


class OmDetTurbo:
    """OmDet-Turbo: a box's score for a class is the sigmoid of their scaled cosine."""

    def __init__(self, parts: Parts) -> None:
        """Take a loaded model."""
        self.parts = parts
        self.length = int(parts.model.config.text_config.max_position_embeddings)
        self.task: str | None = None

    def ask(self, task: str) -> None:
        """Put a sentence such as `Detect everything that looks like a boat.` in the place of the list of classes.

        Raises:
            UsageError: no text, or more than the model reads.
        """
        said = " ".join(task.split())
        tokens = self._count(said) + 2
        if not said or tokens > self.length:
            raise UsageError(f"the task has {tokens - 2} tokens; write one of 1 to {self.length - 2}")
        self.task = said

    def answers(self, image: NDArray[np.uint8], phrases: Sequence[str]) -> Iterator[tuple[range, Answer]]:
        """`Detect cat, dog.` with as many phrases as the task's text holds; 64 a pass under a task of the user's own."""
        pixels = self.parts.pixels(image)["pixel_values"]
        height, width = image.shape[:2]
        lengths = [1 if self.task else self._count(f"{phrase},") for phrase in phrases]
        # The model remembers 100 classes; more would push each other out, and every picture would encode them all again.
        memory = self.parts.model.language_cache_class
        memory.capacity = max(memory.capacity, len(phrases))
        budget = PHRASES if self.task else self.length - 2 - self._count("Detect")
        for part in chunks(lengths, budget, PHRASES):
            asked = [phrases[i] for i in part]
            classes = self._tokens(asked)
            tasks = self._tokens([self.task or f"Detect {', '.join(asked)}."])
            with torch.inference_mode():
                found = self.parts.model(
                    pixel_values=pixels,
                    classes_input_ids=classes["input_ids"],
                    classes_attention_mask=classes["attention_mask"],
                    tasks_input_ids=tasks["input_ids"],
                    tasks_attention_mask=tasks["attention_mask"],
                    classes_structure=torch.tensor([len(asked)], device=self.parts.device),
                )
            scores = found.decoder_class_logits[0].float().sigmoid().cpu().numpy().astype(np.float64)
            yield part, (corners(found.decoder_coord_logits[0], width, height), scores)

    def _count(self, text: str) -> int:
        return len(self.parts.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _tokens(self, texts: list[str]) -> Any:
        return self.parts.tokenizer(
            texts, padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
        ).to(self.parts.device)


def backbone_config(kind: str, folder: Path) -> dict[str, Any]:
    """The `config` that keeps transformers 5 from asking the hub whether a timm backbone is one of its repositories.

    The published config says `backbone: swin_tiny_patch4_window7_224` with `backbone_kwargs`, as transformers 4 wrote it;
    here it becomes the `backbone_config` that transformers 5 writes. Weights are the checkpoint's own: timm, which
    open_clip brings along, gives the architecture only.

    Returns:
        `{"config": ...}`, empty where the files can be read as they are.

    Raises:
        ModelError: the config cannot be read.
    """
    import transformers

    if kind != KIND or int(transformers.__version__.split(".")[0]) < 5:
        return {}
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if values.get("backbone_config") is not None or not values.get("backbone_kwargs"):
            return {}
        values["backbone_config"] = {
            **values["backbone_kwargs"],
            "model_type": "timm_backbone",
            "backbone": values["backbone"],
        }
        config = transformers.OmDetTurboConfig.from_dict({k: v for k, v in values.items() if k not in OLD})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"{folder / 'config.json'} is no OmDet-Turbo config: {first}") from error
    return {"config": config}
