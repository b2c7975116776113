"""The names the built-in model learns, and where each lies in CLIP's centred text space."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

SOURCES = ("imagenet", "lvis", "oid", "o365", "coco")
"""Lists of the embedding file, in the order in which the names are read."""

_HERE = Path(__file__).parent
_OWN_DIRECTION = 0.5
"""Length of a composed name's own random direction, beside the unit mean of its parts."""


def _unit(x: Vectors) -> Vectors:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True), dtype=np.float32)


def _own_direction(name: str, width: int) -> Vectors:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return _unit(np.random.default_rng(seed).standard_normal(width).astype(np.float32))


def clean(name: str) -> str:
    """Lower case, spaces for underscores, without a parenthesis: `Crane_(bird)` -> `crane`."""
    return re.sub(r"\s*\(.*\)", "", name.replace("_", " ")).strip().lower()


@dataclass(frozen=True)
class Names:
    """The vocabulary.

    Attributes:
        names: the V names, the embedding file's first, then the composed ones and the synonyms.
        vectors: (V, 512), unit length: CLIP's text embeddings less their mean, normalised again.
        mean: (512,), the mean of CLIP's embeddings that was taken away.
        given: how many of the V vectors come from CLIP itself.
        imagenet: index of each of the 1000 ImageNet classes, in the order of their WordNet ids.
        kinds: index of a name -> index of the kind it belongs to (a beagle is a dog).
    """

    names: tuple[str, ...]
    vectors: Vectors
    mean: Vectors
    given: int
    imagenet: tuple[int, ...]
    kinds: dict[int, int]

    def index(self, name: str) -> int:
        """Where `name` stands in the vocabulary; KeyError names it if it is not there."""
        try:
            return self._lookup[clean(name)]
        except KeyError:
            raise KeyError(
                f"{name!r} is not in the vocabulary: add it to names.json, as a synonym or composed"
            ) from None

    @property
    def _lookup(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}


def _kinds(table: dict[str, str | list[str]], lookup: dict[str, int], imagenet: tuple[int, ...]) -> dict[int, int]:
    kinds: dict[int, int] = {}
    for kind, members in table.items():
        if isinstance(members, str):
            spans = [part.split("-") for part in members.removeprefix("imagenet:").split(",")]
            found = [imagenet[i] for span in spans for i in range(int(span[0]), int(span[-1]) + 1)]
        else:
            found = [lookup[clean(m)] for m in members if clean(m) in lookup]
        kinds.update({member: lookup[kind] for member in found if kind in lookup and member != lookup[kind]})
    return kinds


def load_names(embeddings: Path, table: Path = _HERE / "names.json") -> Names:
    """Read CLIP's text embeddings and add the names it was not asked for.

    A name in several lists gets the mean of its vectors. A synonym takes its word's vector. A composed name lies between
    its parts, and beside them by a direction of its own, so that it can be told from each of them.

    Args:
        embeddings: an .npz with `<list>_names` (N,) and `<list>` (N, 512), unit length, for each list of `SOURCES`.
        table: `synonyms`, `composed` and `kinds`.
    """
    extra = json.loads(table.read_text(encoding="utf-8"))
    collected: dict[str, list[Vectors]] = {}
    with np.load(embeddings) as z:
        for source in SOURCES:
            for name, vector in zip(z[f"{source}_names"], z[source].astype(np.float32), strict=True):
                collected.setdefault(clean(str(name)), []).append(vector)
        ordered = [clean(str(name)) for name in z["imagenet_names"]]
    names = list(collected)
    raw = np.stack([np.mean(vectors, axis=0) for vectors in collected.values()])
    mean = raw.mean(axis=0)
    vectors = list(_unit(raw - mean))
    lookup = {name: i for i, name in enumerate(names)}
    for name, parts in extra["composed"].items():
        if name not in lookup:
            centre = _unit(np.sum([vectors[lookup[p]] for p in parts if p in lookup], axis=0))
            lookup[name] = len(names)
            names.append(name)
            vectors.append(_unit(centre + _OWN_DIRECTION * _own_direction(name, len(mean))))
    for name, word in extra["synonyms"].items():
        if name not in lookup and word in lookup:
            lookup[name] = len(names)
            names.append(name)
            vectors.append(vectors[lookup[word]])
    imagenet = tuple(lookup[name] for name in ordered)
    return Names(
        tuple(names), np.stack(vectors), mean, len(collected), imagenet, _kinds(extra["kinds"], lookup, imagenet)
    )
