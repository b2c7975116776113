"""Things cut out of photographs by YOLO's label files, and packed."""

import json
import subprocess

import numpy as np
import pytest
from PIL import Image

from clipkit.training import pack
from clipkit.training.boxes import around, label_path, read_boxes


@pytest.mark.parametrize(
    ("picture", "labels"),
    [
        ("a/train/images/x.y.jpg", "a/train/labels/x.y.txt"),
        ("images/x.PNG", "labels/x.txt"),
        ("train/x.jpg", "train/x.txt"),
        ("images/train/x.jpg", "labels/train/x.txt"),
        ("images/a/images/b/x.jpg", "images/a/labels/b/x.txt"),
        ("my-images/x.jpg", "my-images/x.txt"),
    ],
)
def test_where_labels_lie(picture, labels):
    """In the sister folder of `images`, else beside the picture."""
    assert label_path(picture) == labels


def test_boxes_and_polygons_are_read():
    """A polygon is its bounding box; small things, other classes and broken lines are left out; boxes end at the picture."""
    text = """0 0.5 0.5 0.4 0.2
1 0.1 0.2 0.5 0.2 0.3 0.9
0 0.95 0.5 0.3 0.4
0 0.5 0.5 0.19 0.19
2 0.5 0.5 0.4 0.2

0 0.5 nothing 0.4 0.2
0 0.5 0.5 0.4"""
    found = read_boxes(text, {"0": "cup", "1": "spoon"})
    assert [name for name, _ in found] == ["cup", "spoon", "cup"]
    wanted = [(0.3, 0.4, 0.7, 0.6), (0.1, 0.2, 0.5, 0.9), (0.8, 0.3, 1.0, 0.7)]
    np.testing.assert_allclose([box for _, box in found], wanted, atol=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_a_cut_is_square_within_the_picture_and_holds_its_box(seed):
    """Square where the picture is wide and high enough, and never less than the box."""
    rng = np.random.default_rng(seed)
    width, height = (int(n) for n in rng.integers(20, 400, 2))
    left, right = np.sort(rng.uniform(0, 1, 2))
    top, bottom = np.sort(rng.uniform(0, 1, 2))
    x0, y0, x1, y1 = around((left, top, right, bottom), width, height)
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height
    assert x0 <= left * width
    assert y0 <= top * height
    assert x1 >= right * width - 1
    assert y1 >= bottom * height - 1
    side = 1.2 * max((right - left) * width, (bottom - top) * height)
    assert x1 - x0 == pytest.approx(min(side, width), abs=1.5)
    assert y1 - y0 == pytest.approx(min(side, height), abs=1.5)


def test_things_are_packed_apart(tmp_path):
    """Two things of one photograph are two pictures; a photograph that is held out gives none."""
    home = tmp_path / "clones" / "someone+things"
    (home / "images").mkdir(parents=True)
    (home / "labels").mkdir()
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(rng.integers(0, 99, (8, 16, 3), dtype=np.uint8)).resize((160, 80)) for _ in range(2)]
    photos[0].paste((255, 0, 0), (20, 20, 60, 60))
    photos[0].paste((0, 0, 255), (100, 20, 140, 60))
    for i, photo in enumerate(photos):
        photo.save(home / "images" / f"{i}.png")
        (home / "labels" / f"{i}.txt").write_text("7 0.25 0.5 0.25 0.5\n4 0.75 0.5 0.25 0.5\n")
    photos[1].save(home / "images" / "unlabelled.png")
    git = ["git", "-C", str(home), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "pictures"]):
        subprocess.run([*git, *command], check=True)
    held = tmp_path / "held"
    held.mkdir()
    photos[1].save(held / "photo.jpg", quality=90)
    source = {
        "name": "things", "repository": "someone/things", "commit": "HEAD", "train": "images/", "classes": {},
        "boxes": {"4": "plate", "7": "apple"},
    }  # fmt: skip
    pack.pack_split(source, "train", tmp_path / "clones", tmp_path, 32, {}, pack._excluded([held], 32))
    assert json.loads((tmp_path / "things.train.labels.json").read_text()) == ["apple", "plate"]
    images = np.load(tmp_path / "things.train.images.npy")
    assert images.shape == (2, 32, 32, 3)
    assert images[0, 16, 16].tolist() == [255, 0, 0]
    assert images[1, 16, 16].tolist() == [0, 0, 255]
