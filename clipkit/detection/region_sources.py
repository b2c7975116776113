"""Where ViLD's recipe looks: parts of CLIP's own maps, OpenCV's selective search, or boxes from a file."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.detection.vild import Regions
from clipkit.errors import InputError, ModelUnavailableError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from clipkit.detection.clip_boxes import ClipDetector

# Selective search grows over-proportionally with the picture.
SEARCH_SIDE = 400


class DenseRegions:
    """Parts of the class maps, with the mean of the patch features inside each box as its region feature."""

    def __init__(self, detector: ClipDetector) -> None:
        """Take the proposals of CLIP's own detector."""
        self.detector = detector

    def regions(self, image: NDArray[np.uint8], path: str) -> Regions:  # noqa: ARG002 (the picture is enough)
        """Boxes ranked as `--method clip` ranks them."""
        from clipkit.dense.features import dense_features

        height, width = image.shape[:2]
        found = self.detector.proposals(image)
        options = self.detector.options.clip.dense
        features = dense_features(
            self.detector.clip,
            image,
            method=options.method,
            size=options.size,
            window=options.window,
            stride=options.stride,
            flip=options.flip,
        )
        return Regions(found.boxes, found.scores, pool(features, found.boxes, width, height))


class SelectiveSearch:
    """Hierarchical grouping of likely parts (Uijlings et al. 2013), fast mode, as OpenCV's contrib modules have it."""

    def __init__(self) -> None:
        """Look for OpenCV's contrib modules.

        Raises:
            ModelUnavailableError: this OpenCV was built without them.
        """
        import cv2

        if not hasattr(cv2, "ximgproc"):
            raise ModelUnavailableError(
                "selective search needs OpenCV's contrib modules: pip uninstall opencv-python-headless, then "
                "pip install opencv-contrib-python-headless; or take --proposals dense or a file"
            )

    def regions(self, image: NDArray[np.uint8], path: str) -> Regions:  # noqa: ARG002 (the picture is enough)
        """Boxes in the order of the search."""
        import cv2

        contrib: Any = cv2
        height, width = image.shape[:2]
        shrink = min(1.0, SEARCH_SIDE / max(height, width))
        size = (max(round(width * shrink), 1), max(round(height * shrink), 1))
        search = contrib.ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR))
        search.switchToSelectiveSearchFast()
        found = np.asarray(search.process(), np.float64).reshape(-1, 4)
        found[:, 2:] += found[:, :2]
        found *= np.array([width / size[0], height / size[1]] * 2)
        return Regions(found, np.linspace(1, 0, len(found)))


class FileRegions:
    """Boxes from a JSONL file: `{"path": ..., "boxes": [[x0, y0, x1, y1], ...]}` a line, in pixels.

    A line may also have `scores` (objectness) and `features` (one vector a box, in the model's joint space). Records of
    `clipkit detect` read as they are. A picture is found by its path, or by its name where only one line has it.
    """

    def __init__(self, path: Path, width: int) -> None:
        """Read the file.

        Args:
            path: the JSONL file.
            width: D, the length features must have.

        Raises:
            UsageError: the file cannot be read, or a line is not as it should be.
        """
        self.file = path
        self._regions: dict[str, Regions] = {}
        names: dict[str, list[str]] = {}
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read the proposals file {path}: {error}") from error
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    name, regions = _parse(json.loads(line), width)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise UsageError(
                        f'{path}, line {number}: {error}; write {{"path": "a.jpg", "boxes": [[x0, y0, x1, y1]]}}'
                    ) from error
                if regions is not None:
                    self._regions[name] = regions
                    names.setdefault(PurePath(name).name, []).append(name)
        self._names = {short: full[0] for short, full in names.items() if len(full) == 1}

    def regions(self, image: NDArray[np.uint8], path: str) -> Regions:  # noqa: ARG002 (the file knows)
        """The line of this picture.

        Raises:
            InputError: the file has no line for it.
        """
        known = self._regions.get(path, self._regions.get(self._names.get(PurePath(path).name, "")))
        if known is None:
            raise InputError("no_proposals", f"{self.file} has no line for this picture")
        return known


def pool(features: NDArray[np.float32], boxes: NDArray[Any], width: int, height: int) -> NDArray[np.float32]:
    """Mean patch feature in each box, normalised: `(h, w, D)` and `(N, 4)` pixels -> `(N, D)`; one cell at least."""
    rows, columns = features.shape[:2]
    step = np.array([columns / width, rows / height] * 2)
    cells = np.asarray(boxes, np.float64) * step
    low = np.minimum(np.floor(cells[:, :2]), (columns - 1, rows - 1)).astype(int)
    high = np.maximum(np.ceil(cells[:, 2:]).astype(int), low + 1)
    pooled = (
        np.stack([features[y0:y1, x0:x1].mean(axis=(0, 1)) for (x0, y0), (x1, y1) in zip(low, high, strict=True)])
        if len(cells)
        else np.zeros((0, features.shape[2]), np.float32)
    )
    norm = np.linalg.norm(pooled, axis=1, keepdims=True)
    return np.asarray(pooled / np.maximum(norm, np.finfo(np.float32).tiny), np.float32)


def _parse(record: dict[str, Any], width: int) -> tuple[str, Regions | None]:
    if "error" in record:
        return "", None
    if "detections" in record:
        boxes = [found["box"] for found in record["detections"]]
        scores: Any = [found["score"] for found in record["detections"]]
        features = None
    else:
        boxes, scores, features = record["boxes"], record.get("scores"), record.get("features")
    array = np.array(boxes, np.float64).reshape(len(boxes), 4)
    rank = np.linspace(1, 0, len(array)) if scores is None else np.array(scores, np.float64)
    if rank.shape != (len(array),):
        raise ValueError(f"{len(array)} boxes but {rank.size} scores")
    vectors = None
    if features is not None:
        vectors = np.array(features, np.float32)
        if vectors.shape != (len(array), width):
            raise ValueError(f"features of shape {vectors.shape}, not ({len(array)}, {width})")
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    if not np.isfinite(array).all() or not np.isfinite(rank).all():
        raise ValueError("a box or score is not a finite number")
    return str(record["path"]), Regions(array, rank, vectors)
