"""Which training pictures are held-out thumbnails in another crop: a hash is too coarse for 64 pixels, a correlation is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the field's name for it)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SIDE = 16
PARTS = (1.0, 0.88, 0.75, 0.67, 0.56)
"""Shares of a picture's width, or of its height, that the other's square may show: 3:4 and 2:3 are the commonest shapes."""
SAME = 0.9
"""Correlation of two grey 16 x 16 thumbnails from which on two pictures of the same name count as one."""


def thumbnails(images: NDArray[np.uint8], wide: float = 1.0, high: float = 1.0) -> Tensor:
    """Grey thumbnails of the middle (wide x high) of (N, S, S, 3) pictures: (N, 256), mean 0, length 1."""
    size = images.shape[1]
    x, y = round(size * (1 - wide) / 2), round(size * (1 - high) / 2)
    grey = torch.from_numpy(images[:, y : size - y, x : size - x].mean(axis=-1, dtype=np.float32))[:, None]
    small = F.interpolate(grey, size=(SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False).flatten(1)
    return F.normalize(small - small.mean(dim=1, keepdim=True), dim=1)


def likeness(images: NDArray[np.uint8], held_out: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Best correlation of each picture, squeezed or cropped, with any of the held-out ones: (N, S, S, 3), (M, T, T, 3) -> (N,)."""
    best = torch.full((len(images),), -1.0)
    for part in PARTS:
        for ours, theirs in (
            ((part, 1.0), (1.0, 1.0)),
            ((1.0, part), (1.0, 1.0)),
            ((1.0, 1.0), (part, 1.0)),
            ((1.0, 1.0), (1.0, part)),
        ):
            found = thumbnails(images, *ours) @ thumbnails(held_out, *theirs).T
            best = torch.maximum(best, found.max(dim=1).values)
    return best.numpy()


def copies(
    images: NDArray[np.uint8], labels: Sequence[str], held_out: NDArray[np.uint8], held_out_labels: Sequence[str]
) -> NDArray[np.bool_]:
    """Which pictures show what a held-out picture of the same name shows: (N,) bool."""
    ours, theirs = np.array(labels), np.array(held_out_labels)
    found = np.zeros(len(ours), dtype=bool)
    for name in sorted(set(labels) & set(held_out_labels)):
        mine = np.flatnonzero(ours == name)
        found[mine] = likeness(images[mine], held_out[theirs == name]) >= SAME
    return found
