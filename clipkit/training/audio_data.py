"""Recordings for the built-in audio tower, and the scenes made of them, labelled by the teacher and stored once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipkit.audio.logmel import LogMel
from clipkit.media.audio import load
from clipkit.training.audio_scenes import RATE, SceneMaker, Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

ESC10 = {
    "Dog bark": "dog",
    "Rain": "rain",
    "Sea waves": "sea waves",
    "Baby cry": "crying baby",
    "Clock tick": "clock tick",
    "Person sneeze": "sneezing",
    "Helicopter": "helicopter",
    "Chainsaw": "chainsaw",
    "Rooster": "rooster",
    "Fire crackling": "crackling fire",
}
"""ESC-10's folders ("001 - Dog bark") and the names ESC-50 gives the same classes."""
LABELS = tuple(ESC10.values())
WORDINGS = (
    ("dog", "barking dog", "dog barking", "bark"),
    ("rain", "rainfall", "raining", "heavy rain"),
    ("sea waves", "ocean waves", "waves", "surf"),
    ("crying baby", "baby crying", "baby cry", "infant crying"),
    ("clock tick", "ticking clock", "clock ticking", "clock"),
    ("sneezing", "sneeze", "person sneezing", "sneezes"),
    ("helicopter", "helicopter flying", "helicopters", "helicopter noise"),
    ("chainsaw", "chain saw", "chainsaw running", "chainsaw noise"),
    ("rooster", "rooster crowing", "crowing rooster", "cock crowing"),
    ("crackling fire", "fire crackling", "fire", "campfire"),
)
"""Four wordings of each of `LABELS`, the label first: people do not type ESC-50's own words."""


def esc10_clips(root: Path, folds: str) -> list[tuple[Path, int]]:
    """(file, class) of the clips whose name starts with one of the digits `folds`, in a fixed order."""
    clips = []
    for folder in sorted(root.iterdir()):
        label = list(ESC10).index(folder.name.split(" - ")[1])
        clips += [(file, label) for file in sorted(folder.glob("*.ogg")) if file.name[0] in folds]
    return clips


def spoken(root: Path, phrases: int = 60, seed: int = 0) -> list[Source]:
    """Single spoken digits strung into phrases of about three seconds, one speaker each (free-spoken-digit-dataset)."""
    rng = np.random.default_rng(seed)
    speakers: dict[str, list[Path]] = {}
    for file in sorted(root.glob("*.wav")):
        speakers.setdefault(file.stem.split("_")[1], []).append(file)
    sources = []
    for phrase in range(phrases):
        files = speakers[sorted(speakers)[phrase % len(speakers)]]
        words = [load(files[int(i)], RATE) for i in rng.integers(len(files), size=7)]
        sources.append(Source(np.concatenate(words)))
    return sources


def music(root: Path) -> list[Source]:
    """Sonic Pi's CC0 samples: drums, bells, guitars, loops, a few noises."""
    return [Source(samples) for f in sorted(root.glob("*.flac")) if len(samples := load(f, RATE)) > RATE // 20]


def main() -> None:
    """Write `scenes.npz`: log-mels (N, frames, 64) float16, teacher scores (N, 521) float16, class shares (N, 10)."""
    from clipkit.training.audio_teacher import Yamnet

    parser = argparse.ArgumentParser(description=main.__doc__)
    for name in ("--esc10", "--digits", "--samples", "--yamnet", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--count", type=int, default=8_000)
    parser.add_argument("--folds", default="123")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--leave-out", nargs="*", default=[], help="classes to leave out, to measure unseen labels")
    options = parser.parse_args()

    teacher, front_end = Yamnet(options.yamnet), LogMel()
    clips = esc10_clips(options.esc10, options.folds)
    labelled = [Source(load(file, RATE), label) for file, label in clips if LABELS[label] not in options.leave_out]
    other = spoken(options.digits) + music(options.samples)
    print(f"{len(labelled)} labelled recordings, {len(other)} others")
    maker = SceneMaker(labelled, other, len(LABELS), options.seed)
    mels: list[NDArray[np.float16]] = []
    scores: list[NDArray[np.float16]] = []
    shares: list[NDArray[np.float32]] = []
    for number in range(options.count):
        scene = maker.draw()
        mels.append(front_end(scene.samples).astype(np.float16))
        scores.append(teacher(scene.samples).astype(np.float16))
        shares.append(scene.shares)
        if number % 500 == 0:
            print(number, flush=True)
    np.savez(options.out, mels=np.stack(mels), scores=np.stack(scores), shares=np.stack(shares))


if __name__ == "__main__":
    main()
