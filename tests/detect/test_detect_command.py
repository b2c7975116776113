"""`clipkit detect` and `clipkit bench detect` from the command line, with a tiny random model and fixed answers."""

import json

import numpy as np
import pytest
from detect_stand import FixedDetector, scene
from PIL import Image
from tiny import make_tiny_clip
from typer.testing import CliRunner

from clipkit.cli.app import app
from clipkit.tasks.bench_detect import run as bench
from clipkit.tasks.detect import DetectOptions
from clipkit.tasks.detect_truth import read_truth


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a random ResNet CLIP."""
    return str(make_tiny_clip(tmp_path_factory.mktemp("model"), "resnet"))


@pytest.fixture
def pictures(tmp_path):
    """Two pictures, and their boxes as YOLO files."""
    for folder in ("images", "boxes"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b"):
        Image.fromarray(scene()).save(tmp_path / "images" / f"{name}.png")
        (tmp_path / "boxes" / f"{name}.txt").write_text(
            "0 0.25 0.458333 0.25 0.416667\n3 0.75 0.333333 0.25 0.333333\n"
        )
    (tmp_path / "classes.yaml").write_text("names:\n  0: red thing\n  3: blue thing\n")
    return tmp_path


def call(*arguments):
    """Run in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments], prog_name="clipkit")


