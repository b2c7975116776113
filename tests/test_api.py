"""`import clipkit` as a library: the same answers as the command, from any form of picture."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake import FakeClip
from PIL import Image

import clipkit

RED, GREEN = (255, 0, 0), (0, 255, 0)


@pytest.fixture
def clip():
    """A model that sees colours."""
    fake = FakeClip(dim=32)
    fake.colours = {RED: "a red.", GREEN: "a green."}
    return fake


def ask(images, clip, **kwargs):
    return clipkit.classify(images, "red,green", model=clip, templates=["a {}."], **kwargs)


def test_every_form_of_picture_gives_the_same_answer(clip, tmp_path):
    """A path, a string, bytes, a PIL image (also with transparency) and an array agree."""
    path = tmp_path / "red.png"
    picture = Image.new("RGB", (20, 10), RED)
    picture.save(path)
    forms = [path, str(path), path.read_bytes(), picture, picture.convert("RGBA"), np.asarray(picture)]
    answers = [ask(form, clip) for form in forms]
    assert [a.label for a in answers] == ["red"] * len(forms)
    assert len({a.predictions for a in answers}) == 1
    assert answers[0].path == str(path)


def test_many_are_lazy_and_failures_stay_in_place(clip, tmp_path):
    """An iterable gives an iterator with one outcome an item; one bad file does not stop the rest."""
    outcomes = ask(
        (p for p in [Image.new("RGB", (9, 9), GREEN), tmp_path / "nowhere.png", np.zeros((4, 4, 3), np.uint8)]), clip
    )
    first, second, third = outcomes
    assert first.label == "green"
    assert isinstance(second, clipkit.Failure) and second.kind == "not_found"
    assert isinstance(third, clipkit.Classification)


def test_one_bad_picture_raises(clip, tmp_path):
    """A single picture that cannot be read is an exception that names it."""
    with pytest.raises(clipkit.InputError, match=r"nowhere\.png"):
        ask(tmp_path / "nowhere.png", clip)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((3, 4, 4), np.uint8)]
)
def test_other_arrays_are_refused(clip, array):
    """Grey, float and channels-first arrays are not guessed at."""
    with pytest.raises(clipkit.UsageError, match="uint8"):
        ask(array, clip)


def test_labels_and_options_reach_the_task(clip):
    """All predictions by default; `top_k` and `threshold` cut."""
    picture = Image.new("RGB", (9, 9), RED)
    assert len(ask(picture, clip).predictions) == 2
    assert len(ask(picture, clip, top_k=1).predictions) == 1
    assert ask(picture, clip, scoring="cosine", threshold=0.99).predictions[0].label == "red"
    with pytest.raises(clipkit.UsageError, match="labels"):
        clipkit.classify(picture, [], model=clip)


def test_the_builtin_model_answers():
    """The README's three lines."""
    cat = Path(__file__).parents[1] / "docs" / "images" / "cat.jpg"
    assert clipkit.classify(cat, ["cat", "dog"], device="cpu").label == "cat"


def test_import_is_free_and_names_are_there():
    """`import clipkit` loads nothing heavy; every public name resolves; another name is an AttributeError."""
    code = "import sys, clipkit; assert not {'numpy', 'torch', 'PIL', 'typing'} & set(sys.modules); print(clipkit.__version__)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1]
    )
    assert done.stdout.strip() == clipkit.__version__, done.stderr
    for name in clipkit.__all__:
        assert getattr(clipkit, name) is not None
        assert name in dir(clipkit)
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = clipkit.nothing_here
