"""How the built-in tower is made: scenes are what they say, and the fit finds a space that can be found."""

import numpy as np
import pytest
from sound_files import sweep

torch = pytest.importorskip("torch")

from clipkit.training import audio_data, audio_fit  # noqa: E402
from clipkit.training.audio_scenes import LENGTH, RATE, SceneMaker, Source, synthesise  # noqa: E402
from clipkit.training.audio_tower import FEATURES, AudioBackbone  # noqa: E402


@pytest.fixture
def sources():
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    return [Source(sweep(5.0), 0), Source(noise, 1)], [Source(sweep(1.0))]


def test_scenes_have_length_level_and_shares(sources):
    """Every scene has LENGTH finite samples within full scale; shares are over the classes and sum to 1 at most."""
    maker = SceneMaker(*sources, classes=2, seed=0)
    totals = []
    for _ in range(60):
        scene = maker.draw()
        assert scene.samples.shape == (LENGTH,)
        assert scene.samples.dtype == np.float32
        assert 0 < np.abs(scene.samples).max() <= 1
        assert scene.shares.shape == (2,)
        assert (scene.shares >= 0).all()
        totals.append(scene.shares.sum())
    assert max(totals) <= 1 + 1e-6
    assert min(totals) == 0  # others, synthesis, and clips far from their own speed have no label


def test_scenes_come_from_the_seed(sources):
    """The same seed, the same scenes; another, others."""
    first, again, other = (SceneMaker(*sources, classes=2, seed=s).draw().samples for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_synthesis_makes_many_sounds():
    """Each kind of synthesis sounds, and within full scale."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        samples = synthesise(rng)
        assert samples.shape == (LENGTH,)
        assert 0.5 < np.abs(samples).max() <= 1 + 1e-6


def test_labels_and_wordings_belong_together():
    """The first wording of a class is its label, all are different, and each is one of ESC-50's names."""
    from clipkit.prompts.labels import shipped_labels

    assert tuple(words[0] for words in audio_data.WORDINGS) == audio_data.LABELS
    assert len({w for words in audio_data.WORDINGS for w in words}) == 40
    assert set(audio_data.LABELS) <= {label.name for label in shipped_labels("esc50")}


def test_folds_come_from_file_names(tmp_path):
    """The first digit of the name is the fold; classes follow the folders."""
    for folder, names in (("001 - Dog bark", ("1-a.ogg", "4-b.ogg")), ("010 - Fire crackling", ("2-c.ogg",))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_bytes(b"")
    assert [(p.name, c) for p, c in audio_data.esc10_clips(tmp_path, "123")] == [("1-a.ogg", 0), ("2-c.ogg", 9)]
    assert [(p.name, c) for p, c in audio_data.esc10_clips(tmp_path, "4")] == [("4-b.ogg", 0)]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Dog", ["dog"]),
        ("Bee, wasp, etc.", ["bee", "wasp"]),
        ("Whimper (dog)", ["whimper"]),
        ("Roaring cats (lions, tigers)", ["roaring cats"]),
    ],
)
def test_names_are_split_into_wordings(name, parts):
    """Commas part wordings, parentheses are dropped."""
    assert audio_fit.parts_of(name) == parts


def test_fit_finds_the_space():
    """Features that determine the class are projected next to the class's texts, whichever wording is asked for."""
    rng = np.random.default_rng(0)
    classes = torch.arange(1024) % 4
    features = one_hot(classes, FEATURES) + 0.1 * torch.from_numpy(rng.random((1024, FEATURES))).float()
    wordings = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(4, 3, 32))).float(), dim=2)
    names = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(6, 32))).float(), dim=1)
    shares = torch.nn.functional.one_hot(classes, 4).float()
    scores = torch.zeros(1024, 6)
    model = audio_fit.fit(features, scores, shares, names, wordings, epochs=30)
    with torch.no_grad():
        for wording in range(3):
            assert (model.logits(features, wordings[:, wording]).argmax(1) == classes).float().mean() > 0.95


def one_hot(classes, width):
    return torch.nn.functional.one_hot(classes, width).float()


def test_backbone_takes_any_length():
    """From the shortest picture to a long one, the same number of features, none negative."""
    backbone = AudioBackbone().eval()
    with torch.no_grad():
        for frames in (16, 151, 700):
            features = backbone(torch.zeros(2, frames, 64))
            assert features.shape == (2, FEATURES)
            assert (features >= 0).all()
