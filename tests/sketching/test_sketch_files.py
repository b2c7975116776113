"""Files: the SVG other programs draw the same, animations that end as the picture, photographs made ready."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from sketch_truth import random_strokes

from clipkit.errors import InputError, OutputError
from clipkit.media.paths import Source
from clipkit.sketching.files import SketchFiles
from clipkit.sketching.paint import paint
from clipkit.sketching.photo import load_mask, load_photo
from clipkit.sketching.pictures import gif_bytes, png_bytes, sheet
from clipkit.sketching.strokes import CANVAS, Strokes, hex_color
from clipkit.sketching.svg import animated_svg, svg


def strokes(count=8, *, colour=False, seed=2):
    rng = np.random.default_rng(seed)
    black = Strokes.black(random_strokes(count, CANVAS, seed, spread=0.6)[0].numpy(), 3.0)
    if not colour:
        return black
    color = rng.random((count, 3)).astype(np.float32)
    return Strokes(black.points, black.width * 2, color, np.linspace(0.4, 1, count, dtype=np.float32))


def rgb(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float32) / 255


@pytest.mark.parametrize("colour", [False, True])
def test_cairosvg_draws_the_same(colour):
    """At 224 pixels cairosvg's picture of the SVG is ours to a mean of 0.002."""
    cairosvg = pytest.importorskip("cairosvg")
    drawing = strokes(colour=colour)
    theirs = rgb(cairosvg.svg2png(svg(drawing).encode(), output_width=224, output_height=224))
    assert np.abs(theirs - paint(drawing, 224) / 255).mean() <= 2e-3


def test_resvg_draws_the_same():
    """At 224 pixels resvg's picture of the SVG is ours to a mean of 0.004."""
    resvg_py = pytest.importorskip("resvg_py")
    drawing = strokes(colour=True)
    theirs = rgb(bytes(resvg_py.svg_to_bytes(svg_string=svg(drawing), width=224, height=224)))
    assert np.abs(theirs - paint(drawing, 224) / 255).mean() <= 4e-3


def test_svg_is_plain():
    """One path a stroke with round caps and nothing but attributes every viewer knows."""
    root = ET.fromstring(svg(strokes(5)))
    names = [element.tag.rpartition("}")[2] for element in root]
    assert names == ["rect", *["path"] * 5]
    assert {e.get("stroke-linecap") for e in root if e.tag.endswith("path")} == {"round"}
    assert {e.get("stroke-width") for e in root if e.tag.endswith("path")} == {"3"}
    assert all(re.fullmatch(r"M [-\d.]+ [-\d.]+ C( [-\d.]+){6}", e.get("d")) for e in root if e.tag.endswith("path"))


def test_animated_svg_draws_in_order_and_ends_finished():
    """Delays follow the order; without animation the picture is the finished one."""
    drawing = strokes(4)
    text = animated_svg(drawing, [2, 0, 3, 1], seconds=4.0)
    delays = [float(d) for d in re.findall(r"animation-delay:([\d.]+)s", text)]
    assert delays == [1.0, 3.0, 0.0, 2.0]
    assert "stroke-dasharray" in text
    ET.fromstring(text)
    cairosvg = pytest.importorskip("cairosvg")
    still = rgb(cairosvg.svg2png(text.encode(), output_width=224, output_height=224))
    assert np.abs(still - paint(drawing, 224) / 255).mean() <= 2e-3


def test_gif_has_a_frame_a_stroke():
    """As many frames as strokes; the last is the finished picture and stands longest."""
    drawing = Strokes.black(60 + 0.4 * strokes(5, seed=6).points, 3.0)
    with Image.open(io.BytesIO(gif_bytes(drawing, [4, 1, 0, 3, 2], 96))) as gif:
        assert gif.n_frames == 5
        durations = []
        for k in range(5):
            gif.seek(k)
            durations.append(gif.info["duration"])
        last = np.asarray(gif.convert("RGB"), np.float32)
    assert max(durations) == durations[-1] == 2000
    assert np.abs(last - paint(drawing, 96)).mean() < 4


