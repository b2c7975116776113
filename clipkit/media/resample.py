"""Change of sample rate in NumPy, chunk by chunk, so that hours of sound need neither torch nor memory.

The filter is the Hann-windowed sinc of `torchaudio.functional.resample` with its default width and roll-off; a test
holds the two together.
"""

from __future__ import annotations

from math import ceil, gcd
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

ZERO_CROSSINGS = 6
ROLLOFF = 0.99
DENSE_KERNEL = 1 << 22
"""Most elements of a filter bank kept in memory (16 MiB); rates with a tiny common divisor need more and go banded."""
BLOCK = 1 << 16
"""Outputs computed at a time by the banded form."""


def filter_taps(offsets: NDArray[np.float64], base: float) -> NDArray[np.float64]:
    """The interpolation filter at `offsets`, in input samples from the output's place.

    Args:
        offsets: any shape.
        base: the cut-off `min(source, target) * ROLLOFF / source`, in cycles per two input samples.
    """
    t = np.clip(offsets * base, -ZERO_CROSSINGS, ZERO_CROSSINGS)
    window = np.cos(t * np.pi / ZERO_CROSSINGS / 2) ** 2
    return np.asarray(np.sinc(t) * window * base)


class Resampler:
    """A streaming resampler: feed chunks to `push`, then call `flush` once.

    The outputs joined together are the resampled signal of `ceil(n * target / source)` samples, whatever the chunking.
    """

    def __init__(self, source: int, target: int) -> None:
        """Prepare the filter bank for `source` Hz to `target` Hz."""
        common = gcd(source, target)
        self._step, self._phases = source // common, target // common
        self._base = min(self._step, self._phases) * ROLLOFF / self._step
        self._width = ceil(ZERO_CROSSINGS / self._base)
        self._span = 2 * self._width + self._step
        self._bank = self._dense_bank() if self._phases * self._span <= DENSE_KERNEL else None
        self._pending = np.zeros(self._width, np.float32)  # the signal starts `width` zeros late
        self._seen = 0
        self._given = 0

    def push(self, chunk: NDArray[np.float32]) -> NDArray[np.float32]:
        """The outputs that `chunk` (T,) completes, (M,) float32; M may be 0."""
        if self._step == self._phases:
            return chunk
        self._seen += len(chunk)
        self._pending = np.concatenate([self._pending, chunk])
        return self._drain()

    def flush(self) -> NDArray[np.float32]:
        """The last outputs, computed as if silence followed."""
        if self._step == self._phases:
            return np.zeros(0, np.float32)
        left = ceil(self._seen * self._phases / self._step) - self._given
        self._pending = np.concatenate([self._pending, np.zeros(self._width + self._step, np.float32)])
        return self._drain()[:left]

    def _drain(self) -> NDArray[np.float32]:
        """Compute every group of `phases` outputs whose `span` inputs are here, and drop the inputs used up."""
        groups = max(0, (len(self._pending) - self._span) // self._step + 1)
        if not groups:
            return np.zeros(0, np.float32)
        out = self._banded(groups) if self._bank is None else self._dense(groups, self._bank)
        self._pending = self._pending[groups * self._step :]
        self._given += len(out)
        return out

    def _dense_bank(self) -> NDArray[np.float32]:
        """(span, phases): column p holds the taps of output p of a group."""
        taps = np.arange(self._span)[:, None] - self._width
        places = np.arange(self._phases)[None, :] * (self._step / self._phases)
        return filter_taps(taps - places, self._base).astype(np.float32)

    def _dense(self, groups: int, bank: NDArray[np.float32]) -> NDArray[np.float32]:
        frames = np.lib.stride_tricks.sliding_window_view(self._pending, self._span)[:: self._step][:groups]
        return np.ascontiguousarray(frames @ bank).reshape(-1)

    def _banded(self, groups: int) -> NDArray[np.float32]:
        """The same sums without the zeros of the bank: each output reads only the taps under its window."""
        out = np.empty(groups * self._phases, np.float32)
        band = np.arange(2 * self._width + 1)
        for start in range(0, len(out), BLOCK):
            places = np.arange(start, min(start + BLOCK, len(out))) * (self._step / self._phases)
            first = np.floor(places).astype(np.int64)
            taps = first[:, None] + band[None, :]
            weights = filter_taps(taps - self._width - places[:, None], self._base)
            out[start : start + len(places)] = np.einsum("nt,nt->n", self._pending[taps], weights)
        return out


def resample(chunks: Iterable[NDArray[np.float32]], source: int, target: int) -> Iterator[NDArray[np.float32]]:
    """Resample a stream of (T,) chunks from `source` Hz to `target` Hz; empty chunks are left out."""
    resampler = Resampler(source, target)
    for chunk in chunks:
        if len(out := resampler.push(chunk)):
            yield out
    if len(out := resampler.flush()):
        yield out
