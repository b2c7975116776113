"""Where ViLD itself looks: boxes of a region network, with vectors in CLIP's joint space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from clipkit.detection.vild import Regions
from clipkit.models.device import resolve_device
from clipkit.models.rcnn_checkpoint import build, read
from clipkit.models.weights import weights_hash

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from clipkit.models.rcnn import RegionNet

# The authors' test pictures: the short side 800 pixels, or the long one 1333 where that is smaller.
SHORT, LONG = 800, 1333
MULTIPLE = 32
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)
# CLIP's joint space in which the published models were trained.
SPACE = "ViT-B-32/openai"
# Trained with 1 / .01, tested with this by the authors.
SCALE = 1 / 0.007


class NetworkRegions:
    """Proposals of a region network, refined, with its vectors as their features."""

    def __init__(self, net: RegionNet, *, crops: bool = True, digest: str = "", device: str = "cpu") -> None:
        """Hold a network.

        Args:
            net: with weights.
            crops: whether crops will be looked at; where not, the network's image branch answers in their place.
            digest: hash of the weights.
            device: where to compute.
        """
        self.net = net.to(device)
        self.crops = crops
        self.weights_hash = digest
        self.device = device
        self.embed_dim = net.sizes.dim
        self.background = None if net.background is None else net.background.cpu().numpy()

    def regions(self, image: NDArray[np.uint8], path: str) -> Regions:  # noqa: ARG002 (the picture is enough)
        """`(H, W, 3)` RGB -> at most 1000 regions, best first, already thinned by the network's own suppression."""
        pixels, width, height = prepare(image)
        with torch.inference_mode():
            boxes, scores, vectors, crops = self.net(
                torch.from_numpy(pixels).to(self.device), width, height, image=not self.crops
            )
        back = np.array([image.shape[1] / width, image.shape[0] / height] * 2)
        return Regions(
            boxes.cpu().numpy().astype(np.float64) * back,
            scores.cpu().numpy().astype(np.float64),
            vectors.cpu().numpy(),
            None if crops is None else crops.cpu().numpy(),
            thinned=True,
        )


def prepare(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], int, int]:
    """The authors' preprocessing: bilinear resize, ImageNet's mean and deviation, zeros to multiples of 32.

    Args:
        image: `(H, W, 3)` RGB.

    Returns:
        Pixels `(1, 3, H', W')`, and the width and height of the picture in them.
    """
    import cv2

    rows, columns = image.shape[:2]
    scale = min(LONG / max(rows, columns), SHORT / min(rows, columns))
    width, height = max(int(columns * scale + 0.5), 1), max(int(rows * scale + 0.5), 1)
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    out = np.zeros((-(-height // MULTIPLE) * MULTIPLE, -(-width // MULTIPLE) * MULTIPLE, 3), np.float32)
    out[:height, :width] = (resized.astype(np.float32) - MEAN) / STD
    return np.ascontiguousarray(out.transpose(2, 0, 1)[None]), width, height


def open_network(path: Path, device: str | None, *, crops: bool = True) -> NetworkRegions:
    """A checkpoint in DetPro's layout, ready to look.

    Raises:
        ModelError: the file cannot be read safely, or is no such checkpoint.
    """
    net = build(*read(path))
    return NetworkRegions(net, crops=crops, digest=weights_hash(path), device=resolve_device(device or "auto"))