def test_png_at_any_size():
    """A larger picture shrinks to the smaller one; no strokes is white paper."""
    drawing = strokes()
    large = Image.fromarray(paint(drawing, 448)).resize((112, 112), Image.Resampling.BOX)
    assert np.abs(np.asarray(large, float) - paint(drawing, 112)).mean() < 1.0
    assert (paint(drawing.subset([]), 16) == 255).all()
    assert rgb(png_bytes(paint(drawing, 40))).shape == (40, 40, 3)
    tiled = sheet(np.zeros((32, 32, 3), np.float32), [("a", drawing), ("b", drawing)], 64, best=1)
    assert tiled.shape[1] == 3 * 72 + 8


def test_strokes_are_values():
    """Subsets, joins and colours are what they say."""
    drawing = strokes(4, colour=True)
    assert drawing.coloured
    assert len(drawing.subset([1, 3]).followed_by(drawing)) == 6
    assert hex_color(np.asarray([0, 0.5, 2.0], np.float32)) == "#0080ff"
    assert drawing.records()[0]["opacity"] == 0.4


def save(tmp_path, array, name="p.png"):
    path = tmp_path / name
    Image.fromarray(array).save(path)
    return Source(str(path), path)


def test_photographs_are_squared_not_squashed(tmp_path):
    """The long side fills the square, the rest is white padding that is not `inside`."""
    array = np.zeros((20, 40, 3), np.uint8)
    array[:, 20:] = 200
    photo = load_photo(save(tmp_path, array), 64)
    assert photo.rgb.shape == (64, 64, 3)
    assert photo.inside.sum() == 64 * 32
    assert (photo.rgb[:15] == 1).all()
    assert photo.alpha is None
    assert photo.original == (40, 20)


def test_alpha_is_kept_apart(tmp_path):
    """Transparency comes as alpha and the colours over white; padding is transparent."""
    array = np.full((40, 20, 4), 255, np.uint8)
    array[:20, :, :3] = 0
    array[30:, :, 3] = 0
    photo = load_photo(save(tmp_path, array), 40)
    assert photo.alpha[5, 20] == 1
    assert photo.alpha[38, 20] == 0
    assert photo.alpha[5, 0] == 0


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.zeros((1, 1, 3), np.uint8), "too_small"),
        (np.full((32, 32, 3), 90, np.uint8), "blank"),
        (
            np.dstack((np.random.default_rng(0).integers(0, 255, (32, 32, 3)), np.zeros((32, 32)))).astype(np.uint8),
            "transparent",
        ),
    ],
)
def test_pictures_with_nothing_to_draw(tmp_path, array, kind):
    """One pixel, one colour, and full transparency are told apart."""
    with pytest.raises(InputError) as error:
        load_photo(save(tmp_path, array), 64)
    assert error.value.kind == kind


def test_mask_files(tmp_path):
    """A grey mask is taken as it is; one of another shape or a missing one is refused by name."""
    mask = np.zeros((20, 40), np.uint8)
    mask[:, :20] = 255
    save(tmp_path, mask, "m.png")
    values = load_mask(tmp_path / "m.png", 40, (80, 40))
    assert values[20, 5] == 1
    assert values[20, 35] == 0
    assert values[2, 5] == 0
    with pytest.raises(InputError, match="one shape"):
        load_mask(tmp_path / "m.png", 40, (40, 40))
    with pytest.raises(InputError, match=r"none\.png"):
        load_mask(tmp_path / "none.png", 40, (40, 40))


def test_names_of_files(tmp_path):
    """A photograph is never overwritten, equal stems get numbers, an impossible folder is one clear error."""
    files = SketchFiles(tmp_path / "new" / "folder")
    assert files.place("a/photo.png", "png").name == "photo.sketch.png"
    assert files.place("b/photo.jpg", "png").name == "photo-2.sketch.png"
    assert files.place("a/photo.png", "svg").name == "photo.sketch.svg"
    assert files.place("-", "svg").name == "stdin.sketch.svg"
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot make"):
        SketchFiles(tmp_path / "file" / "below")
