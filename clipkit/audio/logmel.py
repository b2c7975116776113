"""The built-in audio tower's front end: log-mel spectrograms in NumPy, the same at training and at inference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LogMel:
    """A log-mel spectrogram: `log(mel power + floor)`, standardised by a fixed mean and deviation.

    Frames are centred on multiples of `hop` with reflected edges, the window is a periodic Hann, the mel scale is
    HTK's `2595 log10(1 + f/700)` and the triangles are not area-normalised.
    """

    rate: int = 16_000
    n_fft: int = 640
    hop: int = 320
    bands: int = 64
    low: float = 60.0
    high: float = 7_800.0
    floor: float = 1e-6
    mean: float = -8.8
    std: float = 4.1

    @property
    def shortest(self) -> int:
        """Fewest samples that make a picture the tower can take: 0.3 s, 16 frames."""
        return 15 * self.hop

    def frames(self, samples: int) -> int:
        """How many frames a clip of `samples` gives."""
        return 1 + max(samples, self.shortest) // self.hop

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T,) samples -> (frames, bands) float32. A clip under 0.3 s is padded with silence."""
        if len(samples) < self.shortest:
            short = self.shortest - len(samples)
            samples = np.pad(samples, (short // 2, short - short // 2))
        padded = np.pad(samples, self.n_fft // 2, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.n_fft)[:: self.hop]
        spectrum = np.fft.rfft(frames * hann(self.n_fft), axis=-1)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32) / self.n_fft
        mel = power @ mel_filters(self.rate, self.n_fft, self.bands, self.low, self.high)
        return np.asarray((np.log(mel + self.floor) - self.mean) / self.std, np.float32)


@cache
def hann(length: int) -> NDArray[np.float32]:
    """The periodic Hann window, (length,) float32."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


@cache
def mel_filters(rate: int, n_fft: int, bands: int, low: float, high: float) -> NDArray[np.float32]:
    """(n_fft // 2 + 1, bands) triangular filters, corners evenly spaced on the HTK mel scale."""
    top, bottom = (2595.0 * np.log10(1.0 + f / 700.0) for f in (high, low))
    corners = 700.0 * (10.0 ** (np.linspace(bottom, top, bands + 2) / 2595.0) - 1.0)
    hertz = np.arange(n_fft // 2 + 1) * (rate / n_fft)
    rise = (hertz[:, None] - corners[None, :-2]) / (corners[1:-1] - corners[:-2])
    fall = (corners[None, 2:] - hertz[:, None]) / (corners[2:] - corners[1:-1])
    return np.maximum(0.0, np.minimum(rise, fall)).astype(np.float32)
