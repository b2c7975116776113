"""Phrases and what they mean: templates, plurals, wordings and captions over the names, for the text tower to learn."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from clipkit.training.names import Names, Vectors

TEMPLATES: tuple[str, ...] = tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)

WORDINGS = (
    "{}", "a {}", "the {}", "an {}", "a photo of a {}", "a photo of a {}.", "a photo of {}", "a picture of a {}", "an image of a {}",
    "this is a {}", "there is a {} here", "my {}", "some {}", "one {}", "a single {}", "a {} in the scene", "a {} on a white background",
    "a close up of a {}", "a snapshot of a {}", "a {} seen from the side", "a {} outdoors", "a {} indoors", "a {} on a table", "a {} in a room",
    "a {} in the street", "a {} on the grass", "a {} in the sky", "a {} in the water", "a {} on the beach", "a {} in the snow", "{}, a photo",
    "a red {}", "a blue {}", "a green {}", "a yellow {}", "a black {}", "a white {}", "a brown {}", "a small {}", "a big {}", "a large {}",
    "a tiny {}", "a huge {}", "an old {}", "a young {}", "a new {}", "a beautiful {}", "a cute {}", "a typical {}", "a wooden {}", "a sitting {}",
    "a standing {}", "a running {}", "a sleeping {}", "a lonely {}", "a wild {}", "a modern {}", "a vintage {}", "someone with a {}",
    "a man with a {}", "a woman with a {}", "a child with a {}", "the kind of thing called {}", "an example of a {}", "what a {} looks like",
)  # fmt: skip
PLURAL_WORDINGS = (
    "{}", "the {}", "two {}", "three {}", "many {}", "several {}", "some {}", "a few {}", "a group of {}", "a lot of {}", "a photo of {}",
    "a photo of many {}", "a picture of {}", "pictures of {}", "photos of {}", "{} outdoors", "{} on a table", "{} in a row", "four {}",
)  # fmt: skip
PAIRS = (
    "a {} and a {}", "a {} next to a {}", "a {} with a {}", "a {} on a {}", "a {} near a {}", "a {} beside a {}", "a {} in front of a {}",
    "a {} under a {}", "the {} and the {}", "{} and {}", "a {} holding a {}", "a {} looking at a {}",
)  # fmt: skip

_IRREGULAR = {
    "person": "people", "man": "men", "woman": "women", "child": "children", "mouse": "mice", "goose": "geese", "tooth": "teeth", "foot": "feet",
    "sheep": "sheep", "deer": "deer", "fish": "fish", "wolf": "wolves", "knife": "knives", "leaf": "leaves", "loaf": "loaves", "shelf": "shelves",
    "scarf": "scarves", "ox": "oxen", "calf": "calves", "scissors": "scissors", "glasses": "glasses", "trousers": "trousers", "shorts": "shorts",
}  # fmt: skip
_STOP = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "on",
        "in",
        "at",
        "to",
        "and",
        "or",
        "with",
        "by",
        "for",
        "from",
        "as",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "being",
        "it",
        "its",
        "their",
        "his",
        "her",
        "he",
        "she",
        "they",
        "them",
        "this",
        "that",
        "these",
        "those",
        "there",
        "while",
        "which",
        "who",
        "has",
        "have",
        "having",
        "had",
        "into",
        "onto",
        "over",
        "under",
        "near",
        "next",
        "up",
        "down",
        "out",
        "off",
        "two",
        "three",
        "four",
        "one",
        "some",
        "several",
        "many",
        "few",
        "very",
        "other",
        "another",
        "each",
        "all",
        "both",
        "between",
        "behind",
        "front",
        "top",
        "side",
        "around",
        "through",
        "across",
        "above",
        "below",
        "along",
        "against",
        "inside",
        "outside",
        "not",
        "no",
        "while",
        "can",
    ]
)
_FILLERS = (
    *sorted(_STOP),
    *[
        "I",
        "you",
        "we",
        "here",
        "just",
        "very",
        "really",
        "please",
        "find",
        "show",
        "me",
        "showing",
        "look",
        "see",
        "photo",
        "photograph",
        "image",
        "picture",
        "taken",
        "made",
        "of",
        "my",
        "our",
        "your",
        "this",
        "kind",
        "type",
        "thing",
        "nice",
        "great",
        "good",
        "bad",
        "best",
        "old",
        "new",
        "little",
        "bit",
    ],
)
_LEAST = 5
_SECOND = 0.6


def plural(name: str) -> str:
    """The English plural of a name's last word: `fire engine` -> `fire engines`."""
    head, _, last = name.rpartition(" ")
    if last in _IRREGULAR:
        many = _IRREGULAR[last]
    elif re.search(r"(s|x|z|ch|sh)$", last):
        many = last + "es"
    elif re.search(r"[^aeiou]y$", last):
        many = last[:-1] + "ies"
    elif last.endswith("man"):
        many = last[:-3] + "men"
    else:
        many = last + "s"
    return f"{head} {many}".strip()


