"""ViLD's recipe (Gu et al. 2022) over any proposals: template ensemble, background class, crops and regions multiplied."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from clipkit.detection.boxes import within
from clipkit.detection.clip_boxes import class_probabilities
from clipkit.detection.crops import embed_boxes
from clipkit.detection.detector import Found
from clipkit.detection.nms import suppress
from clipkit.prompts.ensemble import class_vectors
from clipkit.prompts.labels import Label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clipkit.dense.vocabulary import Vocabulary
    from clipkit.models.clip import Clip

# Section 4.1: proposals after NMS at .7, weight of the head that knows the class, boxes kept.
PROPOSAL_NMS = 0.7
MOST_PROPOSALS = 1000
KNOWN = 2 / 3
MOST_PAIRS = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """Where to look in one picture: `boxes` `(N, 4)` pixels, `scores` `(N,)`, `features` `(N, D)` unit vectors or None.

    `images` `(N, D)` are unit vectors that stand for the embeddings of crops. `thinned` says that the source has already
    dropped proposals that overlap.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    features: NDArray[np.float32] | None = None
    images: NDArray[np.float32] | None = None
    thinned: bool = False

    def __getitem__(self, kept: Any) -> Regions:
        """The regions of an index array."""
        features, images = (None if rows is None else rows[kept] for rows in (self.features, self.images))
        return Regions(self.boxes[kept], self.scores[kept], features, images, self.thinned)


class RegionSource(Protocol):
    """Proposals of a picture."""

    def regions(self, image: NDArray[np.uint8], path: str) -> Regions:
        """`(H, W, 3)` RGB -> regions; an `InputError` where the source has none for this picture."""


def article(name: str) -> str:
    """`an` before a, e, i, o, u; `a` before anything else."""
    return "an" if name[:1] in tuple("aeiou") else "a"


def spoken(name: str) -> str:
    """A category's name as its prompts have it: `_` a space, `/` an or, lower case, no full stop at the end."""
    return name.replace("_", " ").replace("/", " or ").lower().rstrip(".")


@cache
def templates(an: bool = False) -> tuple[str, ...]:
    """The 63 templates with `{}` for the name, for names that take `a` or `an`.

    Texts that start with "a" or "the" get "This is " in front, as the authors' prompts have it.
    """
    text = (resources.files("clipkit.detection") / "data" / "templates-vild.txt").read_text(encoding="utf-8")
    filled = (line.replace("{article}", "an" if an else "a") for line in text.splitlines())
    return tuple(f"This is {line}" if line.startswith(("a", "the")) else line for line in filled)


def text_vectors(clip: Clip, wordings: Sequence[str]) -> NDArray[np.float32]:
    """`(Q, D)` unit vectors: each wording in every template, unit vectors averaged, normalised."""
    names = [spoken(wording) for wording in wordings]
    out = np.zeros((len(names), clip.embed_dim), np.float32)
    for an in (False, True):
        rows = [i for i, name in enumerate(names) if (article(name) == "an") == an]
        if rows:
            labels = [Label(str(i), (names[i],)) for i in rows]
            out[rows] = class_vectors(clip, labels, templates(an)).vectors[:, 0]
    return out


def ensemble(
    p_text: NDArray[Any], p_image: NDArray[Any], base: NDArray[np.bool_], known: float = KNOWN
) -> NDArray[np.float64]:
    """Equation 5: the geometric mean of both heads, in favour of the one that knows the class.

    Args:
        p_text: `(N, C)` of the region head.
        p_image: `(N, C)` of the crops.
        base: `(C,)` classes the region head was trained on.
        known: weight of `p_text` for base classes, of `p_image` for the others.

    Returns:
        `(N, C)`.
    """
    weight = np.where(base, known, 1 - known)
    return np.asarray(np.asarray(p_text, np.float64) ** weight * np.asarray(p_image, np.float64) ** (1 - weight))


@dataclass(frozen=True, slots=True, eq=False)
class VildOptions:
    """How the recipe runs.

    Attributes:
        base: names of labels the regions' features were trained on.
        temperature: multiplier of cosines; None takes the model's own (100 for CLIP, which is what the authors use).
        region_temperature: that of the regions' features; None takes the crops'.
        region_background: a learned unit vector `(D,)` that stands for the background among the regions' features, in
            the place of its texts.
        crops: whether crops are looked at; where not, the source's `images` take their place, or the features decide alone.
    """

    base: frozenset[str] = field(default_factory=frozenset)
    temperature: float | None = None
    region_temperature: float | None = None
    region_background: NDArray[np.float32] | None = None
    crops: bool = True


class VildDetector:
    """Regions judged twice: by their features against the text, and by the embeddings of their crops."""

    nms = 0.5
    least = 0.1
    most = 300

    def __init__(self, clip: Clip, vocabulary: Vocabulary, source: RegionSource, options: VildOptions) -> None:
        """Encode the labels once.

        Args:
            clip: any engine.
            vocabulary: labels and background.
            source: where to look.
            options: base labels and temperature.
        """
        self.clip = clip
        self.source = source
        self.vocabulary = vocabulary
        self.labels = vocabulary.labels
        self.id = clip.id
        self.weights_hash = clip.weights_hash
        self.first = 1 if vocabulary.has_background else 0
        self.scale = clip.logit_scale if options.temperature is None else options.temperature
        self.base = np.array([label in options.base for label in self.labels])
        self.vectors = text_vectors(clip, vocabulary.queries)
        self.region_scale = options.region_temperature or self.scale
        self.region_background = options.region_background
        self.crops = options.crops

    def detect(self, image: NDArray[np.uint8], path: str = "", *, only: Sequence[int] | None = None) -> Found:
        """Every region with every label it may be, the 2000 best pairs."""
        height, width = image.shape[:2]
        regions = self.source.regions(image, path)
        if not regions.thinned:
            regions = regions[suppress(regions.boxes, regions.scores, PROPOSAL_NMS)[:MOST_PROPOSALS]]
        boxes = within(regions.boxes, width, height)
        if not len(boxes):
            return Found.nothing()
        images = embed_boxes(self.clip, image, boxes) if self.crops or regions.features is None else regions.images
        heads = [] if regions.features is None else [self.region_probabilities(regions.features)]
        heads += [] if images is None else [self.probabilities(images)]
        scores = ensemble(heads[0], heads[1], self.base) if len(heads) == 2 else heads[0]
        asked = np.arange(len(self.labels)) if only is None else np.asarray(only, np.intp)
        pairs = scores[:, asked].ravel()
        best = np.argsort(-pairs, kind="stable")[:MOST_PAIRS]
        return Found(boxes[best // len(asked)], pairs[best], asked[best % len(asked)])

    def probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """`(N, D)` unit vectors -> `(N, C)`: softmax over background and labels, the background left out."""
        cosines = vectors @ self.vectors.T
        return class_probabilities(cosines, self.vocabulary.owners, self.scale)[:, self.first :]

    def region_probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """As `probabilities`, for the regions' own features: their temperature, and their background where learned."""
        texts, owners = self.vectors, self.vocabulary.owners
        if self.region_background is not None:
            things = sum(owner == 0 for owner in owners)
            texts, owners = np.concatenate([self.region_background[None], texts[things:]]), (0, *owners[things:])
        return class_probabilities(vectors @ texts.T, owners, self.region_scale)[:, int(owners[0] == 0) :]
