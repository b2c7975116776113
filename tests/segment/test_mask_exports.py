"""Every export of a mask gives the mask back: palettes, run-length codes, polygons, COCO, YOLO, LabelMe, cut-outs."""

import json

import numpy as np
import pytest
from PIL import Image

from clipkit.errors import InputError
from clipkit.output import exchange, masks, polygons, rle
from clipkit.output.palette import palette
from clipkit.tasks.segment import Segment


def blobs(height, width, values, seed=0):
    """A mask of smooth random regions."""
    import cv2

    rng = np.random.default_rng(seed)
    fields = [cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), 4) for _ in range(values)]
    return np.argmax(np.reshape(fields, (values, height, width)), axis=0).astype(np.uint8)


def ring():
    """A class with a hole, in the hole another class, and corners that touch."""
    mask = np.zeros((12, 9), np.uint8)
    mask[1:8, 1:8] = 1
    mask[3:6, 3:6] = 0
    mask[4, 4] = 2
    mask[9, 1] = mask[10, 2] = mask[9, 3] = 1
    return mask


MASKS = {
    "empty": np.zeros((20, 30), np.uint8),
    "portrait": blobs(90, 40, 4),
    "landscape": blobs(40, 90, 3, seed=1),
    "one pixel": np.full((1, 1), 2, np.uint8),
    "one row": np.array([[1, 1, 0, 2, 2, 2, 1]], np.uint8),
    "full": np.ones((5, 4), np.uint8),
    "holes": ring(),
    "noise": np.random.default_rng(0).integers(0, 3, (25, 14)).astype(np.uint8),
}
each_mask = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)


def regions_of(mask):
    """The regions `segment` would list, found by loops."""
    found = []
    for value in np.unique(mask[mask > 0]):
        ys, xs = np.nonzero(mask == value)
        box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
        found.append(Segment(f"label {value}", int(value), len(ys) / mask.size, 0.5, box))
    return found


def fill(outlines, shape):
    """Even-odd filling at pixel centres: a pixel is inside where a ray to the left crosses outlines an odd number of times."""
    ys, xs = np.mgrid[0 : shape[0], 0 : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    for outline in outlines:
        for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
            if y0 != y1:
                inside ^= ((y0 <= ys) != (y1 <= ys)) & (x0 + (ys - y0) / (y1 - y0) * (x1 - x0) < xs)
    return inside


@each_mask
def test_index_png_round_trip(tmp_path, mask):
    """The PNG holds the values, and its palette the colours that the legend shows."""
    path = tmp_path / "mask.png"
    masks.write_index(path, mask, 4)
    np.testing.assert_array_equal(masks.read_index(path), mask)
    with Image.open(path) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), palette(4)[mask])


def test_sixteen_bit_masks_round_trip(tmp_path):
    """More than 255 classes are kept in 16 bits."""
    mask = np.arange(600, dtype=np.uint16).reshape(20, 30)
    masks.write_index(tmp_path / "mask.png", mask, 600)
    np.testing.assert_array_equal(masks.read_index(tmp_path / "mask.png"), mask)


def test_pictures_are_no_masks(tmp_path):
    """A colour picture, a broken file and a missing one are refused as masks."""
    Image.new("RGB", (3, 3)).save(tmp_path / "rgb.png")
    (tmp_path / "broken.png").write_bytes(b"not a png")
    for name, kind in (("rgb.png", "not_a_mask"), ("broken.png", "unreadable"), ("none.png", "not_found")):
        with pytest.raises(InputError) as error:
            masks.read_index(tmp_path / name)
        assert error.value.kind == kind


@each_mask
def test_run_lengths_round_trip(mask):
    """Coding and decoding a class gives it back, and pycocotools writes the same text."""
    coder = pytest.importorskip("pycocotools.mask")
    for value in range(3):
        binary = mask == value
        code = rle.encode(binary)
        np.testing.assert_array_equal(rle.decode(code), binary)
        theirs = coder.encode(np.asfortranarray(binary.astype(np.uint8)))
        assert code == {"size": list(mask.shape), "counts": theirs["counts"].decode()}


def test_long_and_backward_runs():
    """Runs longer than five bits and shorter than the run before the last survive the packing."""
    counts = [0, 5, 100000, 3, 1, 70000, 12345678, 0, 1]
    assert rle.unpack(rle.pack(counts)) == counts
    with pytest.raises(ValueError, match="sum to 3, not 2 x 2"):
        rle.decode({"size": [2, 2], "counts": [1, 2]})


@each_mask
def test_exact_polygons_fill_to_the_mask(mask):
    """Polygons of tolerance 0 fill back to each class exactly, holes and touching corners included."""
    for value in (1, 2):
        outlines = polygons.polygons(mask == value)
        np.testing.assert_array_equal(fill(outlines, mask.shape), mask == value)
        assert all(len(outline) >= 4 for outline in outlines)


