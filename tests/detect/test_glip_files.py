"""What GLIP's loader takes and what it refuses: checkpoints and tokenizers."""

import pytest
import torch

tokenizers = pytest.importorskip("tokenizers")

from glip_tiny import checkpoint, make_glip, words  # noqa: E402

from clipkit.errors import ModelError, ModelUnavailableError  # noqa: E402
from clipkit.models import glip, glip_checkpoint  # noqa: E402
from clipkit.models.glip_text import BertTokenizer, find_tokenizer  # noqa: E402


@pytest.fixture(scope="module")
def state():
    """A checkpoint's tensors."""
    return {name.removeprefix("module."): value for name, value in checkpoint().items()}


@pytest.fixture
def no_cache(monkeypatch, tmp_path):
    """An empty hub cache."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("variant", ["c", "a"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".bare.pth"])
def test_every_weight_finds_its_place(tmp_path, variant, suffix):
    """As published, as safetensors, or the bare tensors: every parameter is a tensor of the file and none is left over."""
    named = checkpoint(variant)
    path = make_glip(tmp_path, variant)
    if suffix != ".pth":
        path = tmp_path / f"glip{suffix}"
    if suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(named, path)
    elif suffix == ".bare.pth":
        torch.save(named, path, _use_new_zipfile_serialization=False)
    net = glip_checkpoint.build(glip_checkpoint.read(path))
    unused = sum(
        value.numel() for name, value in named.items() if glip_checkpoint.UNUSED.match(name.removeprefix("module."))
    )
    assert sum(p.numel() for p in net.parameters()) == sum(value.numel() for value in named.values()) - unused
    assert all(p.dtype == torch.float32 and not p.is_meta for p in net.parameters())
    assert torch.equal(net.swin.norms[2].weight, named["module.backbone.body.norm3.weight"])


def test_heads_of_training_are_left_out(state):
    """BERT's pooler and numbers, the masked-word head and the old class head are no error."""
    extra = ("language_backbone.body.model.pooler.dense.weight", "language_backbone.body.model.embeddings.position_ids")
    more = {name: torch.zeros(2, 2) for name in (*extra, "rpn.head.mlm_head.bias", "rpn.resizer.fc.weight")}
    glip_checkpoint.build(state | more)


def test_other_checkpoints_are_refused_in_one_line(tmp_path, state):
    """A missing file, a folder, half a file, another model's, a missing, a foreign and a misshapen tensor, other anchors."""

    def refused(match, call, argument):
        with pytest.raises(ModelError, match=match) as caught:
            call(argument)
        assert "\n" not in str(caught.value)

    refused("no such file", glip_checkpoint.read, tmp_path / "none.pth")
    refused("is a folder", glip_checkpoint.read, tmp_path)
    half = tmp_path / "half.pth"
    half.write_bytes((data := make_glip(tmp_path).read_bytes())[: len(data) // 2])
    refused("half.pth cannot be read", glip_checkpoint.read, half)
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, tmp_path / "other.pth")
    refused("no GLIP checkpoint", glip_checkpoint.read, tmp_path / "other.pth")
    for lost in (
        "rpn.head.centerness.bias",
        "rpn.head.scales.4.scale",
        "backbone.body.layers.3.blocks.1.norm1.weight",
        "rpn.head.dot_product_projection_text.weight",
        "rpn.head.dyhead_tower.4.output.dense.bias",
    ):
        refused("missing|size|shape", glip_checkpoint.build, {k: v for k, v in state.items() if k != lost})
    refused("holds rpn.head.surprise", glip_checkpoint.build, state | {"rpn.head.surprise": torch.zeros(1)})
    refused("centerness", glip_checkpoint.build, state | {"rpn.head.centerness.bias": torch.zeros(2)})
    refused("anchors", glip_checkpoint.build, state | {"rpn.anchor_generator.cell_anchors.0": torch.zeros(1, 4)})


class Intruder:
    """An object whose unpickling would run code."""

    def __reduce__(self):
        return print, ("code ran",)


def test_an_unsafe_pickle_is_refused(tmp_path, capsys):
    """A pickle that would run code is refused with a remedy, and its code does not run."""
    torch.save({"model": {}, "scheduler": Intruder()}, tmp_path / "evil.pth")
    with pytest.raises(ModelError, match="could run code.*'model'.*safetensors"):
        glip_checkpoint.read(tmp_path / "evil.pth")
    assert "code ran" not in capsys.readouterr().out


def test_without_weights_the_error_says_where_they_are():
    """GLIP's weights are named, never fetched."""
    with pytest.raises(ModelUnavailableError, match="--weights FILE"):
        glip.load(None, "cpu")


def test_the_tokenizer_is_found_or_told(tmp_path, no_cache):
    """Beside the weights, in a folder there, in the hub's cache; else the command that fetches it."""
    near = tmp_path / "model"
    near.mkdir()
    weights = near / "glip.pth"
    with pytest.raises(ModelUnavailableError, match="hf download google-bert/bert-base-uncased"):
        find_tokenizer(weights)
    cached = no_cache / "models--bert-base-uncased" / "snapshots" / "1"
    cached.mkdir(parents=True)
    (cached / "vocab.txt").write_text(words())
    assert find_tokenizer(weights) == cached / "vocab.txt"
    (near / "vocab.txt").write_text(words())
    assert find_tokenizer(weights) == near / "vocab.txt"
    (near / "tokenizer").mkdir()
    tokenizers.BertWordPieceTokenizer(str(near / "vocab.txt")).save(str(near / "tokenizer" / "tokenizer.json"))
    assert find_tokenizer(weights) == near / "tokenizer" / "tokenizer.json"
    both = [BertTokenizer(find_tokenizer(weights)), BertTokenizer(near / "vocab.txt")]
    ids, offsets = both[0]("Red car .")
    assert (ids, offsets) == both[1]("Red car .")
    assert offsets == [(0, 0), (0, 1), (1, 2), (2, 3), (4, 5), (5, 6), (6, 7), (8, 9), (0, 0)]
    assert len(both[1]("a " * 400)[0]) == 402


def test_other_tokenizers_are_refused(tmp_path):
    """A broken file, words without BERT's marks, and more words than the network knows."""
    path = make_glip(tmp_path)
    (tmp_path / "vocab.txt").write_text(words() + "more\n")
    with pytest.raises(ModelError, match="1031 words"):
        glip.load(path, "cpu")
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(ModelError, match=r"vocab\.txt"):
        glip.load(path, "cpu")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        glip.load(path, "cpu")