@pytest.mark.parametrize("method", ["clip", "vild"])
def test_records_and_files(pictures, model, method):
    """Each picture has one record with boxes inside it, labels of the list, and its files."""
    out = pictures / "out"
    done = call(
        "detect", pictures / "images", "-l", "red thing,blue thing", "--model", model, "--method", method,
        "--min-score", "0", "--max-detections", "5", "--templates", "none", "--save-to", out, "--save", "yolo", "--save", "overlay",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(records) == 2
    for record in records:
        assert record["task"] == "detect"
        assert 0 < len(record["detections"]) <= 5
        for found in record["detections"]:
            x0, y0, x1, y1 = found["box"]
            assert found["label"] in {"red thing", "blue thing"}
            assert 0 <= x0 < x1 <= 160 and 0 <= y0 < y1 <= 120
            assert 0 <= found["score"] <= 1
    assert sorted(p.name for p in (out / "yolo" / "labels").iterdir()) == ["a.txt", "b.txt"]
    assert sorted(p.name for p in (out / "overlays").iterdir()) == ["a.png", "b.png"]


def test_an_empty_answer_is_a_record(pictures, model):
    """Nothing above the score: an empty list in JSONL, a row of empty cells in CSV, exit code 0."""
    common = ("detect", pictures / "images" / "a.png", "-l", "x", "--model", model, "--min-score", "1", "-t", "none")
    done = call(*common)
    assert (done.exit_code, json.loads(done.stdout)["detections"]) == (0, [])
    rows = call(*common, "--format", "csv").stdout.splitlines()
    assert rows[0] == "path,label,score,x0,y0,x1,y1,error"
    assert rows[1].endswith(",,,,,,,")


def test_options_of_another_method_are_refused(pictures):
    """An option that would do nothing is a usage error that names the method it is for."""
    one = pictures / "images" / "a.png"
    for arguments, message in (
        (("--proposals", "dense"), "--method vild"),
        (("--method", "vild", "--no-crops"), "--method clip"),
        (("--method", "owlv2", "-t", "photo"), "--method clip or vild"),
        (("--method", "clip", "--weights", "x"), "--model"),
        (("--method", "vild", "--proposals", "selective", "--flip"), "--proposals dense"),
        (("--save", "yolo"), "--save-to"),
    ):
        done = call("detect", one, "-l", "x", *arguments)
        assert done.exit_code == 2
        assert message in " ".join(done.stderr.split())


def test_perfect_boxes_score_one(pictures):
    """A detector that answers the reference has AP, AP50, AR and CorLoc 1; the wrong labels have 0."""
    truth = read_truth(pictures / "images", pictures / "boxes", pictures / "classes.yaml")
    right = [[20, 30, 60, 80], [100, 20, 140, 60]]
    (score,) = bench(truth, DetectOptions(), FixedDetector(("red thing", "blue thing"), right, [0.9, 0.8], [0, 1]))
    assert (score.ap50, score.corloc, score.count) == (1, 1, 2)
    assert score.ap == pytest.approx(1) and score.ar == pytest.approx(1)
    assert [(c.label, c.count) for c in score.per_class] == [("red thing", 2), ("blue thing", 2)]
    (score,) = bench(truth, DetectOptions(), FixedDetector(("red thing", "blue thing"), right, [0.9, 0.8], [1, 0]))
    assert (score.ap, score.ap50, score.ar, score.corloc) == (0, 0, 0, 0)


def test_precision_counts_by_hand(pictures):
    """One of two boxes of one label found, above a false one: AP50 is 51/101 and AR 0.5 for it."""
    truth = read_truth(pictures / "images", pictures / "boxes", pictures / "classes.yaml", only="0")
    (pictures / "boxes" / "b.txt").write_text("0 0.8 0.8 0.2 0.2\n")
    found = FixedDetector(("red thing",), [[20, 30, 60, 80], [0, 0, 9, 9]], [0.9, 0.1], [0, 0])
    (score,) = bench(truth, DetectOptions(), found)
    # Recall .5 is reached by the first pair of equal scores, one of which is true and comes first in the list.
    assert score.ap50 == pytest.approx(51 / 101)
    assert score.ar == pytest.approx(0.5)
    assert score.corloc == 0.5


def test_coco_and_yolo_references_agree(pictures):
    """The same boxes from a COCO file and from YOLO files are the same reference; a missing picture is a failure."""
    annotations = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 9, "file_name": "gone.png"}],
        "categories": [{"id": 5, "name": "red thing"}, {"id": 6, "name": "blue thing"}],
        "annotations": [
            {"image_id": 7, "category_id": 5, "bbox": [20, 30, 40, 50]},
            {"image_id": 7, "category_id": 6, "bbox": [100, 20, 40, 40], "iscrowd": 1},
        ],
    }
    (pictures / "coco.json").write_text(json.dumps(annotations))
    coco = read_truth(pictures / "images", pictures / "coco.json")
    yolo = read_truth(pictures / "images", pictures / "boxes", pictures / "classes.yaml")
    assert np.allclose(coco.boxes(0, 160, 120).boxes, yolo.boxes(0, 160, 120).boxes, atol=1e-3)
    assert coco.boxes(0, 160, 120).crowd.tolist() == [False, True]
    failure, score = bench(
        coco, DetectOptions(), FixedDetector(("red thing", "blue thing"), [[20, 30, 60, 80]], [0.9], [0])
    )
    assert failure.kind == "no_image"
    assert [c.label for c in score.per_class] == ["red thing"]


def test_bench_command(pictures):
    """The chance baseline needs no model: one record, whose numbers are shares; stdout holds nothing else."""
    done = call(
        "bench",
        "detect",
        pictures / "images",
        pictures / "boxes",
        "--classes",
        pictures / "classes.yaml",
        "--method",
        "chance",
    )
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["task"] == "bench detect"
    assert all(0 <= record[name] <= 1 for name in ("ap", "ap50", "ar", "corloc"))


@pytest.mark.parametrize("content", ["0 1 2", "a b c d e", "0 nan 1 1 1"])
def test_a_bad_reference_line_is_a_failure(pictures, content):
    """A line that is no box fails its picture and names the line; the others are measured."""
    (pictures / "boxes" / "a.txt").write_text(content)
    truth = read_truth(pictures / "images", pictures / "boxes", pictures / "classes.yaml")
    failure, score = bench(truth, DetectOptions(), FixedDetector(("red thing", "blue thing"), [], [], []))
    assert "line 1" in failure.message
    assert score.count == 1
