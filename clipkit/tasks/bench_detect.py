"""`bench detect`: COCO's average precision and recall, and CorLoc, of `detect` on pictures with reference boxes."""

from __future__ import annotations

import contextlib
import importlib
import io
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from clipkit.detection.boxes import iou
from clipkit.errors import InputError, ModelUnavailableError
from clipkit.media.image import open_image
from clipkit.media.prefetch import prefetch
from clipkit.results import Failure, header
from clipkit.tasks.detect import AHEAD, DetectOptions, boxes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from clipkit.detection.detector import Detector, Found
    from clipkit.tasks.detect_truth import Boxes, Truth

TASK = "bench detect"
# The same classes under two names: (COCO's reader, COCO's evaluation).
EVALUATORS = (
    ("faster_coco_eval", "COCO", "COCOeval_faster"),
    ("pycocotools", "coco.COCO", "cocoeval.COCOeval"),
)


@dataclass(frozen=True, slots=True)
class ClassPrecision:
    """COCO figures of one class with `count` reference boxes, shares in [0, 1]; `corloc` over the pictures that show it."""

    label: str
    count: int
    ap: float
    ap50: float
    ar: float
    corloc: float

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        figures = {name: round(getattr(self, name), 6) for name in ("ap", "ap50", "ar", "corloc")}
        return {"label": self.label, "count": self.count} | figures


@dataclass(frozen=True, slots=True)
class DetectionScore:
    """What `bench detect` measures over `count` pictures; means over the classes that have reference boxes.

    `ap` is COCO's mean over IoU .50 to .95, `ap50` at .50, `ar` the recall of 100 boxes a picture. `corloc`: each
    picture is asked for each class it shows, and the share of answers whose best box has IoU .5 or more with one of
    that class (Deselaers et al. 2012), over all such pairs.
    """

    path: str
    model: str
    weights: str
    ap: float
    ap50: float
    ar: float
    corloc: float
    per_class: tuple[ClassPrecision, ...]
    count: int
    per_second: float

    columns: ClassVar[tuple[str, ...]] = ("path", "label", "count", "ap", "ap50", "ar", "corloc")

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        return header(TASK, self.path, self.model, self.weights) | {
            "ap": round(self.ap, 6),
            "ap50": round(self.ap50, 6),
            "ar": round(self.ar, 6),
            "corloc": round(self.corloc, 6),
            "per_class": [c.record() for c in self.per_class],
            "count": self.count,
            "per_second": round(self.per_second, 2),
        }

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """One row a class, then one over all."""
        for c in self.per_class:
            yield (self.path, c.label, c.count, *(round(x, 4) for x in (c.ap, c.ap50, c.ar, c.corloc)))
        total = sum(c.count for c in self.per_class)
        yield (self.path, "all", total, *(round(x, 4) for x in (self.ap, self.ap50, self.ar, self.corloc)))


def run(
    truth: Truth, options: DetectOptions, detector: Detector, *, path: str = ""
) -> Iterator[DetectionScore | Failure]:
    """A failure for each picture that cannot be used, then the score over all others.

    Args:
        truth: pictures and reference boxes, from `read_truth`.
        options: which boxes count; without a `min_score` all do, as COCO's measure wants.
        detector: who answers, with the truth's labels.
        path: the data set's name in the record.

    Raises:
        ModelUnavailableError: neither pycocotools nor faster-coco-eval is installed.
    """
    evaluators()
    options = replace(options, min_score=options.min_score or 0.0)
    answers: list[Found] = []
    references: list[Boxes] = []
    hits: list[tuple[int, bool]] = []
    seconds = 0.0

    def read(number: int) -> tuple[NDArray[np.uint8], Boxes]:
        picture = truth.pictures[number]
        if picture is None:
            raise InputError("no_image", "its picture is not there")
        image = np.asarray(open_image(picture, max_pixels=options.max_pixels))
        return image, truth.boxes(number, image.shape[1], image.shape[0])

    for number, outcome in prefetch(range(len(truth.pictures)), read, ahead=AHEAD):
        if isinstance(outcome, InputError):
            failure = Failure(truth.names[number], outcome.kind, str(outcome))
            yield failure.within(TASK, detector.id, detector.weights_hash)
            continue
        image, reference = outcome
        name = str(truth.pictures[number])
        start = time.perf_counter()
        answers.append(boxes(image, options, detector, path=name))
        seconds += time.perf_counter() - start
        references.append(reference)
        hits += located(image, reference, detector, name)
    if answers:
        labels = [label.name for label in truth.labels]
        yield replace(
            score(references, answers, hits, labels),
            path=path,
            model=detector.id,
            weights=detector.weights_hash,
            per_second=len(answers) / max(seconds, 1e-9),
        )


