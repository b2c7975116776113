"""GroupViT (Xu et al. 2022) by its own pipeline: groups found by the network, named by the text, over sliding windows.

The towers are those of transformers; everything after them follows the authors' evaluation and not transformers'
`GroupViTModel.forward`, which sees 224 pixels, scales twice and knows neither the top-5 gate nor a background.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from clipkit.dense.decide import Maps
from clipkit.dense.features import resize, working_size
from clipkit.dense.windows import average, lay
from clipkit.models.clip import Preprocess
from clipkit.models.device import resolve_device
from clipkit.models.pipeline_files import find_model, from_folder, need_transformers
from clipkit.models.weights import weights_hash

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from clipkit.dense.features import DenseOptions
    from clipkit.dense.vocabulary import Vocabulary

REPO = "nvidia/groupvit-gcc-yfcc"
TEMPLATE = "a photo of a {}."
SIZE = 448
WINDOW = 448
STRIDE = 224
BACKGROUND_THRESHOLD = 0.95
KEPT = 5
PIXELS = Preprocess((SIZE, SIZE), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear")


class GroupVit:
    """Class maps from GroupViT."""

    def __init__(
        self, model: Any, vocabulary: Vocabulary, options: DenseOptions, *, digest: str, device: str = "cpu"
    ) -> None:
        """Encode the labels once.

        Args:
            model: transformers' `GroupViTModel` with weights.
            vocabulary: the classes; the background is what no class claims, its texts are not asked.
            options: size, window, stride and flip; None is 448, 448 and 224.
            digest: hash of the weights.
            device: where to compute.
        """
        self.id = "groupvit"
        self.weights_hash = digest
        self.model = model.to(device).eval().requires_grad_(requires_grad=False)
        self.options = options
        self.device = device
        self.has_background = vocabulary.has_background
        things = vocabulary.things
        self.patch = int(model.config.vision_config.patch_size)
        self.owners = tuple(value for value, label in enumerate(things, 1) for _ in label.aliases)
        with torch.inference_mode():
            self.text = self._encode([TEMPLATE.format(wording) for label in things for wording in label.aliases])

    def maps(self, image: NDArray[np.uint8], threshold: float | None = None) -> Maps:
        """Class scores; with a background, its score is 1 where no class reaches the threshold (0.95 by default)."""
        options = self.options
        window = WINDOW if options.window is None else options.window // self.patch * self.patch
        size = working_size(*image.shape[:2], size=options.size or SIZE, window=window, patch=self.patch)
        pixels = torch.from_numpy(PIXELS.normalize(resize(image, size)[None])[0]).to(self.device)
        limit = BACKGROUND_THRESHOLD if threshold is None else threshold

        def encode(x: Tensor) -> Tensor:
            return torch.stack([self._window(one[None], limit) for one in x])

        with torch.inference_mode():
            windows = lay(*size, window, options.stride or (STRIDE if options.window is None else window // 2))
            values = average(pixels, windows, encode, batch=1)
            if options.flip:
                values = (values + average(pixels.flip(2), windows, encode, batch=1).flip(2)) / 2
        return Maps(values, ((0,) if self.has_background else ()) + self.owners, "probability")

    def _window(self, pixels: Tensor, limit: float) -> Tensor:
        """`(1, 3, h, w)` -> `(C, h, w)`, the background first where there is one."""
        tokens, groups = self._groups(pixels)
        project = self.model.visual_projection
        return decode(
            assignment(groups, (pixels.shape[2] // self.patch, pixels.shape[3] // self.patch)),
            functional.normalize(project(tokens[0]), dim=-1),
            functional.normalize(project(tokens.mean(dim=1)), dim=-1)[0],
            self.text,
            scale=min(float(self.model.logit_scale.exp()), 100.0),
            size=(pixels.shape[2], pixels.shape[3]),
            background=limit if self.has_background else None,
        )

    def _groups(self, pixels: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Segment tokens `(1, G, C)` and each stage's soft assignment `(1, groups, tokens)`."""
        tower = self.model.vision_model
        hidden = tower.embeddings(pixels, interpolate_pos_encoding=True)
        out = tower.encoder(hidden, output_hidden_states=False, output_attentions=True, return_dict=True)
        return tower.layernorm(out.last_hidden_state), tuple(out.attentions)

    def _encode(self, prompts: list[str]) -> Tensor:
        from clipkit.models.tokenizer import ClipTokenizer

        context = int(self.model.config.text_config.max_position_embeddings)
        tokens = torch.from_numpy(ClipTokenizer(context)(prompts)).to(self.device)
        found = [self.model.get_text_features(input_ids=tokens[i : i + 256]) for i in range(0, len(tokens), 256)]
        vectors = torch.cat([getattr(part, "pooler_output", part) for part in found])
        return functional.normalize(vectors.float(), dim=-1)


def assignment(stages: tuple[Tensor, ...], grid: tuple[int, int]) -> Tensor:
    """Which group each patch belongs to, softly, through all stages: `(G, h, w)`, the product of the stages' maps.

    Args:
        stages: `(1, groups, tokens)` each, the first over patches, the next over the groups before.
        grid: rows and columns of the patch grid.
    """
    product = stages[0].transpose(1, 2)
    for stage in stages[1:]:
        product = product @ stage.transpose(1, 2)
    return product[0].T.reshape(-1, *grid)


def decode(
    groups: Tensor,
    tokens: Tensor,
    mean: Tensor,
    text: Tensor,
    *,
    scale: float,
    size: tuple[int, int],
    background: float | None,
) -> Tensor:
    """Class scores of every pixel, as the authors' `encode_decode`.

    Each group is named by softmax(S) over the image's five likeliest classes times softmax(S) over all, S being the
    scaled cosines; each pixel takes the scores of its group.

    Args:
        groups: soft assignment `(G, h, w)`.
        tokens: projected segment tokens `(G, D)`, unit length.
        mean: the projected mean token `(D,)`, unit length; it chooses the five.
        text: class vectors `(K, D)`, unit length.
        scale: the multiplier of cosines.
        size: height and width of the result.
        background: pixels with no score of `min(background, the best score of any group)` are background; None for no
            background.

    Returns:
        `(K, H, W)`, with the background as first map `(1 + K, H, W)` where there is one.
    """
    enlarged = functional.interpolate(groups[None].float(), size=size, mode="bilinear", align_corners=False)[0]
    member = enlarged.argmax(dim=0)
    logits = scale * tokens.float() @ text.T
    kept = (mean.float() @ text.T).topk(min(KEPT, len(text))).indices
    gated = torch.full_like(logits, -torch.inf)
    gated[:, kept] = logits[:, kept]
    scores = torch.softmax(gated, dim=-1) * torch.softmax(logits, dim=-1)
    pixels = scores[member].permute(2, 0, 1)
    if background is None:
        return pixels
    least = min(background, float(scores.max()))
    behind = (pixels.amax(dim=0) < least).to(pixels.dtype)
    return torch.cat([behind[None], pixels])


def load(vocabulary: Vocabulary, weights: Path | None, options: DenseOptions, device: str | None) -> GroupVit:
    """GroupViT from a folder or the hub's cache.

    Raises:
        ModelUnavailableError: transformers or the weights are not here.
        ModelError: the folder is not such a model.
    """
    need_transformers("groupvit")
    folder, file = find_model("groupvit", REPO, weights)
    model = from_folder("GroupViTModel", folder)
    place = resolve_device(device or "auto")
    return GroupVit(model, vocabulary, options, digest=weights_hash(file), device=place)
