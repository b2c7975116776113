"""Files of depth: exact maps, clouds that project back, previews that say what they show."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from clipkit.depth.camera import exif_fov, focal_of, fov_of, points_of
from clipkit.depth.truth import depth_of, find_pairs, read_depth
from clipkit.errors import InputError, OutputError, UsageError
from clipkit.media.paths import Source
from clipkit.output.depth_files import DepthFiles, write_metres, write_millimetres
from clipkit.output.depth_view import COLOURS, preview, shown_span, side_by_side, table, ticks
from clipkit.output.pointcloud import VERTEX, write_ply
from clipkit.tasks.depth import Depth


def a_depth(height=12, width=16, path="room.jpg", **changes):
    rng = np.random.default_rng(0)
    settings = {
        "path": path,
        "model": "m",
        "weights": "0" * 12,
        "method": "given",
        "metric": True,
        "map": rng.uniform(0.5, 5, (height, width)).astype(np.float32),
        "image": rng.integers(0, 256, (height, width, 3), np.uint8),
        "fov": 70.0,
        "fov_source": "given",
    }
    return Depth(**settings | changes)


def read_ply(path):
    """A reader of its own: header lines, then packed vertices."""
    head, _, body = path.read_bytes().partition(b"end_header\n")
    lines = head.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = next(int(line.split()[2]) for line in lines if line.startswith("element vertex"))
    properties = [tuple(line.split()[1:]) for line in lines if line.startswith("property")]
    assert properties == [(k, n) for k, n in zip(["float"] * 3 + ["uchar"] * 3, VERTEX.names, strict=True)]
    vertices = np.frombuffer(body, VERTEX)
    assert len(vertices) == count
    return vertices


def test_npy_round_trip(tmp_path):
    """Metres come back bit for bit."""
    depth = a_depth().map
    write_metres(tmp_path / "a.npy", depth)
    back = np.load(tmp_path / "a.npy")
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, depth)
    np.testing.assert_array_equal(read_depth(tmp_path / "a.npy"), depth)


def test_png_round_trip(tmp_path):
    """Millimetres come back within half a millimetre; what 16 bits cannot say is 0, none."""
    depth = np.array([[0.0, 1.2344, 2.7506, 65.535], [65.6, 80.0, math.nan, math.inf]], np.float32)
    write_millimetres(tmp_path / "a.png", depth)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "I;16"
        assert np.asarray(image).tolist() == [[0, 1234, 2751, 65535], [0, 0, 0, 0]]
    back = read_depth(tmp_path / "a.png")
    np.testing.assert_allclose(back[0], depth[0], atol=5.1e-4)
    assert back[1].tolist() == [0, 0, 0, 0]


def test_points_project_back():
    """Every point, seen through the same pinhole, falls on its pixel; its z is the depth."""
    depth = a_depth(30, 41).map
    focal = focal_of(70.0, 41)
    points = points_of(depth, 70.0)
    for row, column in [(0, 0), (29, 40), (7, 31), (15, 20)]:
        x, y, z = points[row, column]
        assert z == depth[row, column]
        assert x / z * focal + 20 == pytest.approx(column, abs=1e-4)
        assert y / z * focal + 14.5 == pytest.approx(row, abs=1e-4)
    assert points[0, 0, 0] < 0 < points[0, 40, 0]
    assert points[0, 0, 1] < 0 < points[29, 0, 1]
    np.testing.assert_array_equal(points_of(depth, 70.0, 3), points[::3, ::3])
    assert fov_of(focal, 41) == pytest.approx(70.0)
    # The border rays of a picture are half the field of view off the axis.
    assert math.degrees(math.atan(20.5 / focal)) == pytest.approx(35.0)


def test_cloud_round_trip(tmp_path):
    """The file has every point and colour in order; points in the camera itself or without a place are left out."""
    points = np.array([[1, 2, 3], [0, 0, 0], [4, 5, 6], [np.nan, 1, 1]], np.float32)
    colours = np.array([[1, 2, 3], [9, 9, 9], [4, 5, 6], [8, 8, 8]], np.uint8)
    write_ply(tmp_path / "a.ply", points, colours)
    vertices = read_ply(tmp_path / "a.ply")
    assert [vertices[name].tolist() for name in ("x", "y", "z")] == [[1, 4], [2, 5], [3, 6]]
    assert [vertices[name].tolist() for name in ("red", "green", "blue")] == [[1, 4], [2, 5], [3, 6]]


def test_all_files_of_a_run(tmp_path):
    """Each kind lies in its folder under the input's name; namesakes are told apart; the record names the exact map."""
    files = DepthFiles(tmp_path / "out", ["npy", "png", "preview", "side", "cloud"], points=50)
    first, second = files.saved(iter([a_depth(), a_depth(path="other/room.png")]))
    assert first.depth == str(tmp_path / "out" / "depth" / "room.npy")
    assert second.record()["depth"].endswith("room-2.npy")
    found = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")}
    kinds = {"depth/{}.npy", "depth/{}.png", "preview/{}.png", "side/{}.png", "clouds/{}.ply"}
    assert found == {kind.format(stem) for kind in kinds for stem in ("room", "room-2")}
    assert len(read_ply(tmp_path / "out" / "clouds" / "room.ply")) == 6 * 8  # every second of 12 x 16
    with Image.open(tmp_path / "out" / "side" / "room.png") as side:
        assert side.width > 16 + 16
    assert DepthFiles(tmp_path / "png", ["png"]).save(a_depth()).depth.endswith("room.png")
    assert DepthFiles(tmp_path / "none", ["preview"]).save(a_depth()).depth is None


