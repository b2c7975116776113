"""The torch engine computes what open_clip computes, from the model's own config, and refuses what would be wrong."""

import json
import shutil

import numpy as np
import pytest
import torch
from tiny import make_tiny_clip

from clipkit.errors import ModelError, ModelUnavailableError
from clipkit.models.catalog import ModelRef, resolve
from clipkit.models.locate import Located
from clipkit.models.text_tower import encode_trimmed, trimmable
from clipkit.models.torch_engine import load_torch

TEXTS = ["a cat", "a photo of a very small dog in the rain, late in the evening.", "zebra", "", "a " * 100]


def load(directory, **kwargs):
    from clipkit.models.locate import locate

    return load_torch(
        locate(resolve(f"local-dir:{directory}")), kwargs.get("device", "cpu"), kwargs.get("precision", "auto")
    )


def reference(directory):
    import open_clip

    model = open_clip.create_model(f"local-dir:{directory}", require_pretrained=True).eval()
    return model, open_clip.get_tokenizer(f"local-dir:{directory}")


@pytest.mark.parametrize("kind", ["tiny_vit", "tiny_resnet"])
def test_equal_to_open_clip(kind, request):
    """Images and texts give open_clip's embeddings, normalised or not; texts are trimmed without a trace."""
    directory = request.getfixturevalue(kind)
    ours, (theirs, tokenize) = load(directory), reference(directory)
    size = ours.preprocess.size
    pixels = np.random.default_rng(0).standard_normal((3, 3, *size)).astype(np.float32)
    with torch.no_grad():
        for normalize in (True, False):
            image = theirs.encode_image(torch.from_numpy(pixels), normalize=normalize).numpy()
            text = theirs.encode_text(tokenize(TEXTS), normalize=normalize).numpy()
            np.testing.assert_allclose(ours.encode_images(pixels, normalize=normalize), image, atol=1e-5)
            np.testing.assert_allclose(ours.encode_texts(TEXTS, normalize=normalize), text, atol=1e-5)
        assert ours.logit_scale == pytest.approx(theirs.logit_scale.exp().item())
    assert ours.logit_bias is None
    assert ours.embed_dim == image.shape[1]
    assert ours.id == f"local-dir:{directory.as_posix()}"


def test_empty_batches(tiny_vit):
    """No inputs give no rows, of the right width."""
    model = load(tiny_vit)
    assert model.encode_texts([]).shape == (0, 16)
    assert model.encode_images(np.zeros((0, 3, 32, 32), np.float32)).shape == (0, 16)


def test_batch_size_does_not_matter(tiny_vit):
    """One by one or together, each text has one embedding."""
    model = load(tiny_vit)
    texts = [f"{n} " * n for n in range(1, 30)]
    alone = np.concatenate([model.encode_texts([text]) for text in texts])
    np.testing.assert_allclose(model.encode_texts(texts), alone, atol=1e-5)


def test_frozen_and_in_eval_mode(tiny_resnet):
    """The model takes no gradient and its batch norms use their stored statistics; pixels may take a gradient."""
    model = load(tiny_resnet)
    assert not model.model.training
    assert not any(p.requires_grad for p in model.model.parameters())
    pixels = torch.rand(1, 3, 64, 64, requires_grad=True)
    model.model.encode_image(pixels).sum().backward()
    assert pixels.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("text_cfg", "custom", "expected"),
    [
        ({}, False, True),
        ({}, True, True),
        ({"proj_bias": True}, False, True),
        ({"proj_type": "none", "width": 16}, True, True),
        ({"pool_type": "last"}, True, False),
        ({"no_causal_mask": True}, True, False),
        ({"embed_cls": True}, True, False),
        ({"pool_type": "eos", "eos_id": 49407}, False, False),
    ],
    ids=str,
)
def test_only_causal_argmax_towers_are_trimmed(tmp_path, text_cfg, custom, expected):
    """Trimming is used where it cannot change the answer, and nowhere else; the answer is open_clip's either way."""
    directory = make_tiny_clip(tmp_path, text_cfg=text_cfg, model_cfg={"custom_text": custom})
    theirs, tokenize = reference(directory)
    assert trimmable(theirs) is expected
    texts = ["one", "two words and more"]
    with torch.no_grad():
        full = theirs.encode_text(tokenize(texts))
        if expected:
            np.testing.assert_allclose(encode_trimmed(theirs, tokenize(texts)[:, :7]), full, atol=1e-5)
    if not (text_cfg.get("pool_type") == "last" or text_cfg.get("embed_cls")):
        assert (full[0] - full[1]).abs().max() > 1e-3
    np.testing.assert_allclose(load(directory).encode_texts(texts, normalize=False), full, atol=1e-5)


