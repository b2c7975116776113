"""A Clip without weights: embeddings are known functions of the input, so tests can compute answers by hand."""

import hashlib

import numpy as np

from clipkit.models.clip import Preprocess


class FakeClip:
    """Texts hash to vectors; an image embeds as the vector of the word whose colour it has."""

    id = "fake"
    weights_hash = "0" * 12
    text_key = "fake-1"
    device = "cpu"
    engine = "onnx"

    def __init__(self, dim=16, logit_scale=20.0, logit_bias=None, size=8):
        self.embed_dim = dim
        self.logit_scale = logit_scale
        self.logit_bias = logit_bias
        self.preprocess = Preprocess((size, size), (0.0,) * 3, (1.0,) * 3)
        self.texts_encoded = 0
        self.images_encoded = 0
        self.colours = {}  # (r, g, b) -> text

    def encode_texts(self, texts, *, normalize=True):
        self.texts_encoded += len(texts)
        return self._unit(np.stack([self.vector(text) for text in texts]), normalize)

    def encode_images(self, pixels, *, normalize=True):
        self.images_encoded += len(pixels)
        rows = []
        for image in pixels:
            colour = tuple(int(c) for c in np.round(image.mean(axis=(1, 2)) * 255))
            nearest = min(self.colours, key=lambda c: sum((a - b) ** 2 for a, b in zip(c, colour, strict=True)))
            rows.append(self.vector(self.colours[nearest]))
        return self._unit(np.stack(rows), normalize)

    def vector(self, text):
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        return np.random.default_rng(seed).normal(size=self.embed_dim).astype(np.float32)

    @staticmethod
    def _unit(vectors, normalize):
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True) if normalize else vectors
