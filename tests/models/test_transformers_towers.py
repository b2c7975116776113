"""Text towers and tokenizers from transformers: read from files that are here, never from the hub."""

import json
import socket

import numpy as np
import pytest
from tiny import PREPROCESS, VISION, make_tiny_clip

from clipkit.errors import ModelError
from clipkit.models.catalog import resolve
from clipkit.models.export import export
from clipkit.models.loader import load_clip

pytestmark = pytest.mark.slow  # importing transformers takes many seconds
WORDS = ["[PAD]", "[UNK]", "a", "photo", "of", "cat", "dog", "the"]


@pytest.fixture
def no_sockets(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def write_tokenizer(directory):
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(directory / "tokenizer.json"))
    facts = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    (directory / "tokenizer_config.json").write_text(json.dumps(facts))


def test_tokenizer_of_the_directory(tmp_path, no_sockets):
    """The config's tokenizer is the directory's; texts are padded, not trimmed; another key than CLIP's; no ONNX."""
    text = {
        "hf_tokenizer_name": "lab/words",
        "vocab_size": len(WORDS),
        "pool_type": "last",
        "no_causal_mask": True,
        "context_length": 8,
    }
    directory = make_tiny_clip(tmp_path / "m", text_cfg=text, model_cfg={"custom_text": True, "init_logit_bias": -10.0})
    write_tokenizer(directory)
    clip = load_clip(str(directory))
    assert clip.engine == "torch"
    np.testing.assert_array_equal(clip.tokenize(["a photo of a cat"]), [[2, 3, 4, 2, 5, 0, 0, 0]])
    a, b = clip.encode_texts(["a cat", "the dog"])
    assert np.abs(a - b).max() > 1e-4
    np.testing.assert_allclose(clip.encode_texts(["a cat"])[0], a, atol=1e-5)
    assert "clip-bpe" not in clip.text_key
    assert clip.logit_bias == pytest.approx(-10)
    with pytest.raises(ModelError, match="tokenizer of its own"):
        export(resolve(str(directory)))


def test_text_tower_of_transformers(tmp_path, no_sockets):
    """A transformers text tower is built from its config beside the weights, and gets its weights from the checkpoint."""
    import open_clip
    import torch
    from safetensors.torch import save_file
    from transformers import RobertaConfig

    directory = tmp_path / "m"
    directory.mkdir()
    write_tokenizer(directory)
    RobertaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        pad_token_id=0,
    ).save_pretrained(directory)
    text = {
        "hf_model_name": str(directory),
        "hf_tokenizer_name": str(directory),
        "hf_proj_type": "mlp",
        "hf_pooler_type": "mean_pooler",
        "context_length": 8,
    }
    model_cfg = {"embed_dim": 16, "vision_cfg": VISION["vit"], "text_cfg": text}
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(
        embed_dim=16, vision_cfg=VISION["vit"], text_cfg={**text, "hf_model_pretrained": False}
    ).eval()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, directory / "open_clip_model.safetensors")
    published = model_cfg | {"text_cfg": text | {"hf_model_name": "lab/tower", "hf_tokenizer_name": "lab/tower"}}
    (directory / "open_clip_config.json").write_text(json.dumps({"model_cfg": published, "preprocess_cfg": PREPROCESS}))
    clip = load_clip(str(directory))
    tokens = torch.tensor([[2, 3, 4, 2, 5, 0, 0, 0]])
    with torch.no_grad():
        expected = model.encode_text(tokens, normalize=True)
    np.testing.assert_allclose(clip.encode_texts(["a photo of a cat"]), expected, atol=1e-5)
