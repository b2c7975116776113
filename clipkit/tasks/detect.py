"""`detect`: open-vocabulary object detection, scored boxes for every image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from clipkit.detection.boxes import within
from clipkit.errors import InputError
from clipkit.media.image import DEFAULT_MAX_PIXELS, open_image
from clipkit.media.prefetch import prefetch
from clipkit.results import Failure, header
from clipkit.tasks.images import Picture

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from clipkit.detection.detector import Detector, Found
    from clipkit.media.paths import Source

TASK = "detect"
# Decoded pictures waiting for the model: a full-size photograph is tens of megabytes.
AHEAD = 2


@dataclass(frozen=True, slots=True)
class DetectOptions:
    """Which boxes are told.

    Attributes:
        min_score: boxes scored lower go; None takes the method's.
        max_detections: at most this many a picture; None takes the method's.
        nms: IoU over which the lower-scored of two boxes goes; None takes the method's, 1 keeps all.
        across: NMS does not ask for the class: one box a place.
        max_pixels: larger pictures are refused before decoding.
    """

    min_score: float | None = None
    max_detections: int | None = None
    nms: float | None = None
    across: bool = False
    max_pixels: int = DEFAULT_MAX_PIXELS


@dataclass(frozen=True, slots=True)
class Detection:
    """One box: `value` is the label's number from 1, `box` is `(x0, y0, x1, y1)` in pixels of the upright picture."""

    label: str
    value: int
    score: float
    box: tuple[float, float, float, float]

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        return {"label": self.label, "score": round(self.score, 6), "box": [round(x, 2) for x in self.box]}


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What was found in one picture, best first. `image` is the `(H, W, 3)` picture the boxes lie in."""

    path: str
    model: str
    weights: str
    image: NDArray[np.uint8] = field(repr=False)
    detections: tuple[Detection, ...] = ()

    columns: ClassVar[tuple[str, ...]] = ("path", "label", "score", "x0", "y0", "x1", "y1")

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        return header(TASK, self.path, self.model, self.weights) | {
            "detections": [detection.record() for detection in self.detections]
        }

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """One row a box; one row with empty cells where there is none."""
        if not self.detections:
            yield (self.path, *[""] * 6)
        for detection in self.detections:
            yield (self.path, detection.label, round(detection.score, 6), *(round(x, 2) for x in detection.box))


def run(
    inputs: Iterable[Source | Picture | Failure],
    options: DetectOptions,
    detector: Detector,
    *,
    workers: int | None = None,
) -> Iterator[Detections | Failure]:
    """One outcome an input, in order; each picture is decoded once.

    Args:
        inputs: where to look.
        options: which boxes are told.
        detector: who finds them.
        workers: decoding threads; 0 decodes in the calling thread, None chooses by the machine.
    """

    def pixels(item: Source | Picture | Failure) -> NDArray[np.uint8] | Failure:
        if isinstance(item, Failure):
            return item
        if isinstance(item, Picture):
            return np.asarray(item.image)
        return np.asarray(open_image(item, max_pixels=options.max_pixels))

    for item, image in prefetch(inputs, pixels, workers=workers, ahead=AHEAD):
        if isinstance(item, Failure):
            yield item.within(TASK, detector.id, detector.weights_hash)
        elif isinstance(image, InputError):
            yield Failure(item.name, image.kind, str(image)).within(TASK, detector.id, detector.weights_hash)
        elif not isinstance(image, Failure):
            try:
                yield detect(image, options, detector, path=item.name)
            except InputError as error:
                yield Failure(item.name, error.kind, str(error)).within(TASK, detector.id, detector.weights_hash)


def detect(image: NDArray[np.uint8], options: DetectOptions, detector: Detector, *, path: str = "") -> Detections:
    """Find boxes in one `(H, W, 3)` RGB image.

    Raises:
        InputError: the detector needs something for this picture that is not there (its proposals).
    """
    found = boxes(image, options, detector, path=path)
    return Detections(
        path=path,
        model=detector.id,
        weights=detector.weights_hash,
        image=image,
        detections=tuple(
            Detection(detector.labels[label], int(label) + 1, float(score), (box[0], box[1], box[2], box[3]))
            for box, score, label in zip(found.boxes.tolist(), found.scores, found.classes, strict=True)
        ),
    )


def boxes(
    image: NDArray[np.uint8],
    options: DetectOptions,
    detector: Detector,
    *,
    path: str = "",
    only: Sequence[int] | None = None,
) -> Found:
    """The arrays behind `detect`: suppressed, cut at the picture's border, best first."""
    height, width = image.shape[:2]
    found = detector.detect(image, path, only=only)
    found = found.best(detector.least if options.min_score is None else options.min_score, None)
    found = found.suppressed(detector.nms if options.nms is None else options.nms, across=options.across)
    found = found[: detector.most if options.max_detections is None else options.max_detections]
    return type(found)(within(found.boxes, width, height), np.clip(found.scores, 0.0, 1.0), found.classes)