def test_files_that_cannot_be(tmp_path):
    """Unknown kinds, spans the wrong way round and folders that are files are refused before anything runs."""
    with pytest.raises(UsageError, match="cannot save 'exr'"):
        DepthFiles(tmp_path, ["exr"])
    with pytest.raises(UsageError, match="--span 3 1"):
        DepthFiles(tmp_path, ["npy"], span=(3, 1))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        DepthFiles(tmp_path / "file")


@pytest.mark.parametrize("colours", COLOURS)
def test_preview_orders_by_depth(colours):
    """Nearest takes the last colour of the table and farthest the first; the bar runs from near to far."""
    depth = np.linspace(1, 3, 300 * 200, dtype=np.float32).reshape(200, 300)
    drawn = np.asarray(preview(depth, metric=True, colours=colours, span=(1, 3)))
    assert drawn.shape[1] == 300
    assert drawn.shape[0] > 200
    np.testing.assert_array_equal(drawn[0, 0], table(colours)[255])
    np.testing.assert_array_equal(drawn[199, 299], table(colours)[0])
    bar = drawn[200 + 12]
    near = np.flatnonzero((bar == table(colours)[255]).all(axis=1))
    far = np.flatnonzero((bar == table(colours)[0]).all(axis=1))
    assert near.min() < far.max()


def test_preview_says_whether_metres_were_trained():
    """Words' metres are labelled as such: the legends differ."""
    depth = a_depth(100, 300).map
    trained, words = preview(depth, metric=True), preview(depth, metric=False)
    assert trained.size == words.size
    assert not np.array_equal(np.asarray(trained)[100:], np.asarray(words)[100:])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 900), (900, 1), (3, 5)])
def test_preview_of_any_shape(height, width):
    """Flat maps, single pixels and strips draw without a division by zero."""
    drawn = preview(np.full((height, width), 2.0, np.float32), metric=True)
    assert drawn.width >= 240
    assert side_by_side(np.zeros((height, width, 3), np.uint8), drawn).width > drawn.width
    assert preview(np.zeros((3000, 2000), np.float32), metric=True).width <= 1600


def test_span_ignores_single_outliers():
    """One wild pixel does not take the colours from all the others."""
    depth = np.linspace(1, 2, 10000, dtype=np.float32)
    depth[0] = 500
    low, high = shown_span(depth)
    assert 1.0 < low < 1.05 < 1.95 < high < 2.0


def test_nearly_flat_maps_look_flat():
    """Differences of a millimetre at two metres do not get all the colours."""
    depth = np.full((64, 64), 2.0, np.float32)
    depth[:32] += 0.001
    low, high = shown_span(depth)
    assert high - low == pytest.approx(0.2, rel=1e-3)
    drawn = np.asarray(preview(depth, metric=True), np.int64)
    row = (drawn.shape[1] - 64) // 2
    assert np.abs(drawn[0, row] - drawn[63, row]).max() < 16
    assert shown_span(np.zeros((2, 2), np.float32)) == (0.0, pytest.approx(5e-4))


