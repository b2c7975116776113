"""AudioCLIP's audio tower, ESResNeXt-fbsp: a ResNeXt-50 with attention over the decibel spectrum in three bands.

Guzhov et al., "AudioCLIP: Extending CLIP to Image, Text and Audio", 2021, section 3.1. Parameter names are those of the
authors' checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import Bottleneck, ResNet

from clipkit.audio.fbsp import LinearFBSP, blackman_harris, frame

RATE = 44_100
CLIP_SAMPLES = 220_500
"""Five seconds, what the published model was trained on."""

N_FFT = 2048
WINDOW = 1654
HOP = 561
BANDS = 3
SILENT_POWER = 1e-18


class Attention2d(nn.Module):
    """A gate in (0, 1) for each place: max-pool to the size wanted, depthwise and pointwise convolution, sigmoid."""

    def __init__(self, inner: int, outer: int, kernel: tuple[int, int]) -> None:
        """`kernel` is (frequency, time); its padding keeps the size."""
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv_depth = nn.Conv2d(inner, inner, kernel, padding=padding, groups=inner)
        self.conv_point = nn.Conv2d(inner, outer, 1)
        self.bn = nn.BatchNorm2d(outer)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, inner, H, W) -> (N, outer, *size)."""
        x = functional.adaptive_max_pool2d(x, size)
        return torch.sigmoid(self.bn(self.conv_point(self.conv_depth(x))))


class ESResNeXt(ResNet):  # type: ignore[misc]  # torchvision is untyped here
    """(N, T) samples in the int16 range at 44.1 kHz -> (N, embed_dim)."""

    window: Tensor

    def __init__(self, embed_dim: int = 1024) -> None:
        """Random weights."""
        super().__init__(Bottleneck, [3, 4, 6, 3], num_classes=embed_dim, groups=32, width_per_group=4)
        self.att1 = Attention2d(64, 256, (3, 1))
        self.att2 = Attention2d(256, 512, (1, 5))
        self.att3 = Attention2d(512, 1024, (3, 1))
        self.att4 = Attention2d(1024, 2048, (1, 5))
        self.att5 = Attention2d(2048, 2048, (3, 5))
        self.fbsp = LinearFBSP(N_FFT // 2 + 1)
        self.register_buffer("window", blackman_harris(WINDOW))

    def decibels(self, samples: Tensor) -> Tensor:
        """(N, T) samples in the int16 range -> (N, 3, 341, frames): 10 log10 of the power, low to high bands as channels.

        Raises:
            ValueError: the samples look like floats in [-1, 1], for which the tower's answers are silently wrong.
        """
        peak = samples.abs().amax() if samples.numel() else samples.sum()
        if 0 < peak <= 1 and bool((samples != samples.round()).any()):
            raise ValueError("samples in [-1, 1] given to a tower that takes the int16 range: multiply them by 32768")
        x = (samples.to(self.window.dtype) + 32768.0) * 2.0 / 65535.0 - 1.0
        frames = frame(x, WINDOW, HOP) * self.window
        pad = N_FFT - WINDOW
        power = self.fbsp(functional.pad(frames, (pad // 2, pad - pad // 2))).transpose(1, 2)
        height = power.shape[1] // BANDS
        power = power[:, : height * BANDS].reshape(len(samples), BANDS, height, -1)
        return 10.0 * torch.log10(torch.where(power > 0, power, SILENT_POWER))

    def forward(self, samples: Tensor) -> Tensor:
        """(N, T) samples in the int16 range -> (N, embed_dim), not normalised."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(self.decibels(samples)))))
        for layer, attention in (
            (self.layer1, self.att1),
            (self.layer2, self.att2),
            (self.layer3, self.att3),
            (self.layer4, self.att4),
        ):
            out = layer(x)
            x = out * attention(x, out.shape[-2:])
        pooled = self.avgpool(x) * self.att5(x, (1, 1))
        embedding: Tensor = self.fc(pooled.flatten(1))
        return embedding
