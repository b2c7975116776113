"""AudioCLIP: the front end is the one of the paper, the tower and the logits are those of the authors' code."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from seeded import seeded_state  # noqa: E402

from clipkit.audio import audioclip  # noqa: E402
from clipkit.audio.esresnext import CLIP_SAMPLES, ESResNeXt  # noqa: E402
from clipkit.audio.fbsp import LinearFBSP, blackman_harris, frame  # noqa: E402
from clipkit.errors import ModelError, ModelUnavailableError  # noqa: E402

GOLDEN = Path(__file__).parent / "golden"


def shapes_of(module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


@pytest.fixture(scope="module")
def golden_tower():
    return np.load(GOLDEN / "esresnext.npz")


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "audioclip.npz")


@pytest.fixture(scope="module")
def tower() -> ESResNeXt:
    net = ESResNeXt(64)
    net.load_state_dict(seeded_state(shapes_of(net)), strict=False)
    return net.eval()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A small AudioCLIP in the authors' layout, the weights of the golden run."""
    import open_clip

    vision = open_clip.CLIPVisionCfg(layers=(1, 1, 1, 1), width=64, image_size=64)
    text = open_clip.CLIPTextCfg(width=64, heads=1, layers=2)
    clip = open_clip.CLIP(64, vision, text, quick_gelu=True)
    shapes = shapes_of(clip) | {f"audio.{name}": shape for name, shape in shapes_of(ESResNeXt(64)).items()}
    shapes |= {"logit_scale_ai": (), "logit_scale_at": ()}
    path = tmp_path_factory.mktemp("audioclip") / "AudioCLIP-Full-Training.pt"
    torch.save(seeded_state(shapes), path)
    return path


@pytest.fixture(scope="module")
def model(checkpoint) -> audioclip.AudioClip:
    return audioclip.load_audioclip(checkpoint, "cpu", "fp32")


def test_fbsp_starts_as_a_dft():
    """With m = 0, fb = 1, fc = k the layer is the DFT on linspace(-pi, pi), written out here as complex exponentials."""
    n, bins = 256, 129
    frames = np.random.default_rng(0).normal(size=(3, n))
    t = np.linspace(-np.pi, np.pi, n)
    coefficients = frames @ np.exp(-1j * np.arange(bins)[None, :] * t[:, None]) / np.sqrt(n)
    power = LinearFBSP(bins)(torch.from_numpy(frames).float()).detach().numpy()
    np.testing.assert_allclose(power, np.abs(coefficients) ** 2, atol=1e-4)


def test_fbsp_follows_the_wavelet_formula():
    """Away from its start the layer is sqrt(fb) sinc(fb t / m)^m exp(-i fc t) in complex arithmetic."""
    layer = LinearFBSP(4)
    with torch.no_grad():
        layer.m.copy_(torch.tensor([0.5, 1.0, 2.0, 3.3]))
        layer.fb.copy_(torch.tensor([1.0, 1.7, 2.5, 6.0]))
        layer.fc.copy_(torch.tensor([0.0, 3.2, 10.0, 20.5]))
    t = np.linspace(-np.pi, np.pi, 64)[None]
    m, fb, fc = (p.detach().double().numpy()[:, None] for p in (layer.m, layer.fb, layer.fc))
    sinc = np.sin(fb * t / m) / (fb * t / m)
    assert (sinc < 0).any()
    wanted = np.sqrt(fb / 64) * sinc.astype(complex) ** m * np.exp(-1j * fc * t)
    real, imaginary = layer.weights(64)
    np.testing.assert_allclose(real.detach(), wanted.real, atol=5e-5)
    np.testing.assert_allclose(imaginary.detach(), wanted.imag, atol=5e-5)


def test_window_is_blackman_harris(golden_tower):
    """The periodic window of the authors' code, and of scipy."""
    np.testing.assert_allclose(blackman_harris(1654)[::50], golden_tower["window"], atol=1e-6)
    signal = pytest.importorskip("scipy.signal")
    np.testing.assert_allclose(blackman_harris(100), signal.get_window("blackmanharris", 100), atol=1e-6)


@pytest.mark.parametrize(("samples", "count"), [(5, 1), (10, 1), (11, 2), (14, 2), (15, 3), (100, 24)])
def test_frames_cover_the_signal(samples, count):
    """1 + ceil((T - 10) / 4) frames; joined again they hold every sample, with zeros at both ends."""
    frames = frame(torch.arange(1.0, samples + 1)[None], 10, 4)
    assert frames.shape == (1, count, 10)
    joined = torch.cat([frames[0, 0], frames[0, 1:, -4:].flatten()])
    left = ((count - 1) * 4 + 10 - samples) // 2
    np.testing.assert_array_equal(joined[left : left + samples], np.arange(1, samples + 1))
    assert joined.count_nonzero() == samples


