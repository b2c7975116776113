"""Text ensemble and folder throughput beside the plain open_clip code for the same job on the same model."""

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clipkit
from clipkit.media.paths import expand
from clipkit.models.loader import load_clip
from clipkit.prompts.cache import VectorCache
from clipkit.prompts.ensemble import class_vectors
from clipkit.prompts.labels import load_labels
from clipkit.prompts.templates import load_templates
from clipkit.tasks.images import ImageOptions, embed_images

BUILTIN = Path(clipkit.__file__).parent / "models" / "builtin"


@pytest.fixture(scope="module")
def plain():
    """The built-in model loaded by open_clip itself."""
    open_clip = pytest.importorskip("open_clip")
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{BUILTIN}")
    return open_clip, model.eval(), preprocess, open_clip.get_tokenizer(f"local-dir:{BUILTIN}")


def test_text_ensemble(side_by_side, plain, tmp_path):
    """80 templates x 1000 labels beside open_clip's builder (bar: 4 times as fast), and the cached second run."""
    open_clip, model, _, tokenizer = plain
    clip, engine = load_clip("builtin", "cpu"), load_clip("builtin", "cpu", engine="torch")
    labels, templates = load_labels("imagenet"), load_templates("imagenet")
    names = [label.name for label in labels]
    cache = VectorCache(tmp_path)
    class_vectors(clip, labels, templates, cache=cache)
    side_by_side(
        "text ensemble, 80 x 1000",
        rounds=1,
        clipkit_cached=lambda: class_vectors(clip, labels, templates, cache=cache),
        clipkit_onnx=lambda: class_vectors(clip, labels, templates, cache=VectorCache(None)),
        clipkit_torch=lambda: class_vectors(engine, labels, templates, cache=VectorCache(None)),
        open_clip=lambda: open_clip.build_zero_shot_classifier(model, tokenizer, names, templates),
    )


def test_folder_throughput(side_by_side, plain, tmp_path):
    """A folder of 12-megapixel JPEGs beside the plain open_clip loop (bar: 4 times as fast)."""
    _, model, preprocess, _ = plain
    noise = random.Random(0)
    for i in range(24):
        small = np.frombuffer(noise.randbytes(60 * 80 * 3), np.uint8).reshape(60, 80, 3)
        Image.fromarray(small).resize((4000, 3000), Image.Resampling.BICUBIC).save(tmp_path / f"{i:02}.jpg", quality=90)
    paths = sorted(tmp_path.glob("*.jpg"))
    clip = load_clip("builtin", "cpu")

    def loop():
        import torch

        with torch.no_grad():
            for path in paths:
                model.encode_image(preprocess(Image.open(path)).unsqueeze(0), normalize=True)

    def ours(decode):
        return lambda: list(embed_images(expand([str(tmp_path)]), clip, ImageOptions(decode=decode)))

    side_by_side(
        "folder of 24 12-megapixel JPEGs",
        rounds=2,
        clipkit_fast=ours("fast"),
        clipkit_exact=ours("exact"),
        open_clip_loop=loop,
    )
