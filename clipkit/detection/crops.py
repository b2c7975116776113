"""What the whole model says of a box: the picture cut at 1.0 and 1.5 times the box, both embeddings added (ViLD, 3.2)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.detection.boxes import grow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clipkit.models.clip import Clip

SCALES = (1.0, 1.5)
BATCH = 64


def cut(image: NDArray[np.uint8], boxes: NDArray[Any], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Each box of an `(H, W, 3)` picture brought to `size` (height, width), aspect ratio ignored: `(N, h, w, 3)`."""
    from PIL import Image

    picture = Image.fromarray(image)
    height, width = image.shape[:2]
    out = np.empty((len(boxes), *size, 3), np.uint8)
    for i, (x0, y0, x1, y1) in enumerate(np.asarray(boxes, np.float64)):
        # Whole pixels, one at least. Cut before resizing: a resize with a box reads pixels around it.
        left, top = min(math.floor(x0), width - 1), min(math.floor(y0), height - 1)
        part = picture.crop((left, top, max(math.ceil(x1), left + 1), max(math.ceil(y1), top + 1)))
        out[i] = np.asarray(part.resize(size[::-1], Image.Resampling.BICUBIC, reducing_gap=2.0))
    return out


def embed_boxes(
    clip: Clip, image: NDArray[np.uint8], boxes: NDArray[Any], scales: Sequence[float] = SCALES, batch: int = BATCH
) -> NDArray[np.float32]:
    """Unit embeddings of boxes: crops at each scale, embedded, added, normalised.

    Args:
        clip: any engine.
        image: `(H, W, 3)` RGB.
        boxes: `(N, 4)` pixels.
        scales: multiples of the box's sides.
        batch: crops a forward pass.

    Returns:
        `(N, D)`.
    """
    height, width = image.shape[:2]
    total = np.zeros((len(boxes), clip.embed_dim), np.float32)
    for scale in scales:
        grown = grow(boxes, scale, width, height)
        for start in range(0, len(boxes), batch):
            crops = cut(image, grown[start : start + batch], clip.preprocess.size)
            total[start : start + batch] += clip.encode_images(clip.preprocess.normalize(crops))
    norm = np.linalg.norm(total, axis=1, keepdims=True)
    return np.asarray(total / np.maximum(norm, np.finfo(np.float32).tiny), np.float32)