def test_config_decides_the_preprocessing(tmp_path):
    """Mean, std, mode and size are the model's, never a default."""
    directory = make_tiny_clip(
        tmp_path,
        preprocess_cfg={"mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "bilinear", "resize_mode": "squash"},
    )
    found = load(directory).preprocess
    assert (found.size, found.mean, found.std) == ((32, 32), (0, 0, 0), (1, 1, 1))
    assert (found.interpolation, found.resize_mode) == ("bilinear", "squash")


def test_sigmoid_models_have_a_bias(tmp_path):
    """A SigLIP-like model's bias and scale come out of its weights."""
    model = load(make_tiny_clip(tmp_path, model_cfg={"init_logit_bias": -10, "init_logit_scale": 2.0}, dtype="fp32"))
    assert model.logit_bias == pytest.approx(-10)
    assert model.logit_scale == pytest.approx(np.exp(2.0), rel=1e-5)


def test_context_length_of_the_config(tmp_path):
    """A shorter context cuts texts there."""
    model = load(make_tiny_clip(tmp_path, text_cfg={"context_length": 8}))
    np.testing.assert_allclose(model.encode_texts(["a " * 6]), model.encode_texts(["a " * 60]), atol=1e-6)
    assert model.text_key.endswith("clip-bpe-8")


def test_no_weights_no_model(tiny_vit, tmp_path):
    """A config without weights is an error: open_clip alone would answer at random."""
    shutil.copy(tiny_vit / "open_clip_config.json", tmp_path)
    with pytest.raises(ModelError, match="no weights"):
        load(tmp_path)


def test_foreign_weights_are_refused(tiny_vit, tiny_resnet, tmp_path):
    """Weights of another architecture do not load halfway."""
    shutil.copy(tiny_vit / "open_clip_config.json", tmp_path)
    shutil.copy(tiny_resnet / "open_clip_model.safetensors", tmp_path)
    with pytest.raises(ModelError, match="do not fit the config"):
        load(tmp_path)


def test_damaged_weights_are_named(tiny_vit, tmp_path):
    """A truncated file is named, with the remedy."""
    shutil.copytree(tiny_vit, tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ModelError, match="models verify") as caught:
        load(tmp_path)
    assert str(weights) in str(caught.value)


def test_torchscript_is_not_run(tiny_vit, tmp_path):
    """A TorchScript or pickled program is refused, not executed."""
    shutil.copy(tiny_vit / "open_clip_config.json", tmp_path)
    import pickle

    class Program:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    with (tmp_path / "open_clip_pytorch_model.bin").open("wb") as stream:
        pickle.dump(Program(), stream)
    with pytest.raises(ModelError):
        load(tmp_path)
    assert not (tmp_path / "executed").exists()


def test_quickgelu_tags_compute_with_quickgelu(tiny_vit, tmp_path):
    """Weights that were trained with QuickGELU compute with it though the plain architecture's config does not say so."""
    import open_clip

    config = json.loads((tiny_vit / "open_clip_config.json").read_text())["model_cfg"]
    (tmp_path / "Tiny-Test.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "Tiny-Test.json")
    weights = tiny_vit / "open_clip_model.safetensors"
    right = load_torch(
        Located(ModelRef("pretrained", "Tiny-Test/x", "Tiny-Test", "x", quick_gelu=True), weights), "cpu", "auto"
    )
    plain = load_torch(Located(ModelRef("pretrained", "Tiny-Test/y", "Tiny-Test", "y"), weights), "cpu", "auto")
    quick = open_clip.create_model("Tiny-Test", str(weights), force_quick_gelu=True).eval()
    assert "QuickGELU" in {type(module).__name__ for module in right.model.modules()}
    pixels = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        expected = quick.encode_image(torch.from_numpy(pixels), normalize=True)
    np.testing.assert_allclose(right.encode_images(pixels), expected, atol=1e-5)
    assert np.abs(right.encode_images(pixels) - plain.encode_images(pixels)).max() > 1e-4


def test_contradicting_activation_is_refused(tiny_vit, tmp_path):
    """A directory whose two configs disagree about QuickGELU is refused; agreeing ones load."""
    shutil.copytree(tiny_vit, tmp_path, dirs_exist_ok=True)
    act = {"hidden_act": "quick_gelu"}
    (tmp_path / "config.json").write_text(json.dumps({"vision_config": act, "text_config": act}))
    with pytest.raises(ModelError, match="trained with QuickGELU"):
        load(tmp_path)
    config = json.loads((tmp_path / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = True
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    assert "QuickGELU" in {type(module).__name__ for module in load(tmp_path).model.modules()}


@pytest.mark.parametrize("content", ["not json", "[]", '{"model_cfg": {}}', '{"vision_cfg": {}}'])
def test_broken_configs_are_named(tmp_path, content):
    """A config that open_clip cannot use is named in one line."""
    (tmp_path / "open_clip_config.json").write_text(content)
    with pytest.raises(ModelError, match=r"open_clip_config\.json"):
        load(tmp_path)


def test_transformers_is_asked_for_by_name(tmp_path, monkeypatch):
    """A text tower that needs transformers says which extra brings it."""
    import importlib.util

    directory = make_tiny_clip(tmp_path, text_cfg={"hf_tokenizer_name": "org/tokenizer"})
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "transformers" else find(name, *a)
    )
    with pytest.raises(ModelUnavailableError, match=r"clipkit-vision\[hf\]"):
        load(directory)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_is_near(tiny_vit, precision):
    """Half precision gives nearly the same directions, float32 at the boundary, and another text key."""
    full, half = load(tiny_vit), load(tiny_vit, precision=precision)
    a, b = full.encode_texts(TEXTS), half.encode_texts(TEXTS)
    assert b.dtype == np.float32
    assert (a * b).sum(1).min() > 0.99
    assert half.text_key == f"{full.text_key}-{precision}"


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16"])
def test_cuda_agrees_with_the_cpu(tiny_vit, tiny_resnet, precision):
    """On a CUDA device each precision gives the CPU's directions, float32 at the boundary."""
    for directory in (tiny_vit, tiny_resnet):
        here, there = load(directory), load(directory, device="cuda", precision=precision)
        pixels = np.random.default_rng(0).standard_normal((4, 3, *here.preprocess.size)).astype(np.float32)
        for a, b in (
            (here.encode_images(pixels), there.encode_images(pixels)),
            (here.encode_texts(TEXTS), there.encode_texts(TEXTS)),
        ):
            assert b.dtype == np.float32
            assert (a * b).sum(1).min() > (0.9999 if precision == "fp32" else 0.99)
        assert there.device == "cuda"
        assert there.torch_device.type == "cuda"
