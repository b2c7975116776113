"""`clipkit segment` and `clipkit bench segment` on the command line, in process, with a tiny model folder."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from dense_stand import make_photo
from PIL import Image
from typer.testing import CliRunner

from clipkit.cli.app import app
from clipkit.output.masks import read_index

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))
from tiny import make_tiny_clip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny random ViT in open_clip's layout."""
    return make_tiny_clip(tmp_path_factory.mktemp("model"), "vit")


@pytest.fixture
def pictures(tmp_path):
    """Two photos and a broken file."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(make_photo(60, 90)).save(folder / "a.png")
    Image.fromarray(make_photo(80, 50)).save(folder / "b.jpg")
    (folder / "c.jpg").write_bytes(b"\xff\xd8\xff broken")
    return folder


def clipkit(*args):
    """Run the command line in process."""
    return CliRunner().invoke(app, [str(arg) for arg in args])


def small(model):
    """Options that make the tiny model fast."""
    return ["-m", model, "--size", "32", "--window", "0", "--templates", "none"]


def test_records_files_and_exit_code(pictures, model, tmp_path):
    """One record an input; masks on disk match the records; a broken file among good ones gives exit code 3."""
    out = tmp_path / "out"
    done = clipkit(
        "segment", pictures, "-l", "cat|kitten,dog", "--background", "", "--save-to", out, "--save", "mask",
        "--save", "coco", "--cutout", "cat", "--cutout", "dog", *small(model),
    )  # fmt: skip
    assert done.exit_code == 3, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(record["path"]).name for record in records] == ["a.png", "b.jpg", "c.jpg"]
    assert "error" in records[2]
    for record, shape in zip(records, [(60, 90), (80, 50)], strict=False):
        mask = read_index(Path(record["mask"]))
        assert mask.shape == shape
        for part in record["segments"]:
            value = ["cat", "dog"].index(part["label"]) + 1
            assert (mask == value).mean() == pytest.approx(part["area"], abs=1e-6)
    assert not (out / "overlays").exists()
    cut = {path.name for path in (out / "cutouts").iterdir()}
    assert cut == {f"{Path(r['path']).stem}.{s['label']}.png" for r in records[:2] for s in r["segments"]}
    assert len(json.loads((out / "coco.json").read_text())["images"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-l", "cat"], "no pictures given"),
        (["x.png"], "no labels"),
        (["x.png", "-l", "cat", "--save", "mask"], "need --save-to DIR"),
        (["x.png", "-l", "cat", "--save-to", "out", "--cutout", "dog"], "not one of the labels"),
        (["x.png", "-l", "cat|a,dog|a"], "stands for"),
        (["x.png", "-l", "cat", "--method", "magic"], "magic"),
        (["x.png", "-l", "cat", "--threshold", "2"], "threshold"),
    ],
)
def test_usage_errors(arguments, message):
    """A request that makes no sense ends with exit code 2 and says why."""
    done = clipkit("segment", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_models_that_are_not_here(pictures):
    """Missing pipeline weights end with exit code 4 and one line that says what to run."""
    for method, remedy in (("groupvit", "hf download"), ("clipseg", "hf download"), ("lseg", "--weights FILE")):
        done = clipkit("segment", pictures / "a.png", "-l", "cat", "--method", method)
        assert done.exit_code == 4
        assert remedy in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_a_model_without_patches_says_which_work(pictures, tmp_path):
    """A tower without patch tokens ends with one line that names models and methods that work."""
    folder = make_tiny_clip(tmp_path / "pooled", "vit", vision_cfg={"attentional_pool": True, "attn_pooler_heads": 2})
    done = clipkit("segment", pictures / "a.png", "-l", "cat", "-m", folder)
    assert done.exit_code == 1
    assert "ViT-B-16" in done.stderr


@pytest.fixture
def judged(pictures, tmp_path):
    """Reference masks for the photos: left half class 7, right half 9, a strip of 255, one number unknown."""
    masks = tmp_path / "masks"
    masks.mkdir()
    for name, (height, width) in (("a", (60, 90)), ("b", (80, 50))):
        mask = np.full((height, width), 7, np.uint8)
        mask[:, width // 2 :] = 9
        mask[:5] = 255
        mask[5:8] = 100
        Image.fromarray(mask).save(masks / f"{name}.png")
    table = tmp_path / "classes.yaml"
    table.write_text("# numbers\nclasses:\n  7: cat|kitten\n  9: dog\n  0: background\n")
    return pictures, masks, table


def test_bench_segment_prints_one_record(judged, model):
    """The record has mIoU, pixel accuracy, every class, the count and the speed."""
    pictures, masks, table = judged
    done = clipkit("bench", "segment", pictures, masks, "--classes", table, *small(model))
    assert done.exit_code == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["task"] == "bench segment"
    assert record["count"] == 2
    assert [score["label"] for score in record["per_class"]] == ["background", "cat", "dog"]
    assert 0 <= record["miou"] <= 1
    assert record["per_second"] > 0


def test_bench_segment_names_what_does_not_fit(judged, model):
    """A mask without a picture and a mask of another size are failures; the rest is measured."""
    pictures, masks, table = judged
    Image.new("L", (4, 4)).save(masks / "z.png")
    Image.new("L", (4, 4)).save(masks / "b.png")
    done = clipkit("bench", "segment", pictures, masks, "--classes", table, *small(model))
    assert done.exit_code == 3
    *failures, score = [json.loads(line) for line in done.stdout.splitlines()]
    assert {failure["error"]["kind"] for failure in failures} == {"no_image", "size_mismatch"}
    assert score["count"] == 1


def test_help_shows_examples():
    """Both commands have help with examples."""
    for command in (["segment"], ["bench", "segment"]):
        done = clipkit(*command, "--help")
        assert done.exit_code == 0
        assert "clipkit " + " ".join(command) in done.stdout
