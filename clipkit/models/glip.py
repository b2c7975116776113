"""GLIP (Li et al. 2022): detection as grounding, read from the authors' checkpoints.

Picture and caption go through Swin with its pyramid and through BERT, meet in the head, and every place of the pyramid is
scored against every token. Preprocessing, anchors and thresholds are those of the authors' evaluation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from clipkit.detection.spans import Caption, caption, chunks, span_scores
from clipkit.errors import ModelError, ModelUnavailableError, UsageError
from clipkit.models import glip_checkpoint
from clipkit.models.device import resolve_device
from clipkit.models.glip_boxes import STRIDES, candidates, cut, decode, working_size
from clipkit.models.glip_head import Head, HeadSizes, Level
from clipkit.models.glip_swin import Pyramid, Swin, SwinSizes
from clipkit.models.glip_text import Bert, BertSizes, BertTokenizer, find_tokenizer
from clipkit.models.weights import weights_hash

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Answer = tuple[NDArray[np.float64], NDArray[np.float64]]

# Blue, green, red, of 255.
MEAN = np.array([103.53, 116.28, 123.675], np.float32)
DEVIATION = np.array([57.375, 57.12, 58.395], np.float32)
DIVISOR = 32
# Tokens of a text with its two ends.
LONGEST = 256


class GlipNet(torch.nn.Module):
    """Pixels and token ids to what each place of five levels says."""

    def __init__(self, swin: SwinSizes, bert: BertSizes, head: HeadSizes) -> None:
        """Put the parts together."""
        super().__init__()
        self.swin = Swin(swin)
        self.pyramid = Pyramid(self.swin.widths[1:], head.channels)
        self.bert = Bert(bert)
        self.head = Head(head)

    def look(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """`(N, 3, H, W)`, sides multiples of 32 -> five maps, which serve every caption."""
        return self.pyramid(self.swin(pixels))  # type: ignore[no-any-return]

    def forward(self, levels: list[torch.Tensor], ids: torch.Tensor) -> list[Level]:
        """Maps of `look` and token ids `(N, T)` -> the answers of five levels."""
        return self.head(levels, self.bert(ids))  # type: ignore[no-any-return]


class Glip:
    """A loaded model, asked with captions."""

    def __init__(self, net: GlipNet, tokenizer: BertTokenizer, device: str = "cpu") -> None:
        """Hold the network and the tokenizer.

        Raises:
            ModelError: the tokenizer knows more words than the network.
        """
        if tokenizer.size > net.bert.words.num_embeddings:
            raise ModelError(
                f"the tokenizer has {tokenizer.size} words and GLIP's text encoder {net.bert.words.num_embeddings}: "
                f"use that of bert-base-uncased"
            )
        self.net = net.to(device).eval().requires_grad_(requires_grad=False)
        self.tokenizer = tokenizer
        self.device = device
        self.budget = min(LONGEST, net.bert.positions.num_embeddings) - 2

    def answers(self, image: NDArray[np.uint8], phrases: Sequence[str]) -> Iterator[tuple[range, Answer]]:
        """Vocabularies longer than the text are asked in parts; the picture is encoded once."""
        lengths = [len(self.tokenizer(caption([phrase]).text)[0]) - 2 for phrase in phrases]
        levels, size = self._look(image)
        for part in chunks(lengths, self.budget):
            yield part, self._ask(levels, size, image.shape[:2], caption([phrases[i] for i in part]))

    def answer(self, image: NDArray[np.uint8], text: Caption) -> Answer:
        """Boxes `(Q, 4)` in pixels of the picture and scores `(Q, P)` of one caption's phrases, 0 for no candidate.

        Raises:
            UsageError: the caption is longer than the model reads.
        """
        levels, size = self._look(image)
        return self._ask(levels, size, image.shape[:2], text)

    def _look(self, image: NDArray[np.uint8]) -> tuple[list[torch.Tensor], tuple[int, int]]:
        pixels, size = preprocess(image)
        with torch.inference_mode():
            return self.net.look(torch.from_numpy(pixels)[None].to(self.device)), size

    def _ask(
        self, levels: list[torch.Tensor], size: tuple[int, int], original: tuple[int, ...], text: Caption
    ) -> Answer:
        ids, offsets = self.tokenizer(text.text)
        if len(ids) - 2 > self.budget:
            raise UsageError(f"the caption has {len(ids) - 2} tokens, more than the model reads ({self.budget})")
        offsets = [(0, 0) if text.text[a:b] in {".", "?"} else (a, b) for a, b in offsets]
        with torch.inference_mode():
            found = self.net(levels, torch.tensor([ids], device=self.device))
        boxes, scores = [], []
        for level, stride in zip(found, STRIDES, strict=True):
            probabilities = span_scores(level.logits[0].float().sigmoid().cpu().numpy(), offsets, text.spans)
            centerness = level.centerness[0].float().sigmoid().cpu().numpy().astype(np.float64)
            places, values = candidates(probabilities, centerness)
            deltas = level.deltas[0].float().cpu().numpy().astype(np.float64)[places]
            boxes.append(cut(decode(deltas, places, level.size[1], stride), *size))
            scores.append(values)
        scale = np.array([original[1] / size[1], original[0] / size[0]] * 2)
        return np.concatenate(boxes) * scale, np.concatenate(scores)


def preprocess(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """`(H, W, 3)` RGB -> normalised BGR `(3, h, w)`, filled up to multiples of 32, and the size before that."""
    from PIL import Image

    size = working_size(*image.shape[:2])
    resized = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    pixels = np.zeros((3, *(-(-side // DIVISOR) * DIVISOR for side in size)), np.float32)
    pixels[:, : size[0], : size[1]] = ((resized[..., ::-1] - MEAN) / DEVIATION).transpose(2, 0, 1)
    return pixels, size


def load(weights: Path | None, device: str | None) -> tuple[Glip, str]:
    """GLIP from a checkpoint in the authors' layout, and the hash of the file; nothing is downloaded.

    Raises:
        ModelUnavailableError: no checkpoint was named, or BERT's tokenizer is not here.
        ModelError: the file cannot be read safely, or is no GLIP checkpoint.
    """
    if weights is None:
        raise ModelUnavailableError(
            "glip has no weights here: download one of the authors' checkpoints (glip_tiny_model_o365_goldg_cc_sbu.pth, "
            "linked from the model zoo of github.com/microsoft/GLIP) and name it with --weights FILE"
        )
    state = glip_checkpoint.read(weights)
    tokenizer = BertTokenizer(find_tokenizer(weights))
    net = glip_checkpoint.build(state)
    return Glip(net, tokenizer, resolve_device(device or "auto")), weights_hash(weights)
