"""AudioCLIP's front end: frames of sound through a learned bank of frequency B-spline wavelets instead of a DFT.

Guzhov et al., "ESResNe(X)t-fbsp: Learning Robust Time-Frequency Transformation of Audio", 2021, section III.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-8


class LinearFBSP(nn.Module):
    """Complex frequency B-spline wavelets as a linear layer: order `m`, bandwidth `fb`, centre `fc` for each output.

    `psi(t) = sqrt(fb) sinc(fb t / m)^m exp(-i fc t)` on `t` evenly spaced over [-pi, pi], both ends included; that is why
    the freshly initialised layer (m = 0, fb = 1, fc = 0, 1, 2...) is a DFT on that grid, and not `rfft`.
    """

    def __init__(self, out_features: int) -> None:
        """As initialised by the authors, without a bias."""
        super().__init__()
        self.m = nn.Parameter(torch.zeros(out_features))
        self.fb = nn.Parameter(torch.ones(out_features))
        self.fc = nn.Parameter(torch.arange(out_features, dtype=torch.get_default_dtype()))
        self.bias = nn.Parameter(torch.empty(0))  # the published layout has it, always empty

    def weights(self, in_features: int) -> tuple[Tensor, Tensor]:
        """Real and imaginary parts, each (out_features, in_features), divided by sqrt(in_features)."""
        t = math.pi * torch.linspace(-1.0, 1.0, in_features, dtype=self.m.dtype, device=self.m.device) + EPSILON
        m, fb, fc = (p[:, None] for p in (self.m, self.fb, self.fc))
        x = fb * t / (m + EPSILON)
        sinc = torch.where(x == 0, torch.ones_like(x), torch.sin(x) / x)
        # sinc^m is complex where sinc < 0: its phase there is pi m. Squares, roots and products stand in the order of the
        # authors' code: bins 100 dB below the signal hold rounding alone, and the tower hears them.
        size = (((sinc**2) ** 0.5) ** 2) ** (0.5 * m)
        phase = m * (math.pi * (sinc < 0))
        window = size * torch.cos(phase), size * torch.sin(phase)
        kernel = torch.cos(fc * t), -torch.sin(fc * t)
        scale, width = fb.sqrt(), in_features**0.5
        real = scale * (window[0] * kernel[0] - window[1] * kernel[1]) / width
        imaginary = scale * (window[0] * kernel[1] + window[1] * kernel[0]) / width
        return real, imaginary

    def forward(self, frames: Tensor) -> Tensor:
        """(..., in_features) real frames -> (..., out_features) power, the squared magnitude of the coefficients."""
        real, imaginary = self.weights(frames.shape[-1])
        power: Tensor = functional.linear(frames, real) ** 2 + functional.linear(frames, imaginary) ** 2
        return power


def frame(signal: Tensor, length: int, hop: int) -> Tensor:
    """(N, T) -> (N, frames, length), zero-padded on both sides to whole hops: `1 + ceil((T - length) / hop)` frames."""
    samples = signal.shape[-1]
    count = 1 if samples <= length else 1 + math.ceil((samples - length) / hop)
    missing = max(0, (count - 1) * hop + length - samples)
    return functional.pad(signal, (missing // 2, missing - missing // 2)).unfold(-1, length, hop)


def blackman_harris(length: int) -> Tensor:
    """The periodic four-term Blackman-Harris window, (length,)."""
    x = 2 * math.pi * torch.arange(length, dtype=torch.float64) / length
    window = 0.35875 - 0.48829 * torch.cos(x) + 0.14128 * torch.cos(2 * x) - 0.01168 * torch.cos(3 * x)
    return window.to(torch.get_default_dtype())
