"""CLIPSeg (Lüddecke and Ecker 2022): a small decoder over CLIP that answers each label for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from clipkit.dense.decide import Maps
from clipkit.dense.features import resize
from clipkit.models.clip import Preprocess
from clipkit.models.device import resolve_device
from clipkit.models.pipeline_files import find_model, from_folder, need_transformers
from clipkit.models.tokenizer import ClipTokenizer
from clipkit.models.weights import weights_hash

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from clipkit.dense.features import DenseOptions
    from clipkit.dense.vocabulary import Vocabulary

REPO = "CIDAS/clipseg-rd64-refined"
SIZE = 352
THRESHOLD = 0.5
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Labels decoded at a time.
BATCH = 16


class ClipSeg:
    """Class maps from CLIPSeg."""

    def __init__(
        self, model: Any, vocabulary: Vocabulary, options: DenseOptions, *, digest: str, device: str = "cpu"
    ) -> None:
        """Encode the labels once.

        Args:
            model: transformers' `CLIPSegForImageSegmentation` with weights.
            vocabulary: the classes; the background is what no label claims, its texts are not asked.
            options: `size`: side of the square the image is brought to (352), `flip`: average with the mirror image.
            digest: hash of the weights.
            device: where to compute.
        """
        self.id = "clipseg"
        self.weights_hash = digest
        self.model = model.to(device).eval().requires_grad_(requires_grad=False)
        self.device = device
        self.flip = options.flip
        patch = int(model.config.vision_config.patch_size)
        self.size = max((options.size or SIZE) // patch, 1) * patch
        self.preprocess = Preprocess((self.size, self.size), MEAN, STD, "bilinear", "squash")
        things = vocabulary.things
        self.owners = tuple(value for value, label in enumerate(things, 1) for _ in label.aliases)
        with torch.inference_mode():
            self.conditions = self._encode([wording for label in things for wording in label.aliases])

    def maps(self, image: NDArray[np.uint8], threshold: float | None = None) -> Maps:
        """One logit map a label, each for itself; a pixel under 0.5 for all of them is background."""
        pixels = torch.from_numpy(self.preprocess.normalize(resize(image, (self.size, self.size))[None])).to(
            self.device
        )
        with torch.inference_mode():
            values = self._logits(pixels)
            if self.flip:
                values = (values + self._logits(pixels.flip(3)).flip(2)) / 2
        return Maps(values, self.owners, "sigmoid", THRESHOLD if threshold is None else threshold)

    def _logits(self, pixels: Tensor) -> Tensor:
        """`(1, 3, H, W)` -> `(Q, H, W)`; the picture is encoded once, whatever number of labels."""
        model = self.model
        seen = model.clip.vision_model(pixels, output_hidden_states=True, interpolate_pos_encoding=True)
        # Hidden states begin with the embeddings, so block n's output is number n + 1.
        layers = [seen.hidden_states[number + 1] for number in model.extract_layers]
        found = []
        for at in range(0, len(self.conditions), BATCH):
            conditions = self.conditions[at : at + BATCH]
            expanded = [layer.expand(len(conditions), -1, -1) for layer in layers]
            # One label loses its dimension on the way out.
            found.append(model.decoder(expanded, conditions).logits.reshape(len(conditions), *pixels.shape[2:]))
        return torch.cat(found).float()

    def _encode(self, texts: list[str]) -> Tensor:
        context = int(self.model.config.text_config.max_position_embeddings)
        tokens = torch.from_numpy(ClipTokenizer(context)(texts)).to(self.device)
        batches = [tokens[at : at + 256] for at in range(0, len(tokens), 256)]
        found = [self.model.clip.get_text_features(input_ids=batch) for batch in batches]
        return torch.cat([getattr(part, "pooler_output", part) for part in found])


def load(vocabulary: Vocabulary, weights: Path | None, options: DenseOptions, device: str | None) -> ClipSeg:
    """CLIPSeg from a folder or the hub's cache.

    Raises:
        ModelUnavailableError: transformers or the weights are not here.
        ModelError: the folder is not such a model.
    """
    need_transformers("clipseg")
    folder, file = find_model("clipseg", REPO, weights)
    model = from_folder("CLIPSegForImageSegmentation", folder)
    place = resolve_device(device or "auto")
    return ClipSeg(model, vocabulary, options, digest=weights_hash(file), device=place)
