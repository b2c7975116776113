"""The built-in audio tower as a torch module: a small convolutional network over log-mel pictures."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTHS = (24, 48, 96, 192, 384)
FEATURES = 384


class AudioBackbone(nn.Module):
    """(N, frames, bands) log-mels of any length -> (N, FEATURES).

    Five 3x3 convolutions with batch normalisation; a stride of 2 in the first and average pooling after the others but
    the last; then the mean over frequency, mean plus maximum over time, and one hidden layer.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS, features: int = FEATURES, dropout: float = 0.2) -> None:
        """Random weights."""
        super().__init__()
        layers: list[nn.Module] = []
        for number, (inner, outer) in enumerate(zip((1, *widths[:-1]), widths, strict=True)):
            layers += [
                nn.Conv2d(inner, outer, 3, stride=1 if number else 2, padding=1, bias=False),
                nn.BatchNorm2d(outer),
                nn.ReLU(inplace=True),
            ]
            if 0 < number < len(widths) - 1:
                layers.append(nn.AvgPool2d(2))
        self.layers = nn.Sequential(*layers)
        self.hidden = nn.Linear(widths[-1], features)
        self.dropout = nn.Dropout(dropout)

    def forward(self, mels: Tensor) -> Tensor:
        """(N, frames, bands) -> (N, FEATURES), not negative."""
        maps = self.layers(mels[:, None])
        over_time = maps.mean(dim=3)
        pooled = over_time.mean(dim=2) + over_time.amax(dim=2)
        return torch.relu(self.hidden(self.dropout(pooled)))


class AudioTower(nn.Module):
    """The backbone and a linear projection into the text space."""

    def __init__(self, backbone: AudioBackbone, projection: nn.Linear) -> None:
        """Join the two."""
        super().__init__()
        self.backbone, self.projection = backbone, projection

    def forward(self, mels: Tensor) -> Tensor:
        """(N, frames, bands) -> (N, D), not normalised."""
        out: Tensor = self.projection(self.backbone(mels))
        return out