def located(image: NDArray[np.uint8], reference: Boxes, detector: Detector, path: str) -> list[tuple[int, bool]]:
    """For each class the picture shows: whether the best box of that class, when asked for, lies on one of them."""
    single = ~reference.crowd
    present = np.unique(reference.classes[single])
    if not len(present):
        return []
    found = detector.detect(image, path, only=present.tolist()).best(0.0, None)
    answers = []
    for value in present:
        best = found.boxes[found.classes == value][:1]
        shown = reference.boxes[single & (reference.classes == value)]
        answers.append((int(value), bool(len(best)) and bool(iou(best, shown).max() >= 0.5)))
    return answers


def score(
    references: Sequence[Boxes],
    answers: Sequence[Found],
    hits: Sequence[tuple[int, bool]],
    labels: Sequence[str],
) -> DetectionScore:
    """COCO's figures from arrays, with CorLoc from pairs of class and hit; classes without reference boxes are left out."""
    reader, evaluation = evaluators()
    images = [{"id": i} for i in range(1, len(references) + 1)]
    annotations: list[dict[str, Any]] = [
        {"image_id": i, "category_id": int(value) + 1, "bbox": _xywh(box), "area": _area(box), "iscrowd": int(crowd)}
        for i, reference in enumerate(references, 1)
        for box, value, crowd in zip(reference.boxes, reference.classes, reference.crowd, strict=True)
    ]
    results: list[dict[str, Any]] = [
        {"image_id": i, "category_id": int(value) + 1, "bbox": _xywh(box), "area": _area(box), "score": float(s)}
        for i, found in enumerate(answers, 1)
        for box, s, value in zip(found.boxes, found.scores, found.classes, strict=True)
    ]
    counts = np.bincount([int(a["category_id"]) - 1 for a in annotations if not a["iscrowd"]], minlength=len(labels))
    precision, recall = _evaluate(reader, evaluation, images, annotations, results, len(labels))
    per_class = []
    for value in np.flatnonzero(counts).tolist():
        of_class = [hit for label, hit in hits if label == value]
        per_class.append(
            ClassPrecision(
                labels[value],
                int(counts[value]),
                _mean(precision[:, :, value]),
                _mean(precision[0, :, value]),
                _mean(recall[:, value]),
                float(np.mean(of_class)) if of_class else 0.0,
            )
        )
    return DetectionScore(
        path="",
        model="",
        weights="",
        ap=_mean(np.array([c.ap for c in per_class])),
        ap50=_mean(np.array([c.ap50 for c in per_class])),
        ar=_mean(np.array([c.ar for c in per_class])),
        corloc=float(np.mean([hit for _, hit in hits])) if hits else 0.0,
        per_class=tuple(per_class),
        count=len(references),
        per_second=0.0,
    )


def evaluators() -> tuple[Any, Any]:
    """COCO's reader and evaluation, from faster-coco-eval or pycocotools.

    Raises:
        ModelUnavailableError: neither is installed.
    """
    for package, reader, evaluation in EVALUATORS:
        with contextlib.suppress(ImportError):
            return _attribute(package, reader), _attribute(package, evaluation)
    raise ModelUnavailableError("bench detect needs an evaluation package: pip install pycocotools")


def _attribute(package: str, dotted: str) -> Any:
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(f"{package}.{module}" if module else package), name)


def _evaluate(
    reader: Any,
    evaluation: Any,
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    results: list[dict[str, Any]],
    classes: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision `(10 IoUs, 101 recalls, C)` and recall `(10, C)` at 100 boxes a picture; -1 where not defined."""
    categories = [{"id": value} for value in range(1, classes + 1)]
    with contextlib.redirect_stdout(io.StringIO()):  # both packages report to stdout, which holds results only
        sides = []
        for rows in (annotations, results):
            side = reader()
            numbered = [{"id": i, "iscrowd": 0, **row} for i, row in enumerate(rows, 1)]
            side.dataset = {"images": images, "categories": categories, "annotations": numbered}
            side.createIndex()
            sides.append(side)
        judge = evaluation(sides[0], sides[1], "bbox")
        judge.evaluate()
        judge.accumulate()
    # Axes: IoU, recall, class, size of object (the first is all), boxes a picture (the last is 100).
    return np.asarray(judge.eval["precision"][:, :, :, 0, -1]), np.asarray(judge.eval["recall"][:, :, 0, -1])


def _mean(values: NDArray[np.float64]) -> float:
    kept = values[values >= 0]
    return float(kept.mean()) if kept.size else 0.0


def _xywh(box: NDArray[Any]) -> list[float]:
    x0, y0, x1, y1 = (float(x) for x in box)
    return [x0, y0, x1 - x0, y1 - y0]


def _area(box: NDArray[Any]) -> float:
    x0, y0, x1, y1 = (float(x) for x in box)
    return (x1 - x0) * (y1 - y0)
