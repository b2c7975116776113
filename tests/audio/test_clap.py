"""CLAP: our wrapper gives what transformers' ClapModel gives, and refuses half a model."""

import numpy as np
import pytest
from sound_files import sweep

pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

from clipkit.audio import clap  # noqa: E402
from clipkit.errors import ModelError, ModelUnavailableError  # noqa: E402


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A tiny random CLAP as transformers saves it: 16-dimensional, one second of sound."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("clap") / "tiny"
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text |= {"vocab_size": 300, "max_position_embeddings": 40, "projection_dim": 16}
    audio = {"hidden_size": 64, "patch_embeds_hidden_size": 8, "depths": [1, 1, 1, 1], "projection_dim": 16}
    audio |= {"num_attention_heads": [1, 2, 4, 8], "spec_size": 128, "num_mel_bins": 32, "window_size": 2}
    config = transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=16)
    transformers.ClapModel(config).save_pretrained(path)
    transformers.ClapFeatureExtractor(
        feature_size=32, max_length_s=1, truncation="rand_trunc", padding="repeatpad"
    ).save_pretrained(path)
    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    vocabulary |= {letter: i + 4 for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", model_max_length=38
    ).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(directory):
    return clap.load_clap(directory, "cpu")


def test_logits_equal_transformers(directory, model):
    """Scale times cosine equals `logits_per_audio` of ClapModel on the same sounds and texts."""
    import transformers

    sounds = [sweep(1.0, 48_000), sweep(0.4, 48_000), np.zeros(48_000, np.float32)]
    texts = ["This is a sound of rain.", "dog"]
    theirs = transformers.ClapModel.from_pretrained(directory).eval()
    extractor = transformers.ClapFeatureExtractor.from_pretrained(directory)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    inputs = extractor(sounds, sampling_rate=48_000, return_tensors="pt") | tokenizer(
        texts, padding=True, return_tensors="pt"
    )
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        wanted = theirs(**inputs).logits_per_audio.numpy()
    found = model.logit_scale * model.encode_audio(sounds) @ model.encode_texts(texts).T
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_rates_and_windows_come_from_the_model(model):
    """48 kHz and the extractor's window; no pictures."""
    assert (model.rate, model.seconds, model.clip) == (48_000, 1.0, None)
    assert model.templates == ("This is a sound of {}.",)


def test_long_clips_lose_their_end_and_chance_plays_no_part(model):
    """A clip over the window equals its first window, every time."""
    long = sweep(3.0, 48_000)
    np.testing.assert_array_equal(model.encode_audio([long]), model.encode_audio([long[:48_000]]))


def test_nothing_in_nothing_out(model):
    """No clips, no texts: (0, D)."""
    assert model.encode_audio([]).shape == (0, 16)
    assert model.encode_texts([]).shape == (0, 16)


def test_half_a_model_is_refused(directory, tmp_path):
    """Weights that lack a tensor are an error; transformers would fill in random numbers."""
    import shutil

    safetensors = pytest.importorskip("safetensors.torch")
    copy = tmp_path / "half"
    shutil.copytree(directory, copy)
    state = safetensors.load_file(copy / "model.safetensors")
    state.pop("audio_projection.linear1.weight")
    safetensors.save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"audio_projection\.linear1\.weight is missing"):
        clap.load_clap(copy, "cpu")
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        clap.load_clap(copy, "cpu")


def test_missing_model_says_how_to_get_it(tmp_path, monkeypatch):
    """Nothing is downloaded unasked; the message names the command."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelUnavailableError, match="hf download laion/clap-htsat-unfused"):
        clap.load_clap(None, "cpu")


def test_missing_extra_is_named(monkeypatch):
    """Without transformers the message names the extra."""
    monkeypatch.setattr(clap.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelUnavailableError, match=r"clipkit-vision\[hf\]"):
        clap.load_clap(None, "cpu")