def test_five_seconds_give_the_published_picture(tower):
    """220,500 samples become (1, 3, 341, 392)."""
    with torch.no_grad():
        assert tower.decibels(torch.zeros(1, CLIP_SAMPLES)).shape == (1, 3, 341, 392)


def test_front_end_equals_the_authors(tower, golden_tower):
    """Decibels at initialisation and with learned wavelets, against the authors' code."""
    sound = torch.from_numpy(golden_tower["sound"].astype(np.float32))
    with torch.no_grad():
        np.testing.assert_allclose(tower.decibels(sound)[:, :, ::10, ::4], golden_tower["decibels"], atol=2e-3)
        fresh = ESResNeXt(8).decibels(sound)[:, :, ::10, ::4]
    # -130 dB is rounding noise below the signal; compare power, not its logarithm
    power, wanted = 10 ** (fresh.numpy() / 10), 10 ** (golden_tower["initial"] / 10)
    np.testing.assert_allclose(power, wanted, rtol=1e-3, atol=1e-4 * wanted.max())


def test_tower_equals_the_authors(tower, golden_tower):
    """The embedding of seeded weights, against the authors' code, to 1e-4."""
    with torch.no_grad():
        found = tower(torch.from_numpy(golden_tower["sound"].astype(np.float32))).numpy()
    wanted = golden_tower["embedding"]
    np.testing.assert_allclose(found / np.abs(wanted).max(), wanted / np.abs(wanted).max(), atol=1e-4)


def test_unit_range_samples_are_refused(tower):
    """[-1, 1] floats are silently wrong for the tower, so it refuses them; silence and int16 samples pass."""
    with pytest.raises(ValueError, match="int16"):
        tower.decibels(torch.full((1, 3000), 0.25))
    with torch.no_grad():
        tower.decibels(torch.zeros(1, 3000))
        tower.decibels(torch.full((1, 3000), 0.25) * 32768)


def test_published_layout_is_covered():
    """Every name and shape of the authors' state dict (861 tensors, 537 MB) is one of ours, and the other way round."""
    import open_clip

    layout = np.load(GOLDEN / "layout.npz")
    theirs = dict(zip(layout["names"].tolist(), layout["shapes"].tolist(), strict=True))
    with torch.device("meta"):
        clip = open_clip.CLIP(
            1024,
            open_clip.CLIPVisionCfg(layers=(3, 4, 6, 3), width=64, image_size=224),
            open_clip.CLIPTextCfg(),
            quick_gelu=True,
        )
        audio = ESResNeXt(1024)
    ours = shapes_of(clip) | {f"audio.{name}": shape for name, shape in shapes_of(audio).items()}
    ours |= {"logit_scale_ai": (), "logit_scale_at": ()}
    assert {name: "x".join(map(str, shape)) for name, shape in ours.items()} == theirs


def test_logits_equal_the_authors(model, golden):
    """Audio-image, audio-text and image-text logits of a small AudioCLIP, from sound, pictures and texts."""
    with torch.no_grad():
        audio = model.tower(torch.from_numpy(golden["sound"].astype(np.float32))).numpy()
    audio /= np.linalg.norm(audio, axis=1, keepdims=True)
    image = model.clip.encode_images(golden["images"])
    text = model.encode_texts(["dog, rain", "thunder storm"])
    np.testing.assert_allclose(audio, golden["audio"], atol=1e-4)
    np.testing.assert_allclose(image, golden["image"], atol=1e-4)
    np.testing.assert_allclose(text, golden["text"], atol=1e-4)
    np.testing.assert_allclose(model.scales.audio_image * audio @ image.T, golden["ai"], atol=2e-3)
    np.testing.assert_allclose(model.scales.audio_text * audio @ text.T, golden["at"], atol=2e-3)
    np.testing.assert_allclose(model.scales.image_text * image @ text.T, golden["it"], atol=2e-3)


def test_scales_are_bounded():
    """exp is clamped to [1, 100], each scale by itself."""
    state = {
        "logit_scale_ai": torch.tensor(9.0),
        "logit_scale_at": torch.tensor(-3.0),
        "logit_scale": torch.tensor(3.0),
    }
    scales = audioclip.Scales.read(state)
    assert (scales.audio_image, scales.audio_text) == (100.0, 1.0)
    assert scales.image_text == pytest.approx(np.exp(3.0))
    assert audioclip.Scales.read({}) == audioclip.Scales(100.0, 100.0, 100.0)


