"""`clipkit depth` and `clipkit bench depth` from the command line."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from clipkit.cli.app import app
from clipkit.output.depth_files import write_millimetres


def invoke(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


def test_records_and_files(photos, tiny_folders):
    """Every kind of file, and a record a picture that names the exact map, whose range it tells."""
    kinds = [part for kind in ("npy", "png", "preview", "side", "cloud") for part in ("--save", kind)]
    done = invoke(
        "depth", photos, "-m", tiny_folders["resnet"], "--size", 64, "--upsample", "guided", "--span", 0, 5,
        "--save-to", photos / "out", *kinds, "--fov", 75,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["path"] for record in records] == [str(photos / "a.png"), str(photos / "b.png")]
    for record in records:
        depth = np.load(record["depth"])
        assert depth.shape == (48, 64)
        assert record["min"] == pytest.approx(depth.min(), abs=1e-4)
        assert record["max"] == pytest.approx(depth.max(), abs=1e-4)
        assert 1 <= record["min"] <= record["mean"] <= record["max"] <= 3
        assert record["metric"] is False
        assert (record["fov"], record["fov_source"]) == (75, "given")
    assert len(list((photos / "out").rglob("*.*"))) == 10


def test_own_words(photos, tiny_folders):
    """Words and bins of one's own set the range."""
    done = invoke(
        "depth", photos / "a.png", "-m", tiny_folders["vit"], "--method", "depthclip-dense", "--words", "near, far",
        "--bins", "10,20", "--temperature", 5, "-t", "It is {}.",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert 10 <= json.loads(done.stdout)["mean"] <= 20


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "no pictures given"),
        (("x.png", "--save", "npy"), "--save needs --save-to"),
        (("x.png", "--words", "near,far"), "2 words but 7 bins"),
        (("x.png", "--bins", "1,b"), "expected distances in metres"),
        (("x.png", "--save-to", "out", "--span", "3", "1"), "--span 3 1"),
        (("x.png", "-t", "no place"), "no template set or file"),
    ],
)
def test_requests_that_make_no_sense(args, said):
    """One line, exit code 2, before any model loads."""
    done = invoke("depth", *args)
    assert done.exit_code == 2
    assert said in done.stderr


def test_methods_that_are_not_here(photos, tiny_folders):
    """A metric model that was not fetched is exit code 4 with the command that fetches it; a wrong tower is 1."""
    done = invoke("depth", photos / "a.png", "--method", "depth-anything")
    assert done.exit_code == 4
    assert "is not on this machine" in done.stderr
    done = invoke("depth", photos / "a.png", "--method", "depthclip", "-m", tiny_folders["vit"])
    assert done.exit_code == 1
    assert "depthclip-dense" in done.stderr


def test_bench(photos, tiny_folders):
    """One record with the figures, those after median scaling, and the baseline's."""
    for name in ("a", "b"):
        write_millimetres(photos / f"{name}_depth.png", np.full((48, 64), 2.0, np.float32))
    done = invoke("bench", "depth", photos, "--crop", "none", "-m", tiny_folders["resnet"], "--size", 64, "-f", "jsonl")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["count"] == 2
    assert record["baseline"]["abs_rel"] == pytest.approx((15 / 7 - 2) / 2, abs=1e-5)
    assert record["baseline"]["median_scaled"]["rmse"] == 0
    done = invoke("bench", "depth", photos, "-m", tiny_folders["resnet"])
    assert done.exit_code == 1
    assert "640 x 480" in done.output
    done = invoke("bench", "depth", photos, "--min-depth", 5, "--max-depth", 2)
    assert done.exit_code == 2
    assert invoke("bench", "depth", photos / "nowhere").exit_code == 2
