import numpy as np
import pytest
from fake import FakeClip

from clipkit.errors import UsageError
from clipkit.prompts.cache import VectorCache, vector_key
from clipkit.prompts.ensemble import class_vectors
from clipkit.prompts.labels import load_labels
from clipkit.prompts.scores import class_scores
from clipkit.prompts.templates import fill

TEMPLATES = ("a {}.", "the {}.", "many {}")
LABELS = load_labels("cat|kitten|tabby,dog,bird|crow")
NOTHING = VectorCache(None)


@pytest.fixture
def images():
    """Five unit image embeddings."""
    x = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def unit(v):
    return v / np.linalg.norm(v)


def by_loops(clip, images, labels, templates, reduction, scoring, bias=None, neutral=None):
    """The definition, prompt by prompt."""
    out = np.zeros((len(images), len(labels)))
    for n, image in enumerate(images):
        cos = [
            [[image @ unit(clip.vector(fill(t, alias))) for t in templates] for alias in label.aliases]
            for label in labels
        ]
        if reduction == "embed":
            means = [
                [unit(sum(unit(clip.vector(fill(t, alias))) for t in templates)) for alias in label.aliases]
                for label in labels
            ]
            columns = [[max(image @ m for m in mean) for mean in means]]
        elif reduction == "none":
            columns = [[max(c for alias in label for c in alias) for label in cos]]
        else:
            columns = [[max(alias[t] for alias in label) for label in cos] for t in range(len(templates))]
        per_template = []
        for column in map(np.array, columns):
            if scoring == "softmax":
                e = np.exp(clip.logit_scale * column)
                per_template.append(e / e.sum())
            elif scoring == "sigmoid":
                shift = bias if bias is not None else -clip.logit_scale * (image @ neutral)
                per_template.append(1 / (1 + np.exp(-(clip.logit_scale * column + shift))))
            else:
                per_template.append(column)
        out[n] = np.mean(per_template, axis=0)
    return out


@pytest.mark.parametrize("reduction", ["embed", "prob", "none"])
@pytest.mark.parametrize("scoring", ["softmax", "sigmoid", "cosine"])
def test_scores_equal_the_definition(images, reduction, scoring):
    """Vectorised scores equal loops over images, labels, aliases and templates."""
    clip = FakeClip()
    classes = class_vectors(clip, LABELS, TEMPLATES, reduction=reduction, cache=NOTHING)
    neutral = unit(clip.vector("something"))
    got = class_scores(images, classes, scoring=scoring, logit_scale=clip.logit_scale, neutral=neutral)
    np.testing.assert_allclose(
        got, by_loops(clip, images, LABELS, TEMPLATES, reduction, scoring, neutral=neutral), atol=2e-6
    )


def test_sigmoid_uses_the_models_bias(images):
    """A SigLIP-like bias takes the neutral prompt's place."""
    clip = FakeClip()
    classes = class_vectors(clip, LABELS, TEMPLATES, cache=NOTHING)
    got = class_scores(images, classes, scoring="sigmoid", logit_scale=20.0, logit_bias=-4.0)
    np.testing.assert_allclose(got, by_loops(clip, images, LABELS, TEMPLATES, "embed", "sigmoid", bias=-4.0), atol=2e-6)


def test_reductions_differ(images):
    """The three reductions are three different scores."""
    clip = FakeClip()
    scores = [
        class_scores(
            images,
            class_vectors(clip, LABELS, TEMPLATES, reduction=r, cache=NOTHING),
            scoring="softmax",
            logit_scale=20.0,
        )
        for r in ("embed", "prob", "none")
    ]
    assert abs(scores[0] - scores[1]).max() > 1e-3
    assert abs(scores[1] - scores[2]).max() > 1e-3


def test_chunks_change_nothing(monkeypatch):
    """Encoding a few prompts at a time equals encoding all at once."""
    whole = class_vectors(FakeClip(), LABELS, TEMPLATES, cache=NOTHING)
    monkeypatch.setattr("clipkit.prompts.ensemble._PROMPTS_AT_ONCE", 4)
    np.testing.assert_allclose(
        class_vectors(FakeClip(), LABELS, TEMPLATES, cache=NOTHING).vectors, whole.vectors, atol=1e-6
    )


def test_second_run_encodes_nothing(tmp_path):
    """Vectors come from the cache, equal to the bit; another word, template, model or reduction misses."""
    cache = VectorCache(tmp_path)
    first = class_vectors(FakeClip(), LABELS, TEMPLATES, cache=cache)
    again = FakeClip()
    np.testing.assert_array_equal(class_vectors(again, LABELS, TEMPLATES, cache=cache).vectors, first.vectors)
    assert again.texts_encoded == 0
    for labels, templates, reduction, key in (
        (LABELS[:2], TEMPLATES, "embed", "fake-1"),
        (LABELS, TEMPLATES[:2], "embed", "fake-1"),
        (LABELS, TEMPLATES, "prob", "fake-1"),
        (LABELS, TEMPLATES, "embed", "fake-2"),
    ):
        other = FakeClip()
        other.text_key = key
        class_vectors(other, labels, templates, reduction=reduction, cache=cache)
        assert other.texts_encoded > 0


def test_names_do_not_matter_to_the_key():
    """The key depends on wordings, not on how they are grouped; different orders differ."""
    assert vector_key("m", ["a", "b"], ["{}"], "embed") != vector_key("m", ["b", "a"], ["{}"], "embed")
    assert vector_key("m", ["a,b"], ["{}"], "embed") != vector_key("m", ["a", "b"], ["{}"], "embed")


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY garbage", None])
def test_damaged_cache_is_no_error(tmp_path, damage):
    """A truncated or foreign file, or one with NaN, is encoded anew."""
    cache = VectorCache(tmp_path)
    good = class_vectors(FakeClip(), LABELS, TEMPLATES, cache=cache)
    path = next(tmp_path.glob("*.npy"))
    if damage is None:
        np.save(path, np.full_like(good.vectors, np.nan))
    else:
        path.write_bytes(damage)
    np.testing.assert_array_equal(class_vectors(FakeClip(), LABELS, TEMPLATES, cache=cache).vectors, good.vectors)


def test_cache_that_cannot_be_written_is_no_error(tmp_path):
    """A file where the folder should be, as on a read-only disk: the answer still comes."""
    (tmp_path / "taken").write_text("")
    class_vectors(FakeClip(), LABELS, TEMPLATES, cache=VectorCache(tmp_path / "taken"))


def test_cache_stays_small(tmp_path, monkeypatch):
    """The longest unused files go first once the limit is passed."""
    monkeypatch.setattr("clipkit.prompts.cache._KEEP_BYTES", 3000)
    cache = VectorCache(tmp_path)
    for i in range(6):
        cache.save(f"k{i}", np.full((1, 1, 200), i, np.float32))
    left = sorted(p.stem for p in tmp_path.glob("*.npy"))
    assert left and left[-1] == "k5" and len(left) <= 3


def test_nothing_to_encode_is_refused():
    """No templates, no labels and an unknown reduction are usage errors."""
    for labels, templates, reduction in (((), TEMPLATES, "embed"), (LABELS, (), "embed"), (LABELS, TEMPLATES, "mean")):
        with pytest.raises(UsageError):
            class_vectors(FakeClip(), labels, templates, reduction=reduction, cache=NOTHING)