def test_simple_polygons_stay_close():
    """With a tolerance of one pixel far fewer corners give nearly the same mask; single pixels survive."""
    mask = blobs(120, 160, 2) == 1
    exact, simple = polygons.polygons(mask), polygons.polygons(mask, 1.0)
    filled = fill(simple, mask.shape)
    assert (filled & mask).sum() / (filled | mask).sum() > 0.95
    assert abs(int(filled.sum()) - int(mask.sum())) < 0.01 * mask.sum()
    assert sum(map(len, simple)) < 0.5 * sum(map(len, exact))
    dot = np.zeros((5, 5), bool)
    dot[2, 2] = True
    np.testing.assert_array_equal(fill(polygons.polygons(dot, 1.0), (5, 5)), dot)


@each_mask
def test_coco_round_trip(tmp_path, mask):
    """The COCO data set lists the image, and each annotation's code, area and box are those of the class."""
    path = tmp_path / "coco.json"
    writer = exchange.CocoWriter(path, ("label 1", "label 2", "label 3"))
    writer.add("a.jpg", mask, regions_of(mask))
    writer.add("b.jpg", np.zeros((2, 3), np.uint8), [])
    writer.close()
    data = json.loads(path.read_text())
    assert [image["file_name"] for image in data["images"]] == ["a.jpg", "b.jpg"]
    assert [category["id"] for category in data["categories"]] == [1, 2, 3]
    rebuilt = np.zeros_like(mask)
    for annotation in data["annotations"]:
        assert annotation["image_id"] == 1
        part = rle.decode(annotation["segmentation"])
        rebuilt[part] = annotation["category_id"]
        assert annotation["area"] == part.sum()
        x, y, w, h = annotation["bbox"]
        assert part[y : y + h, x : x + w].sum() == part.sum()
        assert part[y].any() or part[:, x].any()
    np.testing.assert_array_equal(rebuilt, mask)


def test_coco_opens_in_pycocotools(tmp_path):
    """pycocotools loads the file and decodes the annotations."""
    coco = pytest.importorskip("pycocotools.coco")
    mask = MASKS["portrait"]
    writer = exchange.CocoWriter(tmp_path / "coco.json", ("one", "two", "three"))
    writer.add("a.jpg", mask, regions_of(mask))
    writer.close()
    data = coco.COCO(str(tmp_path / "coco.json"))
    for annotation in data.loadAnns(data.getAnnIds()):
        np.testing.assert_array_equal(data.annToMask(annotation) > 0, mask == annotation["category_id"])


@each_mask
def test_yolo_round_trip(tmp_path, mask):
    """YOLO lines, scaled back by the image's size, fill to the mask; an empty image has an empty file."""
    path = tmp_path / "a.txt"
    exchange.write_yolo(path, mask, regions_of(mask), tolerance=0)
    rebuilt = np.zeros_like(mask)
    for line in path.read_text().splitlines():
        number, *values = line.split()
        points = np.reshape([float(value) for value in values], (-1, 2))
        assert points.min() >= 0
        assert points.max() <= 1
        rebuilt[fill([points * mask.shape[::-1]], mask.shape)] = int(number) + 1
    np.testing.assert_array_equal(rebuilt, mask)


@each_mask
def test_labelme_round_trip(tmp_path, mask):
    """LabelMe shapes fill to the mask; size and picture are named, the picture is not copied in."""
    path = tmp_path / "a.json"
    exchange.write_labelme(path, "../a.jpg", mask, regions_of(mask), tolerance=0)
    data = json.loads(path.read_text())
    assert (data["imageHeight"], data["imageWidth"]) == mask.shape
    assert data["imagePath"] == "../a.jpg"
    assert data["imageData"] is None
    rebuilt = np.zeros_like(mask)
    for shape in data["shapes"]:
        rebuilt[fill([np.asarray(shape["points"])], mask.shape)] = shape["group_id"]
    np.testing.assert_array_equal(rebuilt, mask)


def test_cutouts_are_transparent_elsewhere(tmp_path):
    """A cut-out is cropped to the object; alpha is the mask; hidden pixels carry no colour."""
    image = np.random.default_rng(0).integers(1, 255, (12, 9, 3), dtype=np.uint8)
    mask = ring() == 1
    masks.write_cutout(tmp_path / "cut.png", image, mask)
    found = np.asarray(Image.open(tmp_path / "cut.png"))
    crop = (slice(1, 11), slice(1, 8))
    np.testing.assert_array_equal(found[..., 3] == 255, mask[crop])
    np.testing.assert_array_equal(found[..., :3], image[crop] * mask[crop][..., None])


def test_colours_are_distinct():
    """The first hundred values have a hundred colours; the background alone is black; neighbours are far apart."""
    colours = palette(100).astype(int)
    assert len({tuple(colour) for colour in colours.tolist()}) == 100
    assert not colours[0].any()
    assert np.abs(np.diff(colours[1:], axis=0)).sum(axis=1).min() > 60


def test_names_of_files_are_used_once():
    """Inputs of one name from two folders, odd names and stdin all get files of their own."""
    stems = masks.Stems()
    names = [stems.stem(path) for path in ("a/cat.jpg", "b/cat.png", "cat-2.jpg", "CAT.jpg", "-", "x/.jpg", "noext")]
    assert len({name.casefold() for name in names}) == len(names)
    assert names[:2] == ["cat", "cat-2"]
    assert names[4] == "stdin"
    assert not any(name.startswith(".") or "/" in name for name in names)
