"""CLIPasso's loss (Vinker et al. 2022, section 3.2): layer distances keep the geometry, the embedding the meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch.nn import functional

from clipkit.sketching.augment import random_homographies, sampling_grids, warp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from clipkit.sketching.contours import ContourGuide
    from clipkit.sketching.features import Features, Tower

EMBEDDING_WEIGHT = 0.1


class Objective(Protocol):
    """How good pictures are as sketches of one photograph; lower is better."""

    size: int  # side of the pictures it judges
    device: torch.device

    def training(self, pictures: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Pictures (B, C, S, S) in [0, 1] -> the loss to descend (B,) and, without a graph, the plain loss (B,)."""

    def plain(self, pictures: Tensor) -> Tensor:
        """Pictures (B, C, S, S) -> the loss without augmentation, (B,), no graph."""


class ClipassoLoss:
    """Mean squared distance of layers plus 0.1 (1 - cosine of embeddings), averaged over one plain and A warped pairs.

    Every picture of a batch meets the same warps, so the photograph is encoded once for each warp; its plain features
    are computed once for all. The tower is frozen.
    """

    def __init__(
        self,
        tower: Tower,
        photo: Tensor,
        *,
        layers: Mapping[str, float] | None = None,
        augmentations: int = 4,
        embedding_weight: float = EMBEDDING_WEIGHT,
        guide: ContourGuide | None = None,
        guide_weight: float = 0.0,
    ) -> None:
        """Keep the photograph (3, S, S) in [0, 1], S a size of the tower, and its features; `guide` adds a term."""
        self.tower = tower
        self.device = tower.device
        self.photo = photo.to(tower.device)[None]
        self.size = int(photo.shape[-1])
        self.layers = dict(layers or tower.default_layers())
        self.augmentations = augmentations
        self.embedding_weight = embedding_weight
        self.guide, self.guide_weight = guide, guide_weight
        with torch.no_grad():
            self._target = tower(self.photo, tuple(self.layers))

    def training(self, pictures: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """See `Objective`; the warps are drawn from `generator` (on the CPU)."""
        batch = len(pictures)
        grids = sampling_grids(random_homographies(self.augmentations, generator), self.size, self.device)
        views = torch.cat((pictures.unsqueeze(1), warp(pictures, grids)), 1).flatten(0, 1)
        with torch.no_grad():
            warped = self.tower(warp(self.photo, grids)[0], tuple(self.layers)) if self.augmentations else None
        target = self._target if warped is None else _joined(self._target, warped)
        seen = self.tower(_rgb(views), tuple(self.layers))
        distance = self.distance(seen, target, batch)
        guided = self._guided(pictures)
        return distance.mean(1) + guided, (distance[:, 0] + guided).detach()

    def plain(self, pictures: Tensor) -> Tensor:
        """See `Objective`; eight pictures at a time."""
        with torch.no_grad():
            parts = [
                self.distance(self.tower(_rgb(part), tuple(self.layers)), self._target, len(part))[:, 0]
                + self._guided(part)
                for part in torch.split(pictures, 8)  # type: ignore[no-untyped-call, unused-ignore]
            ]
        return torch.cat(parts)

    def _guided(self, pictures: Tensor) -> Tensor:
        if self.guide is None or self.guide_weight <= 0.0:
            return pictures.new_zeros(len(pictures))
        return self.guide_weight * self.guide(pictures)

    def distance(self, seen: Features, target: Features, batch: int) -> Tensor:
        """Features of B V pictures against those of V views of the photograph: (B, V)."""
        views = len(target.embedding)
        cosine = functional.cosine_similarity(seen.embedding.reshape(batch, views, -1), target.embedding[None], dim=-1)
        total = self.embedding_weight * (1.0 - cosine)
        for weight, ours, theirs in zip(self.layers.values(), seen.layers, target.layers, strict=True):
            gap = (ours.reshape(batch, views, *ours.shape[1:]) - theirs[None]).square()
            total = total + weight * gap.flatten(2).mean(-1)
        return total


def _rgb(pictures: Tensor) -> Tensor:
    return pictures.expand(-1, 3, -1, -1)


def _joined(first: Features, second: Features) -> Features:
    from clipkit.sketching.features import Features

    layers = tuple(torch.cat(pair) for pair in zip(first.layers, second.layers, strict=True))
    return Features(layers, torch.cat((first.embedding, second.embedding)))
