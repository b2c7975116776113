"""GroupViT by its authors' pipeline over transformers' towers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from dense_seeds import seeded_picture, seeded_state

from clipkit.dense.decide import decide
from clipkit.dense.features import DenseOptions
from clipkit.dense.vocabulary import vocabulary
from clipkit.errors import ModelError, ModelUnavailableError
from clipkit.models import groupvit
from clipkit.prompts.labels import load_labels

transformers = pytest.importorskip("transformers")
GOLDEN = np.load(Path(__file__).parent / "golden" / "groupvit.npz")
VISION = {
    "hidden_size": 64, "depths": [2, 1, 1], "num_hidden_layers": 4, "num_group_tokens": [16, 4, 0],
    "num_output_groups": [16, 4, 0], "num_attention_heads": 2, "intermediate_size": 256, "image_size": 224,
}  # fmt: skip
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


def tiny_model():
    """The model the golden tensors were made with, but for the text tower, which they leave out."""
    config = transformers.GroupViTConfig(
        vision_config=VISION, text_config=TEXT, projection_dim=16, projection_intermediate_dim=32
    )
    model = transformers.GroupViTModel(config).eval()
    state = seeded_state({k: tuple(v.shape) for k, v in model.state_dict().items() if v.is_floating_point()})
    state["logit_scale"] = torch.tensor(3.0)
    model.load_state_dict(state, strict=False)
    return model


@pytest.fixture(scope="module")
def model():
    """One tiny model for the module."""
    return tiny_model()


def words(background):
    return vocabulary(load_labels("a,b,c,d,e,f,g"), background)


@pytest.mark.parametrize(
    ("name", "size", "background", "limit", "step"),
    [
        ("bg_224", (224, 224), "wall", 0.85, 4),
        ("plain_448x608", (448, 608), "", 0.95, 8),
        ("bg_224x320", (224, 320), "wall", 0.95, 4),
    ],
)
def test_decoding_equals_the_authors_code(model, name, size, background, limit, step):
    """Towers, soft maps of both stages, top-5 gate and background agree with NVlabs' evaluation to 1e-4."""
    pipeline = groupvit.GroupVit(model, words(background), DenseOptions(), digest="0" * 12)
    pipeline.text = torch.from_numpy(GOLDEN["text"])
    with torch.inference_mode():
        scores = pipeline._window(torch.from_numpy(seeded_picture(*size, seed=sum(size)))[None], limit)
    np.testing.assert_allclose(scores[:, ::step, ::step].numpy(), GOLDEN[name], atol=1e-4)


def test_the_gate_keeps_five_classes():
    """Classes that are not among the image's five likeliest score zero everywhere."""
    generator = torch.Generator().manual_seed(0)
    unit = torch.nn.functional.normalize(torch.randn(20, 8, generator=generator), dim=-1)
    tokens, mean, text = unit[:4], unit[4], unit[5:]
    maps = groupvit.decode(
        torch.rand(4, 3, 3, generator=generator), tokens, mean, text, scale=10.0, size=(6, 6), background=None
    )
    seen = maps.amax(dim=(1, 2)) > 0
    assert set(seen.nonzero().flatten().tolist()) == set((mean @ text.T).topk(5).indices.tolist())


def test_assignment_is_the_product_of_the_stages():
    """Patch to group through both stages, written as the sum over first-stage groups."""
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(1, 5, 6, generator=generator).softmax(dim=1)
    second = torch.rand(1, 2, 5, generator=generator).softmax(dim=1)
    maps = groupvit.assignment((first, second), (2, 3))
    for patch in range(6):
        for group in range(2):
            expected = sum(float(first[0, g, patch]) * float(second[0, group, g]) for g in range(5))
            assert float(maps[group, patch // 3, patch % 3]) == pytest.approx(expected, abs=1e-6)


def test_a_folder_segments_a_photo(tmp_path, model):
    """Saved weights load by name; windows slide over a wide photo; labels out are among the labels in."""
    model.save_pretrained(tmp_path)
    pipeline = groupvit.load(words(None), tmp_path, DenseOptions(size=64, window=64, stride=32), "cpu")
    photo = np.random.default_rng(0).integers(0, 255, (60, 130, 3), dtype=np.uint8)
    mask, regions = decide(pipeline.maps(photo, 0.3), (60, 130))
    assert mask.shape == (60, 130)
    assert {region.value for region in regions} <= set(range(1, 8))
    assert len(pipeline.weights_hash) == 12


def test_missing_weights_say_what_to_run():
    """Without weights in the hub's cache the error names the command that fetches them."""
    with pytest.raises(ModelUnavailableError, match="hf download nvidia/groupvit-gcc-yfcc"):
        groupvit.load(words(None), None, DenseOptions(), "cpu")


def test_a_missing_extra_says_what_to_install(monkeypatch):
    """Without transformers the error names the extra."""
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelUnavailableError, match=r"pip install 'clipkit-vision\[hf\]'"):
        groupvit.load(words(None), None, DenseOptions(), "cpu")


def test_weights_of_another_model_are_refused(tmp_path):
    """A folder whose weights lack the model's names is an error, not a model of random numbers."""
    text = transformers.CLIPTextConfig(**TEXT)
    transformers.CLIPTextModel(text).save_pretrained(tmp_path)
    transformers.GroupViTConfig(vision_config=VISION, text_config=TEXT).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="lacks weights|does not load"):
        groupvit.load(words(None), tmp_path, DenseOptions(), "cpu")