def unit(x: Vectors) -> Vectors:
    """Scale to unit length along the last axis."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-8), dtype=np.float32)


class Phrases:
    """A source of (phrase, target) pairs; a batch depends on the seed and the step alone.

    Args:
        names: the vocabulary.
        captions: a file of captions, one a line; each is given the mean of the known names in it, the first one counting
            most, and words without a name of their own the mean of the captions they stand in, less the mean of all.
        favourites: indices of names to draw three times as often (those the image tower is trained on).
    """

    def __init__(self, names: Names, captions: Path | None = None, favourites: tuple[int, ...] = ()) -> None:
        """Read the captions and find their words."""
        self.names = names
        weights = np.ones(len(names.names))
        weights[list(favourites)] = 3
        self._weights = weights / weights.sum()
        self._known = {name: i for i, name in reversed(list(enumerate(names.names)))}
        self._known |= {plural(name): i for name, i in self._known.items() if plural(name) not in self._known}
        self._longest = max(len(name.split()) for name in self._known)
        lines = captions.read_text(encoding="utf-8").splitlines() if captions else []
        self.captions, self.caption_vectors = self._read_captions(lines)
        self.words, self.word_vectors = self._read_words()

    def mentions(self, caption: str) -> list[int]:
        """Indices of the known names in a caption, longest match first from the left."""
        words = re.findall(r"[a-z][a-z'-]*", caption.lower())
        found: list[int] = []
        at = 0
        while at < len(words):
            for length in range(min(self._longest, len(words) - at), 0, -1):
                index = self._known.get(" ".join(words[at : at + length]))
                if index is not None and not (length == 1 and words[at] in _STOP):
                    found.append(index)
                    at += length
                    break
            else:
                at += 1
        return found

    def meaning(self, caption: str) -> Vectors | None:
        """Where a caption lies: unit mean of the names in it, the n-th weighing 0.6^n; None without a known name."""
        found = list(dict.fromkeys(self.mentions(caption)))
        if not found:
            return None
        weights = _SECOND ** np.arange(len(found), dtype=np.float32)
        return unit((weights[:, None] * self.names.vectors[found]).sum(axis=0))

    def _read_captions(self, lines: list[str]) -> tuple[list[str], Vectors]:
        pairs = [(line.strip(), vector) for line in lines if (vector := self.meaning(line)) is not None]
        if not pairs:
            return [], np.zeros((0, self.names.vectors.shape[1]), np.float32)
        return [line for line, _ in pairs], np.stack([vector for _, vector in pairs])

    def _read_words(self) -> tuple[list[str], Vectors]:
        width = self.names.vectors.shape[1]
        if not self.captions:
            return [], np.zeros((0, width), np.float32)
        sums: dict[str, Vectors] = {}
        counts: Counter[str] = Counter()
        for caption, vector in zip(self.captions, self.caption_vectors, strict=True):
            for word in set(re.findall(r"[a-z]{3,}", caption.lower())) - _STOP:
                if word not in self._known:
                    counts[word] += 1
                    sums[word] = sums.get(word, np.zeros(width, np.float32)) + vector
        words = sorted(word for word, n in counts.items() if n >= _LEAST)
        centre = self.caption_vectors.mean(axis=0)
        return words, unit(np.stack([sums[word] / counts[word] - centre for word in words]))

    def batch(self, step: int, size: int, seed: int) -> tuple[list[str], Vectors]:
        """`size` phrases and their (size, D) targets."""
        rng = np.random.default_rng((seed, step, 1))
        kinds = rng.choice(7, size=size, p=self._mixture())
        first, second = rng.choice(len(self._weights), size=(2, size), p=self._weights)
        vectors = self.names.vectors
        phrases: list[str] = []
        targets: list[Vectors] = []
        for kind, i, j in zip(kinds, first, second, strict=True):
            name, target = self.names.names[i], vectors[i]
            if kind == 0:
                phrase = _pick(rng, TEMPLATES).format(name)
            elif kind == 1:
                phrase = _pick(rng, WORDINGS).format(name)
            elif kind == 2:
                phrase = _pick(rng, PLURAL_WORDINGS if rng.random() < 0.7 else TEMPLATES).format(plural(name))
            elif kind == 3:
                phrase, target = (
                    _pick(rng, PAIRS).format(name, self.names.names[j]),
                    unit(target + _SECOND * vectors[j]),
                )
            elif kind == 4:
                row = int(rng.integers(len(self.captions)))
                phrase, target = self.captions[row], self.caption_vectors[row]
            elif kind == 5:
                row = int(rng.integers(len(self.words)))
                phrase, target = _pick(rng, WORDINGS).format(self.words[row]), self.word_vectors[row]
            else:
                phrase = f"{self._filler(rng, 5)} {plural(name) if rng.random() < 0.3 else name} {self._filler(rng, 3)}".strip()
            phrases.append(re.sub(r"\ba (?=[aeiou])", "an ", phrase) if rng.random() < 0.5 else phrase)
            targets.append(target)
        return phrases, np.stack(targets)

    def _filler(self, rng: np.random.Generator, most: int) -> str:
        """Up to `most` words that name nothing: what stands around a name should not move it."""
        lists = (_FILLERS, self.words or _FILLERS)
        return " ".join(_pick(rng, lists[int(rng.random() < 0.4)]) for _ in range(int(rng.integers(most + 1))))

    def _mixture(self) -> tuple[float, ...]:
        return (0.28, 0.15, 0.12, 0.06, 0.12, 0.05, 0.22) if self.captions else (0.35, 0.2, 0.15, 0.08, 0.0, 0.0, 0.22)


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]
