"""`segment` as a task: outcomes in order, labels out among labels in, flat memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dense_stand import Stand, make_photo
from open_clip.transformer import VisionTransformer
from PIL import Image

from clipkit.dense.decide import Maps
from clipkit.dense.features import DenseOptions
from clipkit.dense.segmenter import ClipOptions, ClipSegmenter
from clipkit.dense.vocabulary import vocabulary
from clipkit.errors import OutputError, UsageError
from clipkit.media.paths import expand
from clipkit.output.mask_files import KINDS, MaskFiles
from clipkit.output.masks import read_index
from clipkit.prompts.labels import load_labels
from clipkit.results import Failure, Result
from clipkit.tasks.segment import Choice, Segmentation, SegmentOptions, open_segmenter, run, segment

WORDS = vocabulary(load_labels("red|crimson,blue,yellow"), "grey|wall")


class Painter:
    """A segmenter that knows its colours: logits are minus the distance to each query's colour."""

    id = "painter"
    weights_hash = "1" * 12
    colours = np.array([[128, 128, 128], [90, 90, 90], [200, 60, 40], [220, 20, 60], [30, 90, 180], [240, 230, 90]])

    def maps(self, image, threshold=None):
        import torch

        distance = np.abs(image[None].astype(np.float32) - self.colours[:, None, None]).sum(axis=3)
        return Maps(torch.from_numpy(-distance / 10), WORDS.owners, threshold=threshold or 0.0)


