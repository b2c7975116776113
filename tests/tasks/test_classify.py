"""`classify` as a task: one outcome an input, in order, whatever the batch."""

import itertools

import numpy as np
import pytest
from fake import FakeClip
from PIL import Image

from clipkit.media.paths import expand
from clipkit.prompts.labels import load_labels
from clipkit.results import Classification, Failure
from clipkit.tasks.classify import ClassifyOptions, run
from clipkit.tasks.images import ImageOptions, embed_images

COLOURS = {(255, 0, 0): "a red.", (0, 255, 0): "a green.", (0, 0, 255): "a blue."}
LABELS = load_labels("red,green,blue")


@pytest.fixture
def clip():
    """A model that sees colours."""
    fake = FakeClip(dim=32)
    fake.colours = COLOURS
    return fake


@pytest.fixture
def folder(tmp_path):
    """30 pictures, every seventh a text file."""
    for i in range(30):
        path = tmp_path / f"{i:02}.png"
        if i % 7 == 3:
            path.write_text("no picture")
        else:
            Image.new("RGB", (20 + i, 30), list(COLOURS)[i % 3]).save(path)
    return tmp_path


def options(**kwargs):
    images = ImageOptions(**{k: kwargs.pop(k) for k in ("batch_size", "workers") if k in kwargs})
    return ClassifyOptions(labels=LABELS, templates=("a {}.",), images=images, **kwargs)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
@pytest.mark.parametrize("workers", [0, 3])
def test_one_outcome_an_input_in_order(clip, folder, batch_size, workers):
    """Names come back in input order, bad files as failures in their place, answers right, for any batch."""
    outcomes = list(run(expand([str(folder)]), options(batch_size=batch_size, workers=workers), clip))
    assert [o.path.rsplit("/", 1)[-1] for o in outcomes] == [f"{i:02}.png" for i in range(30)]
    for i, outcome in enumerate(outcomes):
        if i % 7 == 3:
            assert isinstance(outcome, Failure)
            assert (outcome.kind, outcome.task, outcome.model) == ("not_an_image", "classify", "fake")
        else:
            assert isinstance(outcome, Classification)
            assert outcome.label == ["red", "green", "blue"][i % 3]
            assert sum(p.score for p in outcome.predictions) == pytest.approx(1)


def test_inputs_are_taken_lazily(clip, folder):
    """The first answer needs no more than a batch and the decoding window."""
    taken = []

    def endless():
        for source in itertools.cycle(list(expand([str(folder / "00.png")]))):
            taken.append(source)
            yield source

    stream = run(endless(), options(batch_size=2, workers=2), clip)
    next(stream)
    stream.close()
    assert len(taken) < 20


def test_a_run_of_bad_files_is_told_at_once(clip, tmp_path):
    """Failures without a single good picture are not held back."""
    (tmp_path / "a.png").write_text("x")
    source = next(expand([str(tmp_path / "a.png")]))
    stream = embed_images(itertools.repeat(source), clip, ImageOptions(workers=0))
    assert all(isinstance(next(stream), Failure) for _ in range(1000))


def test_top_k_threshold_and_scoring(clip, folder):
    """`top_k` cuts, `threshold` drops, `cosine` gives the plain cosine, `sigmoid` leaves each label to itself."""
    source = [str(folder / "00.png")]
    best = next(run(expand(source), options(top_k=1), clip))
    assert len(best.predictions) == 1
    none = next(run(expand(source), options(threshold=1.1), clip))
    assert none.predictions == () and none.label is None
    assert list(none.rows()) == [(none.path, "", "", "")]
    cosine = next(run(expand(source), options(scoring="cosine"), clip))
    assert cosine.predictions[0].score == pytest.approx(1, abs=1e-5)
    sigmoid = {p.label: p.score for p in next(run(expand(source), options(scoring="sigmoid"), clip)).predictions}
    image, something = (clip.encode_texts([t])[0] for t in ("a red.", "a something."))
    for label, score in sigmoid.items():
        gap = clip.logit_scale * (image @ clip.encode_texts([f"a {label}."])[0] - image @ something)
        assert score == pytest.approx(1 / (1 + np.exp(-gap)), abs=1e-5)


def test_equal_scores_keep_label_order(clip, folder):
    """Two wordings of the same prompt tie; the first given comes first."""
    labels = load_labels(["red", "x|red"])
    outcome = next(run(expand([str(folder / "00.png")]), ClassifyOptions(labels=labels, templates=("a {}.",)), clip))
    assert [p.label for p in outcome.predictions] == ["red", "x"]
    assert outcome.predictions[0].score == pytest.approx(0.5)


def test_record_has_the_common_header(clip, folder):
    """Every record starts with schema, task, path, model, weights."""
    good, bad = (next(run(expand([str(folder / name)]), options(), clip)) for name in ("00.png", "03.png"))
    assert list(good.record()) == ["schema", "task", "path", "model", "weights", "predictions"]
    assert list(bad.record()) == ["schema", "task", "path", "model", "weights", "error"]
    assert set(bad.record()["error"]) == {"kind", "message"}
