"""CLIPSeg through transformers, each picture encoded once."""

import numpy as np
import pytest
import torch
from dense_seeds import seeded_state

from clipkit.dense.decide import decide
from clipkit.dense.features import DenseOptions
from clipkit.dense.vocabulary import vocabulary
from clipkit.errors import ModelError, ModelUnavailableError
from clipkit.models import clipseg
from clipkit.models.tokenizer import ClipTokenizer
from clipkit.prompts.labels import load_labels

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def model():
    """A tiny CLIPSeg with seeded weights."""
    config = transformers.CLIPSegConfig(
        text_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
        vision_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
            "image_size": 64, "patch_size": 16,
        },
        projection_dim=16,
        extract_layers=[0, 1, 2],
        reduce_dim=8,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )  # fmt: skip
    model = transformers.CLIPSegForImageSegmentation(config).eval()
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items() if v.is_floating_point()}
    model.load_state_dict(seeded_state(shapes), strict=False)
    return model


def test_logits_equal_transformers_own_forward(model):
    """Encoding the picture once and decoding label by label gives what transformers' forward gives for each label."""
    words = vocabulary(load_labels("cat,dog|puppy"), "")
    pipeline = clipseg.ClipSeg(model, words, DenseOptions(size=64), digest="0" * 12)
    photo = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    found = pipeline.maps(photo).values
    pixels = torch.from_numpy(pipeline.preprocess.normalize(photo[None]))
    tokens = torch.from_numpy(ClipTokenizer(77)(["cat", "dog", "puppy"]))
    with torch.inference_mode():
        expected = model(input_ids=tokens, pixel_values=pixels.expand(3, -1, -1, -1)).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert float(expected.std()) > 0.01


def test_one_label_keeps_its_map(model):
    """A single label has a map of its own, though the decoder drops the batch dimension of one."""
    pipeline = clipseg.ClipSeg(model, vocabulary(load_labels("cat")), DenseOptions(size=64), digest="0" * 12)
    assert pipeline.maps(np.zeros((10, 20, 3), np.uint8)).values.shape == (1, 64, 64)


def test_a_folder_segments_a_photo(tmp_path, model):
    """Saved weights load by name; pixels that no label claims are background; labels out are among the labels in."""
    model.save_pretrained(tmp_path)
    pipeline = clipseg.load(vocabulary(load_labels("cat,dog")), tmp_path, DenseOptions(size=64, flip=True), "cpu")
    photo = np.random.default_rng(0).integers(0, 255, (30, 50, 3), dtype=np.uint8)
    mask, _ = decide(pipeline.maps(photo, threshold=1.0), (30, 50))
    assert not mask.any()
    mask, regions = decide(pipeline.maps(photo, threshold=0.0), (30, 50))
    assert mask.all()
    assert {region.value for region in regions} <= {1, 2}


def test_missing_weights_say_what_to_run(tmp_path):
    """No cached weights, and a folder without them, each give one line with the remedy."""
    words = vocabulary(load_labels("cat"))
    with pytest.raises(ModelUnavailableError, match="hf download CIDAS/clipseg-rd64-refined"):
        clipseg.load(words, None, DenseOptions(), "cpu")
    with pytest.raises(ModelError, match=r"config\.json"):
        clipseg.load(words, tmp_path, DenseOptions(), "cpu")