def test_unit_samples_reach_the_tower_as_int16(model, golden):
    """`encode_audio` takes [-1, 1] and scales: the same embedding as the tower's on the int16 samples."""
    clip = golden["sound"][0].astype(np.float32) / 32768
    with torch.no_grad():
        wanted = model.tower(torch.from_numpy(audioclip.five_seconds(clip)[None] * 32768)).numpy()[0]
    found = model.encode_audio([clip])[0]
    np.testing.assert_allclose(found, wanted / np.linalg.norm(wanted), atol=1e-5)


def test_clips_are_centred_in_five_seconds():
    """Longer clips lose both ends alike, shorter ones continue their edge values."""
    ramp = np.arange(CLIP_SAMPLES + 10, dtype=np.float32)
    np.testing.assert_array_equal(audioclip.five_seconds(ramp), ramp[5:-5])
    padded = audioclip.five_seconds(np.array([1, 2, 3, 4], np.float32))
    assert len(padded) == CLIP_SAMPLES
    middle = CLIP_SAMPLES // 2
    np.testing.assert_array_equal(padded[middle - 2 : middle + 2], [1, 2, 3, 4])
    assert (padded[0], padded[-1]) == (1, 4)


def test_layouts_load_alike(checkpoint, model, tmp_path):
    """Wrapped, prefixed by `module.`, and as safetensors: the same weights."""
    safetensors = pytest.importorskip("safetensors.torch")
    state = torch.load(checkpoint)
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "wrapped.pt")
    safetensors.save_file(state, tmp_path / "whole.safetensors")
    for name in ("wrapped.pt", "whole.safetensors"):
        found = audioclip.read_state(tmp_path / name)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], state[key]) for key in state)


def test_audio_tower_alone_takes_clip_from_the_loader(checkpoint, model, tmp_path, monkeypatch):
    """A file with the tower alone, bare or under `audio.`, is completed by OpenAI's RN50."""
    from clipkit.models import loader

    asked = []

    def load_clip(name, device, precision, engine):
        asked.append((name, engine))
        return model.clip

    monkeypatch.setattr(loader, "load_clip", load_clip)
    state = torch.load(checkpoint)
    bare = {name.removeprefix("audio."): value for name, value in state.items() if name.startswith("audio.")}
    torch.save(bare, tmp_path / "ESRNXFBSP.pt")
    found = audioclip.load_audioclip(tmp_path / "ESRNXFBSP.pt", "cpu", "fp32")
    assert asked == [("RN50/openai", "torch")]
    assert found.logit_scale == 100.0
    assert torch.equal(found.tower.fbsp.m, model.tower.fbsp.m)


def damaged(state, how):
    if how == "missing":
        return {name: value for name, value in state.items() if name != "audio.layer3.2.conv2.weight"}
    if how == "no text":
        return {name: value for name, value in state.items() if name != "text_projection"}
    if how == "shape":
        return state | {"audio.att5.bn.weight": torch.zeros(3)}
    if how == "other":
        return {"conv1.weight": torch.zeros(1)}
    return [torch.zeros(1)]


@pytest.mark.parametrize("how", ["missing", "no text", "shape", "other", "list"])
def test_wrong_checkpoints_are_refused(checkpoint, tmp_path, how):
    """Weights that are missing, misshaped or another model's are one ModelError that names the file; never random weights."""
    path = tmp_path / "bad.pt"
    torch.save(damaged(torch.load(checkpoint), how), path)
    with pytest.raises(ModelError, match=r"bad\.pt"):
        audioclip.load_audioclip(path, "cpu", "fp32")


def test_text_for_weights_is_refused(tmp_path):
    """A web page saved under the weights' name is told as such."""
    path = tmp_path / "bad.pt"
    path.write_text("<html>")
    with pytest.raises(ModelError, match="download it again"):
        audioclip.load_audioclip(path, "cpu", "fp32")


def test_missing_weights_say_where_they_are(tmp_path, monkeypatch):
    """Nothing is downloaded; the message names the authors' file and the option."""
    monkeypatch.setenv("CLIPKIT_CACHE_DIR", str(tmp_path))
    with pytest.raises(ModelUnavailableError, match=r"AudioCLIP-Full-Training\.pt.*--weights"):
        audioclip.load_audioclip(None, "cpu", "fp32")
