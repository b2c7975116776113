"""Captioned photographs: which names they are packed with, and how one of several is drawn."""

import json
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image

from clipkit.training import captions, pack
from clipkit.training.captions import caption_labels
from clipkit.training.data import MOST_NAMES, batch, draw_names, load_training_data
from clipkit.training.names import Names
from clipkit.training.phrases import Phrases

WORDS = ("dog", "frisbee", "park bench", "bench", "orange", "person", "cat")


@pytest.fixture
def names():
    return Names(WORDS, np.eye(7, 16, dtype=np.float32), np.zeros(16, np.float32), 7, (), {})


TABLE = """ImageID,Labels,Caption
0.jpg,18 1,"A dog, and another DOG, jumps for frisbees on an orange field."
1.jpg,99,Nothing to be seen
2.jpg,1,"Someone on a park bench"
"""


def test_names_of_labels_come_first_then_those_of_the_caption(names, monkeypatch):
    """Each once; an unknown number and an ambiguous word are left out, the longest name wins."""
    monkeypatch.setattr(captions, "LEAST_MENTIONS", 1)
    more = "ImageID,Caption\n3.jpg,cats beside a bench\n4.jpg,\n"
    found = caption_labels([TABLE, more], {"18": "dog", "1": "person"}, Phrases(names))
    assert found == {
        "0.jpg": "dog|person|frisbee", "1.jpg": "", "2.jpg": "person|park bench", "3.jpg": "cat|bench", "4.jpg": ""
    }  # fmt: skip


def test_a_name_that_few_captions_mention_is_dropped(names, monkeypatch):
    """Counted over all pictures."""
    monkeypatch.setattr(captions, "LEAST_MENTIONS", 2)
    found = caption_labels([TABLE], {"18": "dog", "1": "person"}, Phrases(names))
    assert found == {"0.jpg": "person", "1.jpg": "", "2.jpg": "person"}


def test_one_of_the_names_of_a_picture_is_drawn():
    """Every one of them sooner or later, never an absent one, and none of none."""
    shown = np.array([[4, 7, -1], [3, -1, -1], [-1, -1, -1], [0, 1, 2]])
    rng = np.random.default_rng(0)
    drawn = np.stack([draw_names(shown, rng) for _ in range(60)])
    assert [set(column.tolist()) for column in drawn.T] == [{4, 7}, {3}, {-1}, {0, 1, 2}]


def test_captioned_pictures_are_packed_and_drawn_with_their_names(names, tmp_path, monkeypatch):
    """From a repository to a batch: a picture without a known name stays, unnamed."""
    monkeypatch.setattr(captions, "LEAST_MENTIONS", 1)
    home = tmp_path / "clones" / "someone+captions"
    (home / "data").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(home / "data" / f"{i}.jpg")
    (home / "train.csv").write_text(TABLE)
    git = ["git", "-C", str(home), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "pictures"]):
        subprocess.run([*git, *command], check=True)
    source = {"name": "captioned", "repository": "someone/captions", "commit": "HEAD", "captions": ["train.csv"]}
    source["train"] = r"data/(?P<file>\d+\.jpg)$"
    numbers = {"18": "dog", "1": "person"}
    pack.pack_split(source, "train", tmp_path / "clones", tmp_path, 32, numbers, pack.NO_HASHES, Phrases(names))
    assert json.loads((tmp_path / "captioned.train.labels.json").read_text()) == [
        "dog|person|frisbee", "", "person|park bench"
    ]  # fmt: skip
    data = load_training_data(tmp_path, names)
    trained = [names.names[i] for i in data.vocabulary]
    assert trained == ["dog", "frisbee", "park bench", "person"]
    assert data.counts.tolist() == [1, 1, 1, 2]
    assert data.sets[0].labels.shape[1] <= MOST_NAMES
    drawn = batch(data, 0, 32, 32, 0, torch.device("cpu"))
    for label, shown in zip(drawn.labels.tolist(), drawn.shown.tolist(), strict=True):
        assert label in shown
    assert set(drawn.labels.tolist()) == {-1, 0, 1, 2, 3}


def test_pictures_without_names_are_packed_where_the_source_says_so(tmp_path):
    """And are left out where it does not."""
    home = tmp_path / "clones" / "someone+photos"
    home.mkdir(parents=True)
    Image.new("RGB", (40, 30), "red").save(home / "a.png")
    git = ["git", "-C", str(home), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "pictures"]):
        subprocess.run([*git, *command], check=True)
    source = {"name": "photos", "repository": "someone/photos", "commit": "HEAD", "train": r".+\.png$", "unnamed": True}
    pack.pack_split(source, "train", tmp_path / "clones", tmp_path, 32, {}, pack.NO_HASHES)
    assert json.loads((tmp_path / "photos.train.labels.json").read_text()) == [""]
    assert np.load(tmp_path / "photos.train.images.npy").shape == (1, 32, 32, 3)
