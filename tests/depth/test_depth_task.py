"""`depth` and `bench depth` as tasks: one outcome an input, records, fields of view, means over pictures."""

import io

import numpy as np
import pytest
from PIL import Image

from clipkit.depth.estimator import Estimate
from clipkit.depth.protocol import Protocol
from clipkit.depth.truth import find_pairs
from clipkit.errors import UsageError
from clipkit.media.paths import Source
from clipkit.output.depth_files import write_millimetres
from clipkit.results import Failure, Result
from clipkit.tasks import bench_depth
from clipkit.tasks.depth import Choice, Depth, DepthOptions, open_estimator, run, see


class Ramp:
    """Depth grows from 1 m on the left to 3 m on the right, whatever the picture."""

    id, weights_hash, method, metric, flips = "ramp", "abc", "given", False, False

    def __init__(self, fov=None):
        self.fov = fov

    def estimate(self, image):
        return Estimate(np.array([[1.0, 3.0]], np.float32), corners=True, fov=self.fov)


def picture(width=8, height=6, focal=None):
    image = Image.new("RGB", (width, height), (200, 100, 50))
    exif = Image.Exif()
    if focal:
        exif.get_ifd(0x8769)[0xA405] = focal
    stream = io.BytesIO()
    image.save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def test_one_outcome_an_input_in_order():
    """Pictures give maps, broken ones and those that were no files give failures, in their places."""
    inputs = [
        Source("a.jpg", None, picture()),
        Source("b.jpg", None, b"nonsense"),
        Failure("c.jpg", "not_found", "no such file"),
        Source("d.jpg", None, picture(20, 10)),
    ]
    first, second, third, fourth = run(iter(inputs), DepthOptions(), Ramp(), workers=0)
    assert isinstance(first, Result)
    assert first.map.shape == (6, 8)
    assert (second.kind, second.task, second.model) == ("not_an_image", "depth", "ramp")
    assert (third.kind, third.weights) == ("not_found", "abc")
    assert fourth.map.shape == (10, 20)


def test_record():
    """The fields a script reads; the range is the map's."""
    found = see(np.zeros((4, 5, 3), np.uint8), DepthOptions(), Ramp(), path="a.jpg")
    assert found.record() == {
        "schema": 1,
        "task": "depth",
        "path": "a.jpg",
        "model": "ramp",
        "weights": "abc",
        "method": "given",
        "depth": None,
        "min": 1.0,
        "mean": 2.0,
        "max": 3.0,
        "metric": False,
        "fov": 60.0,
        "fov_source": "assumed",
    }
    (row,) = found.rows()
    assert dict(zip(Depth.columns, row, strict=True))["max"] == 3.0


def test_field_of_view_by_precedence():
    """What is given wins over EXIF, EXIF over the model, the model over the assumption; the record says which."""
    with_exif, without = Source("a", None, picture(36, 24, focal=35)), Source("a", None, picture())
    for source, asked, seen, expected in (
        (with_exif, 80.0, 40.0, (80.0, "given")),
        (with_exif, None, 40.0, (pytest.approx(54.432, abs=1e-3), "exif")),
        (without, None, 40.0, (40.0, "model")),
        (without, None, None, (60.0, "assumed")),
    ):
        (found,) = run(iter([source]), DepthOptions(fov=asked), Ramp(seen), workers=0)
        assert (found.fov, found.fov_source) == expected


def test_choice_opens_what_it_names(tiny_folders):
    """Each CLIP method on each tower it fits; names that are no method are refused."""
    assert open_estimator(Choice("depthclip", model=tiny_folders["resnet"])).method == "depthclip"
    for kind in ("resnet", "vit"):
        assert open_estimator(Choice("depthclip-dense", model=tiny_folders[kind])).method == "depthclip-dense"
        assert open_estimator(Choice(model=tiny_folders[kind])).method in {"depthclip", "depthclip-dense"}
    with pytest.raises(UsageError, match="unknown depth method 'midas'"):
        open_estimator(Choice("midas"))


@pytest.fixture
def pairs(tmp_path):
    """Two pictures of 8 x 6: the first was measured as the ramp itself, the second as twice the ramp."""
    ramp = np.broadcast_to(np.linspace(1, 3, 8, dtype=np.float32), (6, 8))
    for name, factor in (("one", 1), ("two", 2)):
        (tmp_path / f"{name}.jpg").write_bytes(picture())
        write_millimetres(tmp_path / f"{name}_depth.png", ramp * factor)
    return tmp_path


def test_bench_is_the_mean_of_pictures(pairs):
    """A perfect map and one at half the distance: the numbers are their mean; scaling makes both perfect."""
    options = bench_depth.BenchOptions(Protocol("none"))
    (found,) = bench_depth.run(find_pairs(pairs), "set", options, Ramp())
    assert found.count == 2
    assert found.found.plain.delta1 == pytest.approx(0.5)
    assert found.found.plain.abs_rel == pytest.approx(0.25, abs=1e-3)
    assert found.found.scaled.delta1 == 1
    assert found.found.scaled.abs_rel == pytest.approx(0, abs=1e-3)
    # The baseline by hand, from the same 48 pixels.
    ramp = np.linspace(1, 3, 8)
    rels = [np.mean(np.abs(15 / 7 - factor * ramp) / (factor * ramp)) for factor in (1, 2)]
    assert found.baseline.plain.abs_rel == pytest.approx(np.mean(rels), abs=1e-3)
    record = found.record()
    assert record["task"] == "bench depth"
    assert record["delta1"] == 0.5
    assert record["median_scaled"]["delta1"] == 1
    assert record["baseline"]["constant"] == 2.1429
    assert {"delta1", "abs_rel", "rmse", "log10", "median_scaled", "baseline", "count", "per_second"} <= set(record)
    rows = list(found.rows())
    assert [row[1:3] for row in rows] == [
        ("given", "none"),
        ("given", "median"),
        ("constant 2.14 m", "none"),
        ("constant 2.14 m", "median"),
    ]
    assert all(len(row) == len(found.columns) for row in rows)


def test_bench_passes_over_what_it_cannot_use(pairs):
    """A map of another size, a missing map and a broken picture are failures; the rest is measured."""
    write_millimetres(pairs / "two_depth.png", np.ones((5, 8), np.float32))
    (pairs / "three.jpg").write_bytes(b"nonsense")
    (pairs / "list.csv").write_text(
        "path,depth\none.jpg,one_depth.png\ntwo.jpg,two_depth.png\nthree.jpg,one_depth.png\none.jpg,gone.png\n",
        encoding="utf-8",
    )
    options = bench_depth.BenchOptions(Protocol("none"))
    *failures, found = bench_depth.run(find_pairs(pairs / "list.csv"), "set", options, Ramp())
    assert [failure.kind for failure in failures] == ["wrong_size", "not_an_image", "not_found"]
    assert all(failure.task == "bench depth" for failure in failures)
    assert found.count == 1
    assert found.found.plain.delta1 == 1


def test_bench_of_nothing_usable(pairs):
    """With the NYU crop on other sizes nothing can be measured: failures and no figures."""
    outcomes = list(bench_depth.run(find_pairs(pairs), "set", bench_depth.BenchOptions(), Ramp()))
    assert [outcome.kind for outcome in outcomes] == ["wrong_size", "wrong_size"]
