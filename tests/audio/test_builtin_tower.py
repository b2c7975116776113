"""The built-in tower: its graph computes what the trained module computes, and broken installations are told."""

import json
import shutil

import numpy as np
import pytest
from sound_files import sweep, tone

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from clipkit.audio.builtin import CONFIG, FOLDER, GRAPH, WEIGHTS, BuiltinAudio, TowerConfig, load_builtin  # noqa: E402
from clipkit.audio.logmel import LogMel  # noqa: E402
from clipkit.errors import ModelError  # noqa: E402
from clipkit.training.audio_export import save_tower  # noqa: E402
from clipkit.training.audio_tower import FEATURES, AudioBackbone, AudioTower  # noqa: E402


class Words:
    """As much of a Clip as the tower needs."""

    id = "words"
    embed_dim = 24
    text_key = "words"

    def encode_texts(self, texts, *, normalize=True):
        return np.ones((len(texts), 24), np.float32)


@pytest.fixture(scope="module")
def tower() -> AudioTower:
    """Random weights with batch norms that do something, rounded to half precision as they are stored."""
    torch.manual_seed(0)
    net = AudioTower(AudioBackbone(), torch.nn.Linear(FEATURES, 24))
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.3, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
    return net.half().float().eval()


@pytest.fixture(scope="module")
def folder(tower, tmp_path_factory):
    path = tmp_path_factory.mktemp("tower")
    save_tower(tower, path, seconds=5.0, logit_scale=20.0, image_scale=10.0, templates=("{}", "sound of {}"))
    return path


def test_graph_equals_the_module(tower, folder):
    """Clips of several lengths through ONNX Runtime and through torch: the same embeddings to 1e-5, in order."""
    clips = [sweep(5.0), tone(1.0), sweep(0.1), tone(1.0, hertz=900), sweep(3.33)]
    found = BuiltinAudio(Words(), folder).encode_audio(clips)
    with torch.no_grad():
        wanted = torch.cat([tower(torch.from_numpy(LogMel()(clip))[None]) for clip in clips]).numpy()
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_config_survives_the_file(folder):
    """What was saved is what is read."""
    model = BuiltinAudio(Words(), folder)
    assert (model.rate, model.seconds, model.logit_scale, model.image_scale) == (16_000, 5.0, 20.0, 10.0)
    assert model.templates == ("{}", "sound of {}")
    assert len(model.weights_hash) == 12
    assert model.encode_audio([]).shape == (0, 24)
    config = TowerConfig.read(folder)
    assert config.front_end == LogMel()
    assert json.loads((folder / CONFIG).read_text())["format"] == 1


def break_config(folder):
    (folder / CONFIG).write_text("{}")


def break_weights(folder):
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def swap_weights(folder):
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3, np.float32)}, folder / WEIGHTS)


def lose_graph(folder):
    (folder / GRAPH).unlink()


@pytest.mark.parametrize("harm", [break_config, break_weights, swap_weights, lose_graph])
def test_broken_installations_are_told(folder, tmp_path, harm):
    """Each damaged or missing file is one ModelError that says to install again."""
    copy = tmp_path / "tower"
    shutil.copytree(folder, copy)
    harm(copy)
    with pytest.raises(ModelError, match="install"):
        BuiltinAudio(Words(), copy).encode_audio([tone(1.0)])


def test_another_space_is_refused(folder):
    """A text tower of another width cannot share the space."""
    words = Words()
    words.embed_dim = 512
    with pytest.raises(ModelError, match="512 dimensions"):
        BuiltinAudio(words, folder)


def test_shipped_tower_is_small_and_whole():
    """Weights, graph, config and card lie in the package, under 8 MB together, and belong together."""
    files = {path.name: path for path in FOLDER.iterdir() if path.is_file()}
    assert {WEIGHTS, GRAPH, CONFIG, "card.json"} <= files.keys()
    assert sum(path.stat().st_size for path in files.values()) < 8_000_000
    assert json.loads(files["card.json"].read_text())["page"] == "docs/builtin-audio.md"
    model = load_builtin()
    assert model.encode_audio([tone(1.0)]).shape == (1, model.clip.embed_dim)


def test_shipped_tower_hears_noise_as_weather():
    """White noise is rain, noise that swells and falls is the sea: the shipped tower fits the shipped text tower."""
    labels = ["dog", "rain", "sea waves", "crying baby", "clock tick", "rooster"]
    noise = np.random.default_rng(0).normal(0, 0.1, 80_000)
    swell = np.fft.irfft(np.fft.rfft(noise) / np.maximum(np.arange(40_001), 200) ** 0.5, 80_000)
    swell *= 1 + np.sin(2 * np.pi * np.arange(80_000) / 80_000)
    model = load_builtin()
    sounds = [noise.astype(np.float32), (0.4 * swell / np.abs(swell).max()).astype(np.float32)]
    best = (model.encode_audio(sounds) @ model.encode_texts(labels).T).argmax(axis=1)
    assert [labels[i] for i in best] == ["rain", "sea waves"]
