"""The built-in tower's log-mel picture equals its definition."""

import numpy as np
import pytest
from sound_files import sweep, tone

from clipkit.audio.logmel import LogMel, hann, mel_filters


def test_equals_the_definition():
    """One frame by hand: window, DFT as a sum, triangles as a loop, logarithm."""
    front = LogMel()
    samples = sweep(0.5)
    row = 10
    padded = np.pad(samples, front.n_fft // 2, mode="reflect")
    piece = padded[row * front.hop : row * front.hop + front.n_fft] * hann(front.n_fft)
    n = np.arange(front.n_fft)
    power = [
        abs((piece * np.exp(-2j * np.pi * k * n / front.n_fft)).sum()) ** 2 / front.n_fft
        for k in range(front.n_fft // 2 + 1)
    ]

    def mel(f):
        return 2595 * np.log10(1 + f / 700)

    corners = np.linspace(mel(front.low), mel(front.high), front.bands + 2)
    wanted = []
    for band in range(front.bands):
        left, centre, right = 700 * (10 ** (corners[band : band + 3] / 2595) - 1)
        total = 0.0
        for k, p in enumerate(power):
            f = k * front.rate / front.n_fft
            if left < f <= centre:
                total += p * (f - left) / (centre - left)
            elif centre < f < right:
                total += p * (right - f) / (right - centre)
        wanted.append((np.log(total + front.floor) - front.mean) / front.std)
    np.testing.assert_allclose(front(samples)[row], wanted, atol=1e-4)


def test_shape_follows_the_length():
    """One frame a hop and one more; float32."""
    picture = LogMel()(tone(5.0))
    assert picture.shape == (251, 64) == (LogMel().frames(80_000), 64)
    assert picture.dtype == np.float32


def test_every_band_hears_something():
    """No empty triangle, none beyond the spectrum."""
    filters = mel_filters(16_000, 640, 64, 60.0, 7_800.0)
    assert (filters.max(axis=0) > 0.3).all()


@pytest.mark.parametrize("samples", [0, 1, 100, 4_799])
def test_short_clips_are_padded(samples):
    """A clip of any length down to nothing gives the picture of 0.3 s."""
    assert LogMel()(np.ones(samples, np.float32)).shape == (16, 64)


def test_silence_is_the_floor():
    """Digital silence has one value everywhere, and it is finite."""
    front = LogMel()
    picture = front(np.zeros(16_000, np.float32))
    np.testing.assert_allclose(picture, (np.log(front.floor) - front.mean) / front.std, rtol=1e-6)
