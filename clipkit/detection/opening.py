"""From the name of a method to a detector that is ready."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from clipkit.dense.features import DenseOptions
from clipkit.dense.segmenter import ClipOptions
from clipkit.dense.vocabulary import BACKGROUND, vocabulary
from clipkit.detection.clip_boxes import ClipBoxOptions, ClipDetector
from clipkit.detection.crops import SCALES
from clipkit.detection.region_sources import DenseRegions, FileRegions, SelectiveSearch
from clipkit.detection.vild import VildDetector, VildOptions
from clipkit.errors import UsageError
from clipkit.models.catalog import resolve
from clipkit.models.loader import load_clip
from clipkit.prompts.templates import load_templates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clipkit.dense.vocabulary import Vocabulary
    from clipkit.detection.detector import Detector
    from clipkit.detection.vild import RegionSource
    from clipkit.prompts.labels import Label

CLIP_METHODS = ("clip", "vild")
SOURCES = ("dense", "selective")


@dataclass(frozen=True, slots=True)
class DetectorChoice:
    """Who detects, and how.

    Attributes:
        method: one of `CLIP_METHODS`, or a key of `clipkit.models.grounding.FAMILIES`.
        background: `sky|wall`: texts of what is no object; None takes the method's.
        templates: prompt templates of `clip`; `vild` has its own.
        dense: size, window, stride and flip of the class maps.
        crops: whether `clip` looks at each box closely, and `vild` with `weights` at each region.
        proposals: where `vild` looks: `dense`, `selective`, or a JSONL file; None is `dense`, or the network of `weights`.
        base: labels that `vild`'s region features were trained on.
        weights: folder of a grounding model that is not in the hub's cache; the checkpoint of GLIP, or of `vild`'s region network.
        caption: text that `glip` and the Grounding DINO family are asked, in place of a list of labels; OmDet-Turbo's task.
        model, device, precision: as `load_clip` takes them.
    """

    method: str = "clip"
    background: str | None = None
    templates: tuple[str, ...] = field(default_factory=load_templates)
    dense: DenseOptions = field(default_factory=DenseOptions)
    crops: bool = True
    proposals: str | None = None
    base: frozenset[str] = field(default_factory=frozenset)
    weights: Path | None = None
    caption: str | None = None
    model: str | None = None
    device: str | None = None
    precision: str | None = None


def open_detector(choice: DetectorChoice, labels: Sequence[Label]) -> Detector:
    """Load what the choice names.

    Raises:
        UsageError: options that do not go together, or labels that do.
        ModelUnavailableError: weights or an optional package are missing.
        ModelError: the model's image tower gives no patch answers.
    """
    if choice.method not in CLIP_METHODS:
        from clipkit.detection.grounded import open_grounded

        if choice.model is not None:
            raise UsageError(f"--method {choice.method} has its own model; name its files with --weights, not --model")
        return open_grounded(choice.method, labels, folder=choice.weights, device=choice.device, caption=choice.caption)
    if choice.caption is not None or (choice.weights is not None and choice.method != "vild"):
        raise UsageError("--weights and --caption are for the grounding methods; name a CLIP model with --model")
    if choice.method == "vild":
        return _vild(choice, labels)
    words = vocabulary(labels, choice.background)
    clip = load_clip(choice.model, choice.device, choice.precision, engine="torch")
    options = ClipBoxOptions(
        clip=ClipOptions(dense=choice.dense, templates=choice.templates), scales=SCALES if choice.crops else ()
    )
    return ClipDetector(clip, words, options)


def _vild(choice: DetectorChoice, labels: Sequence[Label]) -> VildDetector:
    # The authors' background is a class of its own, one text unless others are asked for.
    words = vocabulary(labels, BACKGROUND if choice.background is None else choice.background)
    if missing := sorted(choice.base - set(words.labels)):
        raise UsageError(f"--base {missing[0]!r} is not one of the labels: {', '.join(words.labels[:20])}")
    if choice.weights is None and not choice.crops:
        raise UsageError("--no-crops is for --method clip, and for vild with --weights")
    if choice.weights is not None:
        return _network_vild(choice, choice.weights, words)
    source: RegionSource
    place = choice.proposals or "dense"
    if place == "dense":
        clip = load_clip(choice.model, choice.device, choice.precision, engine="torch")
        # Maps tell things from surroundings better with the long list of surroundings.
        maps = vocabulary(labels, choice.background)
        dense = ClipBoxOptions(clip=ClipOptions(dense=choice.dense, templates=choice.templates))
        source = DenseRegions(ClipDetector(clip, maps, dense))
        return VildDetector(clip, words, source, VildOptions(choice.base))
    if choice.dense != DenseOptions():
        raise UsageError("--size and --flip are for the class maps of --proposals dense")
    light = load_clip(choice.model, choice.device, choice.precision)
    if place == "selective":
        source = SelectiveSearch()
    else:
        file = Path(place)
        if not file.is_file():
            raise UsageError(f"no proposals {place!r}: give {', '.join(SOURCES)} or a JSONL file of boxes")
        source = FileRegions(file, light.embed_dim)
    return VildDetector(light, words, source, VildOptions(choice.base))


def _network_vild(choice: DetectorChoice, weights: Path, words: Vocabulary) -> VildDetector:
    """ViLD with a region network of its own, which lives in the joint space of one CLIP model."""
    from clipkit.detection.region_network import SCALE, SPACE, open_network

    if choice.proposals is not None or choice.dense != DenseOptions():
        raise UsageError("--weights brings its own proposals: leave --proposals, --size and --flip away")
    # Many models have vectors of this length, and none but this one has them in the same space.
    ref = resolve(choice.model or SPACE)
    if ref.kind in {"builtin", "pretrained"} and ref.id != SPACE:
        raise UsageError(f"the region network of --weights lives in the space of {SPACE}, not in that of {ref.id}")
    source = open_network(weights, choice.device, crops=choice.crops)
    clip = load_clip(ref.id, choice.device, choice.precision)
    if clip.embed_dim != source.embed_dim:
        raise UsageError(
            f"the regions of {weights} have vectors of {source.embed_dim} numbers, {clip.id} has {clip.embed_dim}: "
            f"name the CLIP model they were trained with, --model {SPACE} for the published ones"
        )
    options = VildOptions(
        choice.base, region_temperature=SCALE, region_background=source.background, crops=choice.crops
    )
    detector = VildDetector(clip, words, source, options)
    detector.id, detector.weights_hash = f"vild+{clip.id}", source.weights_hash
    return detector
