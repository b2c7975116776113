"""LSeg (Li et al. 2022): a DPT whose pixels live in CLIP's text space, read from the authors' checkpoints.

The network is transformers' DPT backbone and neck with one 1x1 convolution; the text tower is the CLIP inside the
checkpoint. Pixel features times text, over 0.07, are the logits. Evaluation follows the authors' six scales with
mirror images.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from clipkit.dense.decide import Maps
from clipkit.errors import ModelUnavailableError
from clipkit.models.clip import Preprocess
from clipkit.models.device import resolve_device
from clipkit.models.lseg_checkpoint import build, read
from clipkit.models.pipeline_files import need_transformers
from clipkit.models.weights import weights_hash

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from clipkit.dense.features import DenseOptions
    from clipkit.dense.vocabulary import Vocabulary

TEMPERATURE = 0.07
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
BASE = 520
CROP = 480
STRIDE_SHARE = 2 / 3
PIXELS = Preprocess((CROP, CROP), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear")


class LSegNet(torch.nn.Module):
    """Pixels to features in CLIP's text space."""

    def __init__(
        self, dpt: torch.nn.Module, neck: torch.nn.Module, head: torch.nn.Module, hooks: tuple[int, ...]
    ) -> None:
        """Put the parts together.

        Args:
            dpt: transformers' `DPTModel`.
            neck: transformers' `DPTNeck`.
            head: the 1x1 convolution to the text space.
            hooks: the four blocks (from 0) whose outputs the neck takes.
        """
        super().__init__()
        self.dpt, self.neck, self.head, self.hooks = dpt, neck, head, hooks

    def forward(self, pixels: Tensor) -> Tensor:
        """`(N, 3, H, W)`, sides multiples of the patch -> unit features `(N, D, H / 2, W / 2)`."""
        taken: dict[int, Tensor] = {}
        dpt: Any = self.dpt

        def keep(number: int) -> Callable[..., None]:
            def hook(_module: Any, _inputs: Any, output: Any) -> None:
                taken[number] = output[0] if isinstance(output, tuple) else output

            return hook

        handles = [dpt.encoder.layer[number].register_forward_hook(keep(number)) for number in self.hooks]
        try:
            dpt(pixels)
        finally:
            for handle in handles:
                handle.remove()
        patch = dpt.config.patch_size
        fused = self.neck([taken[number] for number in self.hooks], pixels.shape[2] // patch, pixels.shape[3] // patch)
        return functional.normalize(self.head(fused[-1]), dim=1)

    def logits(self, pixels: Tensor, text: Tensor) -> Tensor:
        """`(N, 3, H, W)` and unit text vectors `(Q, D)` -> `(N, Q, H, W)`."""
        cosines = torch.einsum("ndhw,qd->nqhw", self(pixels), text)
        return functional.interpolate(cosines / TEMPERATURE, scale_factor=2.0, mode="bilinear", align_corners=True)


class LSeg:
    """Class maps from LSeg."""

    def __init__(
        self,
        net: LSegNet,
        text: Tensor,
        vocabulary: Vocabulary,
        options: DenseOptions,
        *,
        digest: str,
        device: str = "cpu",
    ) -> None:
        """Hold the network and the encoded labels.

        Args:
            net: the network with weights.
            text: unit text vectors `(Q, D)` of the vocabulary's queries, bare labels without a template.
            vocabulary: the classes.
            options: `size` gives one scale of that long side (mirrored where `flip` is set) in the place of the six.
            digest: hash of the weights.
            device: where to compute.
        """
        self.id = "lseg"
        self.weights_hash = digest
        self.net = net.to(device).eval().requires_grad_(requires_grad=False)
        self.text = text.to(device)
        self.vocabulary = vocabulary
        self.device = device
        self.long_sides = [math.ceil(BASE * scale) for scale in SCALES] if options.size is None else [options.size]
        self.flip = options.flip or options.size is None

    def maps(self, image: NDArray[np.uint8], threshold: float | None = None) -> Maps:
        """Logits averaged over scales and mirror images, at the image's size up to 2048 pixels."""
        pixels = torch.from_numpy(PIXELS.normalize(image[None])).to(self.device)
        height, width = image.shape[:2]
        shrink = min(1.0, 2048 / max(height, width))
        size = (max(round(height * shrink), 1), max(round(width * shrink), 1))

        def score(x: Tensor) -> Tensor:
            return self.net.logits(x, self.text)

        with torch.inference_mode():
            values = evaluate(pixels, score, size, self.long_sides, flip=self.flip)
        return Maps(values, self.vocabulary.owners, threshold=threshold or 0.0)


def evaluate(
    pixels: Tensor,
    score: Callable[[Tensor], Tensor],
    size: tuple[int, int],
    long_sides: list[int],
    *,
    flip: bool,
    crop: int = CROP,
) -> Tensor:
    """The authors' evaluation: several scales, windows of 480 at two thirds' stride, mirror images; the mean of all.

    Args:
        pixels: one normalised image `(1, 3, H, W)`.
        score: `(1, 3, crop, crop)` -> logits `(1, Q, crop, crop)`.
        size: height and width of the result.
        long_sides: the image's long side at each scale.
        flip: whether each window is scored mirrored too.
        crop: the window's side; what it lacks on the right and below is black.

    Returns:
        `(Q, height, width)`.
    """

    def both(x: Tensor) -> Tensor:
        return (score(x) + score(x.flip(3)).flip(3)) / 2 if flip else score(x)

    total: Tensor | None = None
    for long_side in long_sides:
        scale = long_side / max(pixels.shape[2:])
        height, width = (
            long_side if side == max(pixels.shape[2:]) else max(int(side * scale + 0.5), 1) for side in pixels.shape[2:]
        )
        resized = functional.interpolate(pixels, size=(height, width), mode="bilinear", align_corners=True)
        stitched = _stitch(resized, both, crop)[:, :, :height, :width]
        part = functional.interpolate(stitched, size=size, mode="bilinear", align_corners=True)
        total = part if total is None else total + part
    assert total is not None
    return total[0] / len(long_sides)


def _stitch(pixels: Tensor, score: Callable[[Tensor], Tensor], crop: int) -> Tensor:
    """Score windows and average where they overlap; the image is filled up with black so that every window is whole."""
    stride = int(crop * STRIDE_SHARE)
    height, width = (max(math.ceil((side - crop) / stride), 0) * stride + crop for side in pixels.shape[2:])
    # Black in normalised values: mean and deviation are both a half.
    filled = functional.pad(pixels, (0, width - pixels.shape[3], 0, height - pixels.shape[2]), value=-1.0)
    total: Tensor | None = None
    count = pixels.new_zeros(height, width)
    for top in range(0, height - crop + 1, stride):
        for left in range(0, width - crop + 1, stride):
            rows, columns = slice(top, top + crop), slice(left, left + crop)
            found = score(filled[:, :, rows, columns])
            if total is None:
                total = found.new_zeros(1, found.shape[1], height, width)
            total[:, :, rows, columns] += found
            count[rows, columns] += 1
    assert total is not None
    return total / count


def load(vocabulary: Vocabulary, weights: Path | None, options: DenseOptions, device: str | None) -> LSeg:
    """LSeg from a checkpoint in the authors' layout.

    Raises:
        ModelUnavailableError: transformers is not here, or no checkpoint was named.
        ModelError: the file cannot be read safely, or is no LSeg checkpoint.
    """
    need_transformers("lseg")
    if weights is None:
        raise ModelUnavailableError(
            "lseg has no weights on the hub: download the authors' checkpoint (demo_e200.ckpt, linked from "
            "github.com/isl-org/lang-seg) and name it with --weights FILE"
        )
    net, encode = build(read(weights))
    text = encode(list(vocabulary.queries))
    place = resolve_device(device or "auto")
    return LSeg(net, text, vocabulary, options, digest=weights_hash(weights), device=place)
