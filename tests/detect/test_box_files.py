"""Files of boxes: what other tools read back is what was found, and empty pictures are not lost."""

import json

import numpy as np
import pytest
from detect_stand import scene
from PIL import Image

from clipkit.errors import OutputError, UsageError
from clipkit.output.box_files import KINDS, BoxFiles
from clipkit.output.box_overlay import box_overlay
from clipkit.output.palette import palette
from clipkit.results import Failure
from clipkit.tasks.detect import Detection, Detections

LABELS = ("red thing", "blue/thing")
FOUND = (
    Detection("red thing", 1, 0.9, (20.0, 30.0, 60.0, 80.0)),
    Detection("blue/thing", 2, 0.625, (100.25, 20.0, 140.0, 60.5)),
)


def saved(tmp_path, *results):
    """Write everything."""
    files = BoxFiles(tmp_path / "out", LABELS, KINDS)
    list(files.saved(iter(results)))
    return tmp_path / "out"


def result(path, found=FOUND):
    """A result over the scene."""
    return Detections(path, "m", "w", scene(), found)


def test_coco_reads_back(tmp_path):
    """pycocotools loads data set and results; boxes, numbers, scores and the empty picture are all there."""
    coco = pytest.importorskip("pycocotools.coco")
    out = saved(tmp_path, result("x/000000000042.jpg"), result("b.jpg", ()), Failure("c", "k", "m"), result("d.jpg"))
    truth = coco.COCO(out / "coco.json")
    assert [i["file_name"] for i in truth.dataset["images"]] == ["x/000000000042.jpg", "b.jpg", "d.jpg"]
    assert sorted(truth.imgs) == [1, 2, 42]
    assert truth.getAnnIds(imgIds=[1]) == []
    back = truth.loadRes(str(out / "coco_results.json"))
    boxes = [a["bbox"] for a in back.loadAnns(back.getAnnIds(imgIds=[42]))]
    assert boxes == [[20, 30, 40, 50], [100.25, 20, 39.75, 40.5]]
    assert [c["name"] for c in truth.dataset["categories"]] == list(LABELS)


def test_coco_of_nothing_is_still_a_list(tmp_path):
    """A run without boxes writes an empty list and a data set with its pictures."""
    out = saved(tmp_path, result("b.jpg", ()))
    assert json.loads((out / "coco_results.json").read_text()) == []
    assert len(json.loads((out / "coco.json").read_text())["images"]) == 1


def test_yolo_reads_back(tmp_path):
    """Lines scaled by the picture's size are the boxes again; a picture without boxes has an empty file."""
    out = saved(tmp_path, result("a.jpg"), result("b.jpg", ()))
    rows = np.loadtxt(out / "yolo" / "labels" / "a.txt")
    centre, sides = rows[:, 1:3] * (160, 120), rows[:, 3:] * (160, 120)
    assert rows[:, 0].tolist() == [0, 1]
    assert np.allclose(np.hstack([centre - sides / 2, centre + sides / 2]), [d.box for d in FOUND], atol=1e-4)
    assert (out / "yolo" / "labels" / "b.txt").read_text() == ""
    assert '1: "blue/thing"' in (out / "yolo" / "data.yaml").read_text()


def test_labelme_reads_back(tmp_path):
    """Rectangles with two corners, the size, and a path that leads to the picture."""
    Image.fromarray(scene()).save(tmp_path / "a.png")
    out = saved(tmp_path, result(str(tmp_path / "a.png")))
    record = json.loads((out / "labelme" / "a.json").read_text())
    assert (out / "labelme" / record["imagePath"]).resolve() == tmp_path / "a.png"
    assert (record["imageWidth"], record["imageHeight"]) == (160, 120)
    assert [(s["label"], s["shape_type"]) for s in record["shapes"]] == [(d.label, "rectangle") for d in FOUND]
    assert record["shapes"][1]["points"] == [[100.25, 20.0], [140.0, 60.5]]


def test_crops_are_the_boxes(tmp_path):
    """Each box's pixels, in a folder of its label whose name any system takes."""
    out = saved(tmp_path, result("a.jpg"))
    assert (np.asarray(Image.open(out / "crops" / "red thing" / "a-1.png")) == scene()[30:80, 20:60]).all()
    assert Image.open(out / "crops" / "blue_thing" / "a-2.png").size == (40, 41)


def test_the_overlay_shows_every_box_and_name(tmp_path):
    """Edges have the label's colour, and boxes that lie on one another have plates that do not."""
    out = saved(tmp_path, result("a.jpg"))
    drawn = np.asarray(Image.open(out / "overlays" / "a.png"))
    scale = drawn.shape[1] / 160
    for found in FOUND:
        middle = int((found.box[1] + found.box[3]) / 2 * scale)
        assert tuple(drawn[middle, int(found.box[0] * scale) + 1]) == tuple(palette(3)[found.value])
    twice = [Detection("red thing", 1, 0.9, (0, 0, 160, 120)), Detection("blue/thing", 2, 0.8, (0, 0, 160, 120))]
    both = np.asarray(box_overlay(scene(), twice, 2)).reshape(-1, 3)
    assert all((both == palette(3)[value]).all(axis=1).sum() > 500 for value in (1, 2))


def test_an_error_leaves_no_data_set(tmp_path):
    """What spans the run does not appear when the run breaks."""
    files = BoxFiles(tmp_path / "out", LABELS, ["coco"])

    def broken():
        yield result("a.jpg")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        list(files.saved(broken()))
    assert not list((tmp_path / "out").glob("*"))


def test_bad_destinations_are_told(tmp_path):
    """A file in the folder's place, and a kind that is not known."""
    (tmp_path / "f").write_text("")
    with pytest.raises(OutputError, match="name a folder"):
        BoxFiles(tmp_path / "f", LABELS)
    with pytest.raises(UsageError, match="cannot save 'voc'"):
        BoxFiles(tmp_path / "g", LABELS, ["voc"])


def test_rows_and_records():
    """One row a box, one empty row for none; the record has the common header and rounded pixels."""
    assert [row[1:3] for row in result("a").rows()] == [("red thing", 0.9), ("blue/thing", 0.625)]
    assert list(result("a", ()).rows()) == [("a", *[""] * 6)]
    record = result("a").record()
    assert list(record)[:5] == ["schema", "task", "path", "model", "weights"]
    assert record["detections"][1] == {"label": "blue/thing", "score": 0.625, "box": [100.25, 20.0, 140.0, 60.5]}