@pytest.fixture
def folder(tmp_path):
    """Pictures: a photo, an upright one, one pixel, a broken file."""
    Image.fromarray(make_photo(60, 90)).save(tmp_path / "a.png")
    Image.fromarray(make_photo(90, 40)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    Image.new("RGB", (1, 1), (128, 128, 128)).save(tmp_path / "d.png")
    return tmp_path


def outcomes(folder, **options):
    return list(run(expand([str(folder)]), SegmentOptions(WORDS, **options), Painter(), workers=0))


def test_one_outcome_an_input_in_order(folder):
    """Good files give masks of their own size, the broken one a failure, in the order of the inputs."""
    found = outcomes(folder)
    assert [type(one) for one in found] == [Segmentation, Segmentation, Failure, Segmentation]
    assert [one.index.shape for one in found if isinstance(one, Segmentation)] == [(60, 90), (90, 40), (1, 1)]
    assert (found[2].task, found[2].model) == ("segment", "painter")
    assert all(isinstance(one, Result) for one in found if isinstance(one, Segmentation))


def test_the_record_is_the_contract(folder):
    """Records carry the header, the mask's file, and label, area, score and box of each class, largest first."""
    record = outcomes(folder)[0].record()
    assert list(record) == ["schema", "task", "path", "model", "weights", "mask", "segments"]
    areas = [segment["area"] for segment in record["segments"]]
    assert areas == sorted(areas, reverse=True)
    assert {segment["label"] for segment in record["segments"]} == {"red", "blue", "yellow"}
    for part in record["segments"]:
        x0, y0, x1, y1 = part["box"]
        assert 0 <= x0 < x1 <= 90
        assert 0 <= y0 < y1 <= 60
        assert 0 < part["score"] <= 1
    json.dumps(record)


def test_an_image_without_labels_is_a_record_too(folder):
    """A picture of nothing but background has no segments, an empty mask and one row of empty cells."""
    result = outcomes(folder)[3]
    assert result.segments == ()
    assert not result.index.any()
    assert list(result.rows()) == [(str(folder / "d.png"), *[""] * 7)]
    assert all(len(row) == len(result.columns) for one in outcomes(folder)[:2] for row in one.rows())


def test_threshold_and_least_area(folder):
    """Nothing reaches an impossible threshold; classes under the least area are gone."""
    assert not outcomes(folder, threshold=1.0)[0].segments
    everything = {segment.label: segment.area for segment in outcomes(folder)[0].segments}
    least = min(everything.values()) + 0.001
    kept = {segment.label for segment in outcomes(folder, min_area=least)[0].segments}
    assert kept == {label for label, area in everything.items() if area >= least}


def test_all_files_of_a_run(folder, tmp_path):
    """Each kind writes its files, records name the mask, and the masks on disk are the masks in memory."""
    out = tmp_path / "out"
    files = MaskFiles(out, WORDS.labels, KINDS, cutouts=["yellow"], tolerance=0)
    found = list(files.saved(iter(outcomes(folder))))
    for one in found:
        if isinstance(one, Segmentation):
            assert one.record()["mask"] == one.mask
            np.testing.assert_array_equal(read_index(Path(one.mask)), one.index)
    assert json.loads((out / "labels.json").read_text()) == {"0": "background", "1": "red", "2": "blue", "3": "yellow"}
    assert sorted(path.name for path in (out / "overlays").iterdir()) == ["a.png", "b.png", "d.png"]
    assert sorted(path.name for path in (out / "classes" / "a").iterdir()) == ["blue.png", "red.png", "yellow.png"]
    assert (out / "yolo" / "labels" / "d.txt").read_text() == ""
    assert '0: "red"' in (out / "yolo" / "data.yaml").read_text()
    assert len(json.loads((out / "coco.json").read_text())["images"]) == 3
    assert json.loads((out / "labelme" / "a.json").read_text())["imagePath"].endswith("a.png")
    assert sorted(path.name for path in (out / "cutouts").iterdir()) == ["a.yellow.png", "b.yellow.png"]


def test_a_broken_run_leaves_no_data_set(folder, tmp_path):
    """When the run stops by an error, `coco.json` is not written."""
    files = MaskFiles(tmp_path / "out", WORDS.labels, ["coco"])

    def stopping():
        yield outcomes(folder)[0]
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        list(files.saved(stopping()))
    assert not (tmp_path / "out" / "coco.json").exists()


def test_bad_requests_are_told(tmp_path):
    """Unknown kinds, cut-outs that are no label, and a folder that is a file are refused with one line."""
    with pytest.raises(UsageError, match="cannot save 'svg'"):
        MaskFiles(tmp_path, WORDS.labels, ["svg"])
    with pytest.raises(UsageError, match="--cutout 'green' is not one of the labels: red"):
        MaskFiles(tmp_path, WORDS.labels, cutouts=["green"])
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        MaskFiles(tmp_path / "file", WORDS.labels)
    with pytest.raises(UsageError, match="not --model"):
        open_segmenter(Choice(method="groupvit", model="ViT-B-16"), WORDS)
    with pytest.raises(UsageError, match="--refine pamr is for the CLIP methods"):
        open_segmenter(Choice(method="lseg", refine="pamr"), WORDS)
    with pytest.raises(UsageError, match="--weights is for groupvit, lseg, clipseg"):
        open_segmenter(Choice(method="auto", weights=tmp_path), WORDS)


@pytest.fixture(scope="module")
def stand():
    """A tiny CLIP stand-in."""
    import torch

    torch.manual_seed(0)
    return Stand(VisionTransformer(32, 8, 32, 12, 2, 4.0, output_dim=16).eval())


@pytest.mark.parametrize("refine", ["none", "tlp", "pamr"])
@pytest.mark.parametrize("size", [(40, 64), (17, 900), (1, 1)])
def test_clip_segments_any_size(stand, refine, size):
    """With every refinement, thin and tiny pictures have masks of their own size with known labels only."""
    segmenter = ClipSegmenter(
        stand, WORDS, ClipOptions(dense=DenseOptions(size=32, window=32, stride=16), refine=refine)
    )
    result = segment(make_photo(*size), SegmentOptions(WORDS, threshold=0.0), segmenter)
    assert result.index.shape == size
    assert {part.label for part in result.segments} <= set(WORDS.labels)


def test_a_mirrored_photo_has_the_mirrored_mask(stand):
    """With `flip`, the mask of the mirrored photo is the mirrored mask, refinement included."""
    options = ClipOptions(dense=DenseOptions(size=64, window=0, flip=True), refine="tlp")
    segmenter = ClipSegmenter(stand, WORDS, options)
    photo = make_photo(160, 240)
    mirror = np.ascontiguousarray(photo[:, ::-1])
    maps = segmenter.maps(photo).values
    assert float(maps.std(dim=(1, 2)).min()) > 0.1
    np.testing.assert_allclose(maps.numpy(), segmenter.maps(mirror).values.flip(2).numpy(), atol=1e-3)
    straight, mirrored = (segment(picture, SegmentOptions(WORDS), segmenter).index for picture in (photo, mirror))
    assert (straight == mirrored[:, ::-1]).mean() > 0.999


def test_unknown_refinement(stand):
    """A refinement that does not exist is a usage error that lists those that do."""
    with pytest.raises(UsageError, match="auto, none, tlp, pamr"):
        ClipSegmenter(stand, WORDS, ClipOptions(refine="crf"))


MEMORY = """
import sys
import torch
torch.set_num_threads(1)
sys.path[:0] = sys.argv[1:3]
from dense_stand import Stand, make_photo
from open_clip.transformer import VisionTransformer
from clipkit.dense.features import DenseOptions
from clipkit.dense.segmenter import ClipOptions, ClipSegmenter
from clipkit.dense.vocabulary import vocabulary
from clipkit.prompts.labels import load_labels
from clipkit.tasks.segment import SegmentOptions, segment
words = vocabulary(load_labels(",".join(f"thing {i}" for i in range(20))), "wall")
stand = Stand(VisionTransformer(224, 16, 64, 12, 2, 4.0, output_dim=16).eval())
small = make_photo(375, 500)
large = make_photo(4000, 3000)
for photo, refine, window in ((small, "tlp", 224), (large, sys.argv[3], 0)):
    options = ClipOptions(dense=DenseOptions(window=window), refine=refine)
    segment(photo, SegmentOptions(words), ClipSegmenter(stand, words, options))
    # The peak of this process alone; getrusage would also count its parent's, before exec.
    print(next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("refine", ["tlp", pytest.param("pamr", marks=pytest.mark.slow)])
def test_memory_is_bounded(refine):
    """21 classes stay under 2 GB in all: a 500x375 photo with TLP, then one of twelve megapixels."""
    root = Path(__file__).parents[2]
    arguments = [sys.executable, "-c", MEMORY, str(root), str(root / "tests" / "dense"), refine]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    peaks = [int(line) for line in done.stdout.split()]
    assert len(peaks) == 2
    assert max(peaks) < 2048, peaks
