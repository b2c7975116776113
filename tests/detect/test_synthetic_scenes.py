"""Known shapes pasted on photographs: how many are found, by method, with the built-in model."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from clipkit.detection.boxes import iou
from clipkit.detection.opening import DetectorChoice, open_detector
from clipkit.prompts.labels import load_labels
from clipkit.tasks.detect import DetectOptions, boxes

LABELS = "red circle,blue square,green triangle,yellow star"
COLOURS = ((215, 25, 30), (30, 70, 210), (30, 160, 60), (245, 215, 40))


def scene(seed):
    """A blurred photograph with one or two shapes: the picture, boxes `(N, 4)`, label indices."""
    data = pytest.importorskip("skimage.data")
    draw = np.random.default_rng(seed)
    photo = Image.fromarray((data.astronaut, data.coffee, data.chelsea)[seed % 3]()).resize((360, 300))
    pen = ImageDraw.Draw(photo)
    truth, labels = [], []
    for side in range(draw.integers(1, 3)):
        size = int(draw.integers(60, 130))
        x0, y0 = int(draw.integers(0, 180 - size)) + 180 * side, int(draw.integers(0, 300 - size))
        label = int(draw.integers(0, 4))
        box = (x0, y0, x0 + size, y0 + size)
        if label == 0:
            pen.ellipse(box, fill=COLOURS[0])
        elif label == 1:
            pen.rectangle(box, fill=COLOURS[1])
        elif label == 2:
            pen.polygon([(x0 + size / 2, y0), (x0, y0 + size), (x0 + size, y0 + size)], fill=COLOURS[2])
        else:
            angles = np.linspace(0, 2 * np.pi, 11)[:-1] - np.pi / 2
            reach = np.where(np.arange(10) % 2, 0.2, 0.5) * size
            star = np.stack([x0 + size / 2 + reach * np.cos(angles), y0 + size / 2 + reach * np.sin(angles)], 1)
            pen.polygon([tuple(point) for point in star], fill=COLOURS[3])
            box = (star[:, 0].min(), star[:, 1].min(), star[:, 0].max(), star[:, 1].max())
        truth.append(box)
        labels.append(label)
    return np.asarray(photo), np.array(truth, float), np.array(labels)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["clip", "vild"])
def test_recall_of_pasted_shapes(method, record_property):
    """Boxes stay in the picture and scores in [0, 1]; the recall at IoU .5, with and without the label, is reported."""
    detector = open_detector(DetectorChoice(method=method, device="cpu"), load_labels(LABELS))
    named = placed = total = 0
    for seed in range(24):
        image, truth, labels = scene(seed)
        found = boxes(image, DetectOptions(min_score=0.0, max_detections=20), detector)
        height, width = image.shape[:2]
        assert (found.boxes >= 0).all() and (found.boxes <= [width, height, width, height]).all()
        assert ((found.scores >= 0) & (found.scores <= 1)).all()
        hit = iou(truth, found.boxes) >= 0.5
        placed += int(hit.any(axis=1).sum())
        named += int((hit & (labels[:, None] == found.classes[None])).any(axis=1).sum())
        total += len(truth)
    record_property("recall", named / total)
    record_property("recall_any_label", placed / total)
    print(f"{method}: recall {named / total:.3f}, of any label {placed / total:.3f}, {total} shapes")
    assert 0 < placed <= total
