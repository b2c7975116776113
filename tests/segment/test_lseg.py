"""LSeg over transformers' DPT, read from checkpoints in the authors' layout."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from dense_seeds import seeded_picture, seeded_state

from clipkit.dense.decide import decide
from clipkit.dense.features import DenseOptions
from clipkit.dense.vocabulary import vocabulary
from clipkit.errors import ModelError, ModelUnavailableError
from clipkit.models import lseg, lseg_checkpoint
from clipkit.prompts.labels import load_labels

pytest.importorskip("transformers")
FOLDER = Path(__file__).parent / "golden"
GOLDEN = np.load(FOLDER / "lseg.npz")
LABELS = ["cat", "dog", "a traffic light"]


@pytest.fixture(scope="module")
def checkpoint():
    """A tiny checkpoint in the authors' layout: the names and shapes of their own module, seeded values."""
    shapes = json.loads((FOLDER / "lseg_shapes.json").read_text())
    return seeded_state({name: tuple(shape) for name, shape in shapes.items()})


@pytest.fixture(scope="module")
def parts(checkpoint):
    """The network and the text encoder."""
    net, encode = lseg_checkpoint.build(checkpoint)
    return net.eval(), encode


def test_text_equals_the_authors_clip(parts):
    """The text tower inside the checkpoint gives the authors' unit vectors."""
    np.testing.assert_allclose(parts[1](LABELS).numpy(), GOLDEN["text"], atol=1e-5)


@pytest.mark.parametrize(("name", "size", "seed"), [("logits_64", (64, 64), 3), ("logits_64x96", (64, 96), 4)])
def test_logits_equal_the_authors_code(parts, name, size, seed):
    """Logits in float32 agree with isl-org/lang-seg to 1e-4, at the trained size and on a wide image."""
    net, encode = parts
    with torch.inference_mode():
        logits = net.logits(torch.from_numpy(seeded_picture(*size, seed=seed))[None], encode(LABELS))[0]
    np.testing.assert_allclose(logits[:, ::2, ::2].numpy(), GOLDEN[name], atol=1e-4)


def test_evaluation_equals_the_authors_code(parts):
    """Four scales with mirror images, windows and padding, agree with the authors' evaluator to 1e-4."""
    net, encode = parts
    text = encode(LABELS)
    picture = torch.from_numpy(seeded_picture(70, 110, seed=5))[None].clamp(-1, 1)
    with torch.inference_mode():
        found = lseg.evaluate(picture, lambda x: net.logits(x, text), (70, 110), [50, 75, 100, 125], flip=True, crop=64)
    np.testing.assert_allclose(found[:, ::2, ::2].numpy(), GOLDEN["evaluate"], atol=1e-4)


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_a_checkpoint_file_segments_a_photo(tmp_path, checkpoint, suffix):
    """A Lightning file and a safetensors file both load; labels out are among the labels in."""
    path = tmp_path / f"lseg{suffix}"
    named = {f"net.{name}": value.contiguous() for name, value in checkpoint.items()}
    if suffix == ".ckpt":
        torch.save({"state_dict": named, "epoch": 3}, path)
    else:
        from safetensors.torch import save_file

        save_file(named, path)
    words = vocabulary(load_labels("cat,dog"), "")
    model = lseg.load(words, path, DenseOptions(size=64), "cpu")
    photo = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    mask, regions = decide(model.maps(photo), (30, 40))
    assert mask.shape == (30, 40)
    assert {region.value for region in regions} <= {1, 2}
    assert len(model.weights_hash) == 12


class Intruder:
    """An object whose unpickling would run code."""

    def __reduce__(self):
        return print, ("code ran",)


def test_an_unsafe_pickle_is_refused(tmp_path, checkpoint, capsys):
    """A pickle that would run code is refused with a remedy, and its code does not run."""
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": dict(list(checkpoint.items())[:2]), "hyper_parameters": Intruder()}, path)
    with pytest.raises(ModelError, match="could run code.*safetensors"):
        lseg_checkpoint.read(path)
    assert "code ran" not in capsys.readouterr().out


def test_bad_checkpoints_say_what_is_wrong(tmp_path, checkpoint):
    """A missing file, another model's file, a missing tensor and a foreign tensor each give one clear error."""
    with pytest.raises(ModelError, match="no such file"):
        lseg_checkpoint.read(tmp_path / "none.ckpt")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="no LSeg checkpoint"):
        lseg_checkpoint.read(tmp_path / "other.pth")
    with pytest.raises(ModelError, match="missing"):
        lseg_checkpoint.build({k: v for k, v in checkpoint.items() if k != "scratch.layer2_rn.weight"})
    with pytest.raises(ModelError, match="scratch.surprise"):
        lseg_checkpoint.build(checkpoint | {"scratch.surprise": torch.zeros(1)})


def test_without_weights_the_error_says_where_they_are():
    """LSeg's weights are not on the hub; the error names the file to download and the option."""
    with pytest.raises(ModelUnavailableError, match="--weights FILE"):
        lseg.load(vocabulary(load_labels("cat")), None, DenseOptions(), "cpu")


def test_the_published_layout_is_vit_large():
    """The published sizes give hooks 5, 11, 17, 23 and the reassembly factors 4, 2, 1, 1/2."""
    state = {
        "pretrained.model.pos_embed": torch.zeros(1, 577, 1024),
        "pretrained.model.patch_embed.proj.weight": torch.zeros(1024, 3, 16, 16),
        "pretrained.model.blocks.0.mlp.fc1.weight": torch.zeros(4096, 1),
        "pretrained.model.blocks.23.norm1.weight": torch.zeros(1024),
        "scratch.layer1_rn.weight": torch.zeros(256, 256, 3, 3),
    }
    for level, (width, kernel) in enumerate([(256, 4), (512, 2), (1024, None), (1024, 3)], 1):
        state[f"pretrained.act_postprocess{level}.3.weight"] = torch.zeros(width, 1, 1, 1)
        if kernel:
            state[f"pretrained.act_postprocess{level}.4.weight"] = torch.zeros(1, 1, kernel, kernel)
    config = lseg_checkpoint.dpt_config(state)
    assert (config.num_hidden_layers, config.num_attention_heads, config.image_size) == (24, 16, 384)
    assert config.reassemble_factors == [4, 2, 1, 0.5]
    assert lseg_checkpoint.hooks(config.num_hidden_layers) == (5, 11, 17, 23)
