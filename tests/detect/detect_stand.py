"""Stand-ins for detection: a model whose answers are known, and a scene of flat shapes."""

import numpy as np

from clipkit.detection.detector import Found
from clipkit.models.clip import Preprocess

RED, BLUE, GREY = (220, 30, 30), (30, 60, 220), (128, 128, 128)


class ColourClip:
    """Pictures embed as their share of red, blue and neither; texts as the colour they name."""

    id = "colours"
    weights_hash = "0" * 12
    text_key = "colours"
    device = "cpu"
    engine = "onnx"
    embed_dim = 3
    logit_scale = 20.0
    logit_bias = None
    preprocess = Preprocess((8, 8), (0.0,) * 3, (1.0,) * 3)

    def encode_texts(self, texts, *, normalize=True):
        rows = [
            [float("red" in text), float("blue" in text), 0.5 * ("red" not in text and "blue" not in text)]
            for text in texts
        ]
        return self._unit(np.array(rows, np.float32))

    def encode_images(self, pixels, *, normalize=True):
        self.batches = [*getattr(self, "batches", []), len(pixels)]
        red, _, blue = pixels.transpose(1, 0, 2, 3)
        reddish, bluish = red - blue > 0.3, blue - red > 0.3
        shares = [reddish.mean((1, 2)), bluish.mean((1, 2)), (~reddish & ~bluish).mean((1, 2))]
        return self._unit(np.stack(shares, axis=1).astype(np.float32))

    @staticmethod
    def _unit(rows):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class FixedDetector:
    """Always the same boxes."""

    id = "fixed"
    weights_hash = "1" * 12
    nms = 0.5
    least = 0.1
    most = 100

    def __init__(self, labels, boxes, scores, classes):
        self.labels = tuple(labels)
        self.found = Found(np.array(boxes, float).reshape(-1, 4), np.array(scores, float), np.array(classes, np.intp))

    def detect(self, image, path="", *, only=None):
        return self.found if only is None else self.found[np.isin(self.found.classes, only)]


def scene(height=120, width=160):
    """Grey, with a red box at (20, 30, 60, 80) and a blue one at (100, 20, 140, 60)."""
    image = np.full((height, width, 3), GREY, np.uint8)
    image[30:80, 20:60] = RED
    image[20:60, 100:140] = BLUE
    return image


def random_boxes(seed, count, width=100, height=80):
    """Boxes of positive area."""
    draw = np.random.default_rng(seed)
    low = draw.uniform(0, 0.8, (count, 2)) * (width, height)
    return np.concatenate([low, low + draw.uniform(5, 40, (count, 2))], axis=1)