@pytest.mark.parametrize(("low", "high"), [(1.0, 3.0), (0.512, 0.519), (0.0, 80.0), (1.3, 1.301), (2.0, 1234.0)])
def test_ticks_are_round_and_few(low, high):
    """At least two and at most eight numbers within the span, evenly spaced by 1, 2 or 5 times a power of ten."""
    found = ticks(low, high)
    assert 2 <= len(found) <= 8
    assert found[0] >= low - 1e-6
    assert found[-1] <= high + 1e-6
    steps = np.diff(found)
    np.testing.assert_allclose(steps, steps[0])
    assert f"{steps[0]:.3e}"[:5] in {"1.000", "2.000", "5.000"}


def test_exif_focal_length():
    """FocalLengthIn35mmFilm compares diagonals; without it, and in damaged files, nothing is known."""
    image = Image.new("RGB", (36, 24))
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 35
    stream = io.BytesIO()
    image.save(stream, "JPEG", exif=exif)
    source = Source("a.jpg", None, stream.getvalue())
    # On a 3:2 picture a 35 mm lens sees what it sees on film.
    assert exif_fov(source, 36, 24) == pytest.approx(2 * math.degrees(math.atan(18 / 35)))
    assert exif_fov(source, 24, 36) == pytest.approx(2 * math.degrees(math.atan(12 / 35)))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    assert exif_fov(Source("a.png", None, stream.getvalue()), 36, 24) is None
    assert exif_fov(Source("a.jpg", None, b"no picture"), 36, 24) is None
    assert exif_fov(Source("-", None), 36, 24) is None


def test_pairs_by_every_layout(tmp_path):
    """`NAME_depth`, NYU's names, sibling folders and a CSV all find the map; lone photographs are passed over."""
    for name in ("a/x.jpg", "nyu/rgb_00045.jpg", "tum/rgb/7.png", "c/NYU_color.ppm", "lone.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("a/x_depth.png", "nyu/sync_depth_00045.png", "tum/depth/7.npy", "c/NYU_depth.pgm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = {pair.photo.path.name: pair.depth.name for pair in find_pairs(tmp_path)}
    assert found == {
        "x.jpg": "x_depth.png",
        "rgb_00045.jpg": "sync_depth_00045.png",
        "7.png": "7.npy",
        "NYU_color.ppm": "NYU_depth.pgm",
    }
    assert depth_of(tmp_path / "lone.jpg") is None
    (tmp_path / "pairs.csv").write_text("path,depth\na/x.jpg,c/NYU_depth.pgm\n", encoding="utf-8")
    (pair,) = find_pairs(tmp_path / "pairs.csv")
    assert pair.depth == tmp_path / "c" / "NYU_depth.pgm"
    (tmp_path / "bad.csv").write_text("photo,depth\n", encoding="utf-8")
    for wrong in ("bad.csv", "nowhere"):
        with pytest.raises(UsageError):
            find_pairs(tmp_path / wrong)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="NAME_depth.png"):
        find_pairs(tmp_path / "empty")


def test_measured_maps_in_other_units(tmp_path):
    """Integers are divided by the scale, arrays of floats are metres, NaN is a hole."""
    Image.fromarray(np.array([[5000, 0]], np.uint16)).save(tmp_path / "tum.png")
    assert read_depth(tmp_path / "tum.png", 5000).tolist() == [[1.0, 0.0]]
    np.save(tmp_path / "m.npy", np.array([[1.5, np.nan]], np.float64))
    assert read_depth(tmp_path / "m.npy", 5000).tolist() == [[1.5, 0.0]]


def test_measured_maps_that_cannot_be_read(tmp_path):
    """Missing, cut, coloured and three-dimensional maps: one line that names the file."""
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.new("RGB", (4, 4)).save(tmp_path / "colour.png")
    np.save(tmp_path / "deep.npy", np.zeros((2, 2, 2)))
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "bomb.pgm").write_bytes(b"P5 60000 60000 255\n")
    for name, kind in (
        ("gone.png", "not_found"),
        ("cut.png", "corrupt"),
        ("colour.png", "corrupt"),
        ("deep.npy", "not_depth"),
        ("cut.npy", "corrupt"),
        ("bomb.pgm", "corrupt"),
    ):
        with pytest.raises(InputError, match=name) as caught:
            read_depth(tmp_path / name)
        assert caught.value.kind == kind
