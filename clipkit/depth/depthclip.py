"""DepthCLIP: depth from the cosines of image cells with words for distances, in the authors' way and in the joint space.

Zhang et al. 2022, "Can Language Understand Depth?". The authors compare every second channel of RN50's last stage with
the text vectors, though nothing in training aligned the two; `DenseDepth` compares what training did align.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.dense.features import MAX_SIDE, DenseClip, dense_features, settle
from clipkit.dense.methods import tower
from clipkit.depth.estimator import Estimate
from clipkit.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clipkit.dense.features import DenseOptions
    from clipkit.depth.ladder import Ladder

SIZE = 416  # the short side of the authors' NYU frame, 416 x 544
CELL = 32
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Layer4Depth:
    """The authors' recipe: layer4 before the attention pool, L2-normalised, every n-th channel, 32-pixel cells."""

    method = "depthclip"
    metric = False
    flips = True

    def __init__(self, clip: DenseClip, ladder: Ladder, size: int | None = None) -> None:
        """Encode the words once.

        Args:
            clip: a model of the torch engine whose image tower is a ModifiedResNet.
            ladder: words, bins and temperature.
            size: short side of the working image in pixels; None is the authors' 416.

        Raises:
            ModelError: another kind of tower, or channels that do not divide into the text's width.
        """
        from clipkit.dense.resnet import is_resnet

        if not is_resnet(clip.model.visual):
            raise ModelError(
                f"{clip.id}: depthclip reads layer4 of a CLIP ResNet (RN50, builtin); "
                "this image tower has none, so take --method depthclip-dense"
            )
        self.id, self.weights_hash = clip.id, clip.weights_hash
        self.size = SIZE if size is None else size
        self._clip = clip
        self._ladder = ladder
        self._vectors = ladder.vectors(clip)
        self._step = channel_step(clip.model.visual.attnpool.positional_embedding.shape[1], clip.embed_dim, clip.id)

    def estimate(self, image: NDArray[np.uint8]) -> Estimate:
        """The depth of an `(H, W, 3)` RGB image, one value every 32 working pixels."""
        features = self.features(working_pixels(image, self.size))
        return Estimate(self._ladder.expected(features @ self._vectors.T), corners=True)

    def features(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalised pixels `(3, H, W)` -> `(H // 32, W // 32, D)`: unit vectors of layer4, then every n-th channel."""
        import torch
        from torch.nn import functional

        from clipkit.dense.resnet import feature_map

        visual: Any = self._clip.model.visual
        with torch.inference_mode():
            batch = torch.from_numpy(pixels)[None].to(self._clip.torch_device, visual.conv1.weight.dtype)
            unit = functional.normalize(feature_map(visual, batch)[0].float(), dim=0)
            # Not normalised again, as in the authors' code.
            return np.asarray(unit[:: self._step].permute(1, 2, 0).cpu().numpy())


class DenseDepth:
    """The same words compared with patch tokens in the joint space, so that any CLIP with patch answers can do it."""

    method = "depthclip-dense"
    metric = False
    flips = True

    def __init__(self, clip: DenseClip, ladder: Ladder, dense: DenseOptions) -> None:
        """Encode the words once.

        Args:
            clip: a model of the torch engine.
            ladder: words, bins and temperature.
            dense: how patch tokens are made; its `flip` is not read.

        Raises:
            ModelError: the tower has no patch tokens, or the dense method does not fit it.
        """
        if tower(clip.model.visual) is None:
            raise ModelError(
                f"{clip.id}: this image tower ({type(clip.model.visual).__name__}) gives no patch answers to see depth "
                "with; take a CLIP ViT or ResNet (ViT-B-16, RN50, builtin), or --method depth-anything"
            )
        settle(clip, dense)
        self.id, self.weights_hash = clip.id, clip.weights_hash
        self._clip = clip
        self._ladder = ladder
        self._dense = dense
        self._vectors = ladder.vectors(clip)

    def estimate(self, image: NDArray[np.uint8]) -> Estimate:
        """The depth of an `(H, W, 3)` RGB image, one value a patch."""
        d = self._dense
        tokens = dense_features(
            self._clip, image, method=d.method, size=d.size, window=d.window, stride=d.stride, flip=False
        )
        return Estimate(self._ladder.expected(tokens @ self._vectors.T))


def channel_step(channels: int, width: int, model: str) -> int:
    """Every how manieth channel of layer4 is kept so that as many remain as the text has (2 for RN50: 2048 to 1024).

    Raises:
        ModelError: no whole step does that.
    """
    if channels % width:
        raise ModelError(
            f"{model}: layer4 has {channels} channels, which do not divide into the text's {width}; "
            "take --method depthclip-dense"
        )
    return channels // width


def working_size(height: int, width: int, size: int = SIZE) -> tuple[int, int]:
    """Height and width in whole cells: short side `size`, long side at most 2048, no side under one cell."""
    scale = min(size / min(height, width), MAX_SIDE / max(height, width))

    def side(length: int) -> int:
        return max(round(length * scale / CELL), 1) * CELL

    return side(height), side(width)


def working_pixels(image: NDArray[np.uint8], size: int = SIZE) -> NDArray[np.float32]:
    """An `(H, W, 3)` image at its working size, normalised as the authors do, with ImageNet's mean and deviation."""
    from PIL import Image

    height, width = working_size(image.shape[0], image.shape[1], size)
    if image.shape[:2] != (height, width):
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
        image = np.asarray(resized)
    scaled = image.astype(np.float32) / np.float32(255)
    normalized = (scaled - np.asarray(IMAGENET_MEAN, np.float32)) / np.asarray(IMAGENET_STD, np.float32)
    return np.ascontiguousarray(normalized.transpose(2, 0, 1))
