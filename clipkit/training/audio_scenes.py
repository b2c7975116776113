"""Training scenes for the built-in audio tower: a few hundred recordings, stretched, filtered, mixed and synthesised.

So few recordings hold few kinds of sound. Played slower or faster, filtered, laid over one another or replaced by plain
synthesis they wander through far more of what the teacher has names for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 16_000
SECONDS = 3.0
LENGTH = round(RATE * SECONDS)


@dataclass(frozen=True, slots=True)
class Source:
    """A recording (T,) at 16 kHz and its class (an index into the label names), -1 where it has none."""

    samples: NDArray[np.float32]
    label: int = -1


@dataclass(frozen=True, slots=True)
class Scene:
    """`LENGTH` samples and the share of each labelled class in them, (C,), summing to at most 1."""

    samples: NDArray[np.float32]
    shares: NDArray[np.float32]


class SceneMaker:
    """Draws scenes from labelled and unlabelled recordings."""

    def __init__(self, labelled: list[Source], other: list[Source], classes: int, seed: int) -> None:
        """`labelled` are the target classes' clips, `other` speech, music, whatever there is."""
        self._labelled, self._other, self._classes = labelled, other, classes
        self._rng = np.random.default_rng(seed)

    def draw(self) -> Scene:
        """One scene: a labelled clip, a mixture, another recording, or plain synthesis."""
        rng = self._rng
        kind = rng.random()
        shares = np.zeros(self._classes + 1, np.float32)  # the last is "no label", dropped below
        if kind < 0.55:
            samples, label = self._take(self._labelled, plain=0.7)
            shares[label] = 1.0
        elif kind < 0.75:
            first, label = self._take(self._labelled, plain=0.7)
            pool = self._labelled if rng.random() < 0.6 else self._other
            second, other = self._take(pool, plain=0.5)
            share = rng.uniform(0.5, 0.95)
            samples = share * first + (1 - share) * second
            shares[label] += share
            shares[other] += 1 - share
        elif kind < 0.9:
            samples, _ = self._take(self._other, plain=0.4)
        else:
            samples = synthesise(rng)
        if rng.random() < 0.3:
            samples = _coloured(samples, rng)
        level = 10 ** rng.uniform(-1.3, -0.02) / max(float(np.abs(samples).max()), 1e-4)
        samples = samples * (level if rng.random() < 0.7 else min(1.0, level))
        return Scene(samples.astype(np.float32), shares[:-1])

    def _take(self, pool: list[Source], plain: float) -> tuple[NDArray[np.float32], int]:
        """A random stretch of a random recording of `pool`; with chance `1 - plain` at another speed."""
        rng = self._rng
        source = pool[int(rng.integers(len(pool)))]
        speed = float(np.exp(rng.uniform(-0.12, 0.12) if rng.random() < plain else rng.uniform(-0.7, 0.7)))
        # a dog at half speed is no longer a dog: only the teacher names what is far from its own speed
        label = source.label if 0.75 < speed < 1.35 else -1
        return _stretch_of(_at_speed(source.samples, speed), rng), label


def _at_speed(samples: NDArray[np.float32], speed: float) -> NDArray[np.float32]:
    """Played `speed` times as fast, pitch and all, by linear interpolation."""
    places = np.arange(0, len(samples) - 1, speed)
    return np.asarray(np.interp(places, np.arange(len(samples)), samples), np.float32)


def _stretch_of(samples: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """`LENGTH` samples: a random cut that is not nearly silent if there is one, or the sound placed at random."""
    if len(samples) <= LENGTH:
        out = np.zeros(LENGTH, np.float32)
        start = int(rng.integers(LENGTH - len(samples) + 1))
        out[start : start + len(samples)] = samples
        return out
    power = float(np.mean(samples**2))
    cut = samples[:LENGTH]
    for _ in range(6):
        start = int(rng.integers(len(samples) - LENGTH + 1))
        cut = samples[start : start + LENGTH]
        if float(np.mean(cut**2)) > 0.3 * power:
            break
    return cut


def _coloured(samples: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Through a random smooth equaliser of +-12 dB, as another microphone or room would have it."""
    spectrum = np.fft.rfft(samples)
    corners = np.concatenate([[0.0], np.geomspace(60, RATE / 2, 7)])
    gains = rng.uniform(-12, 12, len(corners))
    hertz = np.linspace(0, RATE / 2, len(spectrum))
    curve = 10 ** (np.interp(np.log(hertz + 30), np.log(corners + 30), gains) / 20)
    return np.asarray(np.fft.irfft(spectrum * curve, len(samples)), np.float32)


def synthesise(rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise, tones, sirens, beeps, bells, plucked strings or clicks: whatever a few lines can make."""
    t = np.arange(LENGTH) / RATE
    out: NDArray[np.float64]
    kind = int(rng.integers(7))
    f = float(np.exp(rng.uniform(np.log(80), np.log(3_000))))
    if kind == 0:  # noise with a spectral slope
        spectrum = np.fft.rfft(rng.normal(size=LENGTH)) / np.maximum(np.arange(LENGTH // 2 + 1), 20) ** rng.uniform(
            0, 1
        )
        out = np.fft.irfft(spectrum, LENGTH)
    elif kind == 1:  # a chord of harmonics
        n = int(rng.integers(1, 12))
        out = np.sum([np.sin(2 * np.pi * f * k * t + rng.uniform(0, 6)) / k for k in range(1, n + 1)], axis=0)
    elif kind == 2:  # a siren
        rate, width = rng.uniform(0.2, 8), rng.uniform(0.05, 0.6)
        out = np.sin(2 * np.pi * np.cumsum(f * (1 + width * np.sin(2 * np.pi * rate * t))) / RATE)
    elif kind == 3:  # beeps
        on = ((t * rng.uniform(1, 8)) % 1 < rng.uniform(0.2, 0.7)).astype(np.float64)
        out = on * np.sign(np.sin(2 * np.pi * f * t) + rng.uniform(-0.9, 0.9))
    elif kind == 4:  # struck metal: inharmonic partials that die away
        start = rng.uniform(0, 1)
        later = np.maximum(t - start, 0)
        partials = f * np.array([1, 2.76, 5.4, 8.93])
        parts = [np.exp(-later * rng.uniform(1, 6)) * np.sin(2 * np.pi * p * later) for p in partials]
        out = np.sum(parts, axis=0) * (t > start)
    elif kind == 5:  # plucked strings: a decaying comb of harmonics for each note
        out = np.zeros(LENGTH)
        for start in np.sort(rng.uniform(0, 2.5, int(rng.integers(1, 8)))):
            later, note = np.maximum(t - start, 0), f * 2 ** (rng.integers(-7, 8) / 12)
            for k in range(1, 9):
                out += np.exp(-later * (2 + k)) * np.sin(2 * np.pi * note * k * later) / k
    else:  # clicks, regular or not
        out = np.zeros(LENGTH)
        count = int(rng.integers(2, 30))
        places = np.linspace(0, LENGTH - 200, count) if rng.random() < 0.6 else rng.uniform(0, LENGTH - 200, count)
        decay = np.exp(-np.arange(200) / rng.uniform(5, 60))
        for place in places.astype(int):
            out[place : place + 200] += rng.normal(size=200) * decay
    return np.asarray(out / max(float(np.abs(out).max()), 1e-6), np.float32)
