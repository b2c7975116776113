"""The streaming resampler equals torchaudio's, however the signal is cut."""

import numpy as np
import pytest

from clipkit.media import resample as module
from clipkit.media.resample import Resampler, resample


def run(signal, source, target, cut=None):
    pieces = [signal] if cut is None else np.split(signal, cut)
    return np.concatenate(list(resample(pieces, source, target)) or [np.zeros(0)])


@pytest.mark.parametrize(
    ("source", "target"),
    [(44_100, 16_000), (48_000, 16_000), (8_000, 16_000), (96_000, 44_100), (11_025, 48_000), (22_050, 44_100)],
)
def test_equals_torchaudio(source, target):
    """Both forms of the filter give torchaudio's samples."""
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchaudio.functional")
    signal = np.random.default_rng(0).normal(size=5_001).astype(np.float32)
    wanted = functional.resample(torch.from_numpy(signal).double(), source, target).numpy()
    np.testing.assert_allclose(run(signal, source, target), wanted, atol=5e-6)


@pytest.mark.parametrize(("source", "target"), [(44_100, 16_000), (8_000, 44_100), (16_001, 16_000)])
def test_cuts_do_not_matter(source, target):
    """One chunk, many chunks, empty chunks: the same samples, and ceil(n * target / source) of them."""
    signal = np.random.default_rng(1).normal(size=40_011).astype(np.float32)
    whole = run(signal, source, target)
    assert len(whole) == -(-len(signal) * target // source)
    np.testing.assert_allclose(run(signal, source, target, [1, 1, 7, 12_000, 39_999]), whole, atol=1e-6)


def test_banded_form_equals_dense_form(monkeypatch):
    """Rates with no common divisor take the banded form; it computes the same sums."""
    signal = np.random.default_rng(2).normal(size=9_000).astype(np.float32)
    dense = run(signal, 44_100, 16_000)
    monkeypatch.setattr(module, "DENSE_KERNEL", 0)
    np.testing.assert_allclose(run(signal, 44_100, 16_000), dense, atol=2e-6)


def test_awkward_rates_need_no_giant_filter():
    """44,101 Hz to 16 kHz would need a bank of 700 million numbers; none is built."""
    resampler = Resampler(44_101, 16_000)
    assert resampler._bank is None
    t = np.arange(44_101) / 44_101
    out = np.concatenate([resampler.push(np.sin(2 * np.pi * 440 * t).astype(np.float32)), resampler.flush()])
    wanted = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(out[200:-200], wanted[200:-200], atol=4e-3)


def test_same_rate_passes_through():
    """No filter where the rate is right already."""
    signal = np.random.default_rng(3).normal(size=100).astype(np.float32)
    np.testing.assert_array_equal(run(signal, 16_000, 16_000), signal)
