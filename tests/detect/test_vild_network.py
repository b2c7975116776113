"""ViLD's text branch over a region network: what is scored with what, and from the command line."""

import json

import numpy as np
import pytest
import torch
from detect_stand import ColourClip, scene
from PIL import Image
from rcnn_tiny import make_state
from tiny import make_tiny_clip
from typer.testing import CliRunner

from clipkit.cli.app import app
from clipkit.dense.vocabulary import vocabulary
from clipkit.detection.opening import DetectorChoice, open_detector
from clipkit.detection.vild import Regions, VildDetector, VildOptions, text_vectors
from clipkit.errors import UsageError
from clipkit.prompts.labels import load_labels


class Fixed:
    """Always the same regions."""

    def __init__(self, regions):
        self.answer = regions

    def regions(self, image, path):
        return self.answer


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A CLIP of 16 dimensions, a region network in its space and one of another width, and a picture."""
    folder = tmp_path_factory.mktemp("vild")
    make_tiny_clip(folder / "clip")
    torch.save({"meta": {"config": ""}, "state_dict": make_state()}, folder / "net.pth")
    torch.save(make_state(dim=24), folder / "wide.pth")
    Image.fromarray(scene()).save(folder / "a.png")
    return folder


@pytest.mark.parametrize("background", ["background", "sky|wall", ""])
def test_the_learned_background_takes_the_place_of_its_texts(background):
    """Regions: softmax over labels and the learned vector at their own temperature, written out; crops keep the texts."""
    clip = ColourClip()
    words = vocabulary(load_labels("red thing|crimson red,blue thing"), background)
    draw = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    unit = draw / np.linalg.norm(draw, axis=1, keepdims=True)
    learned, features = unit[0], unit[1:]
    options = VildOptions(region_temperature=1 / 0.007, region_background=learned)
    detector = VildDetector(clip, words, Fixed(None), options)
    found = detector.region_probabilities(features)
    red = text_vectors(clip, ["red thing", "crimson red"])
    blue = text_vectors(clip, ["blue thing"])
    for row, feature in zip(found, features, strict=True):
        cosines = [feature @ learned, max(feature @ red.T), max(feature @ blue.T)]
        powers = np.exp((np.array(cosines, np.float64) - max(cosines)) / 0.007)
        assert np.allclose(row, powers[1:] / powers.sum(), atol=1e-5)
    plain = VildDetector(clip, words, Fixed(None), VildOptions())
    assert np.allclose(detector.probabilities(features), plain.probabilities(features))
    assert np.allclose(plain.region_probabilities(features), plain.probabilities(features))


def test_regions_that_are_thinned_stay():
    """Boxes that overlap are both judged where the source has done its own suppression, and one of them where not."""
    boxes = np.array([[20.0, 30, 60, 80], [20, 30, 60, 79]])
    features = np.eye(2, 3, dtype=np.float32)
    for thinned, count in ((True, 2), (False, 1)):
        source = Fixed(Regions(boxes, np.array([0.9, 0.8]), features, None, thinned))
        detector = VildDetector(ColourClip(), vocabulary(load_labels("red thing"), ""), source, VildOptions())
        assert len(detector.detect(scene())) == count


def test_without_crops_the_image_branch_answers():
    """Equation 5 with the image branch's vectors in the place of crops; without that branch the text head alone; no crop
    is embedded."""
    boxes, scores = np.array([[20.0, 30, 60, 80]]), np.ones(1)
    text, images = np.array([[0.6, 0.8, 0]], np.float32), np.array([[0.8, 0, 0.6]], np.float32)
    words = vocabulary(load_labels("red thing,blue thing"), "background")
    options = VildOptions(frozenset(["blue thing"]), crops=False)
    clip = ColourClip()
    clip.encode_images = None
    both = VildDetector(clip, words, Fixed(Regions(boxes, scores, text, images)), options)
    p_text, p_image = both.probabilities(text)[0], both.probabilities(images)[0]
    found = both.detect(scene())
    by_class = dict(zip(found.classes.tolist(), found.scores.tolist(), strict=True))
    assert by_class[0] == pytest.approx((p_text[0] * p_image[0] ** 2) ** (1 / 3))
    assert by_class[1] == pytest.approx((p_text[1] ** 2 * p_image[1]) ** (1 / 3))
    alone = VildDetector(clip, words, Fixed(Regions(boxes, scores, text)), options).detect(scene())
    assert sorted(alone.scores) == pytest.approx(sorted(p_text))


def test_the_command_detects_with_a_checkpoint(files):
    """Records name both models and carry the network's hash; boxes lie inside; base labels change scores."""
    arguments = [
        "detect", str(files / "a.png"), "-l", "red thing,blue thing", "--method", "vild", "--model", str(files / "clip"),
        "--weights", str(files / "net.pth"), "--min-score", "0", "--max-detections", "5", "--device", "cpu",
    ]  # fmt: skip
    records = []
    for more in ([], ["--base", "red thing", "--base", "blue thing"], ["--no-crops"]):
        done = CliRunner().invoke(app, arguments + more, prog_name="clipkit")
        assert done.exit_code == 0, done.output
        records.append(json.loads(done.stdout))
    first = records[0]
    assert first["model"].startswith("vild+local-dir:")
    assert len(first["weights"]) == 12
    assert 0 < len(first["detections"]) <= 5
    for found in first["detections"]:
        x0, y0, x1, y1 = found["box"]
        assert 0 <= x0 < x1 <= 160 and 0 <= y0 < y1 <= 120
    assert first["detections"] != records[1]["detections"]
    assert first["detections"] != records[2]["detections"]


def test_models_of_another_space_are_refused(files):
    """The built-in model and other known ones by name, any by the length of its vectors; other proposals, too."""
    labels = load_labels("cat")

    def choice(**changes):
        return DetectorChoice(method="vild", device="cpu", **{"weights": files / "net.pth", **changes})

    for name in ("builtin", "ViT-B-16", "ViT-B-32/laion2b_s34b_b79k"):
        with pytest.raises(UsageError, match="lives in the space of ViT-B-32/openai"):
            open_detector(choice(model=name), labels)
    with pytest.raises(UsageError, match="24 numbers"):
        open_detector(choice(model=str(files / "clip"), weights=files / "wide.pth"), labels)
    with pytest.raises(UsageError, match="its own proposals"):
        open_detector(choice(model=str(files / "clip"), proposals="dense"), labels)
    with pytest.raises(UsageError, match="--model"):
        open_detector(DetectorChoice(method="clip", weights=files / "net.pth"), labels)
