"""CLIP's own detector where maps and crops are known: boxes, scores, batches, and the picture's frame."""

import io

import numpy as np
import pytest
import torch
from detect_stand import ColourClip, FixedDetector, scene
from PIL import Image

from clipkit.dense.decide import Maps
from clipkit.dense.segmenter import ClipOptions
from clipkit.dense.vocabulary import vocabulary
from clipkit.detection import clip_boxes
from clipkit.detection.boxes import iou
from clipkit.detection.clip_boxes import ClipBoxOptions, ClipDetector, best_wording, class_probabilities
from clipkit.detection.crops import cut, embed_boxes
from clipkit.errors import InputError
from clipkit.media.paths import Source
from clipkit.prompts.labels import load_labels
from clipkit.results import Failure
from clipkit.tasks.detect import DetectOptions, boxes, run

TRUTH = {"red thing": (20, 30, 60, 80), "blue thing": (100, 20, 140, 60)}


class ColourSegmenter:
    """Logits from the colour of each pixel, on half the picture's grid."""

    def __init__(self, clip, words, options):
        self.vectors = clip.encode_texts(words.queries)
        self.words = words

    def maps(self, image, threshold=None):
        small = image[::2, ::2].astype(np.float32) / 255
        red, blue = small[..., 0] - small[..., 2] > 0.3, small[..., 2] - small[..., 0] > 0.3
        kinds = np.stack([red, blue, ~red & ~blue]).astype(np.float32)
        return Maps(torch.from_numpy(8 * np.einsum("qd,dhw->qhw", self.vectors, kinds)), self.words.owners)


@pytest.fixture
def detector(monkeypatch):
    """The detector over known maps."""
    monkeypatch.setattr(clip_boxes, "ClipSegmenter", ColourSegmenter)
    words = vocabulary(load_labels("red thing|red object,blue thing"), "wall|floor")
    return ClipDetector(ColourClip(), words, ClipBoxOptions(clip=ClipOptions(templates=("a {}",))))


def place(image, detector, **options):
    """Label -> best box."""
    found = boxes(image, DetectOptions(min_score=0.3, **options), detector)
    return {detector.labels[c]: b for c, b in reversed(list(zip(found.classes, found.boxes.tolist(), strict=True)))}


@pytest.mark.parametrize("turns", [0, 1])
def test_shapes_are_found_where_they_are(detector, turns):
    """In landscape and in portrait each shape's best box has its label and lies on it within two cells."""
    image = np.ascontiguousarray(np.rot90(scene(), turns))
    found = place(image, detector)
    assert set(found) == set(TRUTH)
    for label, (x0, y0, x1, y1) in TRUTH.items():
        expected = (x0, y0, x1, y1) if not turns else (y0, 160 - x1, y1, 160 - x0)
        assert np.abs(np.array(found[label]) - expected).max() <= 4
        assert iou(np.array([found[label]]), np.array([expected]))[0, 0] >= 0.8


def test_boxes_stay_inside_and_scores_in_range(detector):
    """Whatever is in the picture: boxes within it, scores in [0, 1], best first, each label one of the inputs."""
    for seed in range(3):
        noise = np.random.default_rng(seed).integers(0, 256, (37, 91, 3), dtype=np.uint8)
        found = boxes(noise, DetectOptions(min_score=0.0, nms=1.0), detector)
        assert len(found)
        assert (found.boxes >= 0).all() and (found.boxes <= [91, 37, 91, 37]).all()
        assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
        assert ((found.scores >= 0) & (found.scores <= 1)).all()
        assert (np.diff(found.scores) <= 0).all()
        assert set(found.classes) <= {0, 1}


def test_the_score_is_the_mean_of_map_and_crops(detector):
    """Each score is sqrt(rank x crop probability), and without crops it is the rank."""
    image = scene()
    ranked = detector.proposals(image)
    crops = detector.crop_probabilities(image, ranked.boxes)[np.arange(len(ranked)), ranked.classes]
    expected = {tuple(b): np.sqrt(r * c) for b, r, c in zip(ranked.boxes, ranked.scores, crops, strict=True)}
    found = detector.detect(image)
    assert len(found)
    for box, score in zip(found.boxes, found.scores, strict=True):
        assert score == pytest.approx(expected[tuple(box)], abs=1e-9)


def test_only_asks_for_one_label(detector):
    """With `only`, boxes of the other labels do not come."""
    assert set(detector.detect(scene(), only=[1]).classes.tolist()) == {1}


def test_crops_go_in_batches_and_add_up():
    """Embeddings are the normalised sum over scales, and no forward pass sees more than a batch."""
    clip = ColourClip()
    truth = np.array(list(TRUTH.values()) * 5, float)
    found = embed_boxes(clip, scene(), truth, (1.0, 1.5), batch=4)
    assert max(clip.batches) == 4
    parts = [embed_boxes(ColourClip(), scene(), truth, (s,)) for s in (1.0, 1.5)]
    total = parts[0] + parts[1]
    assert np.allclose(found, total / np.linalg.norm(total, axis=1, keepdims=True), atol=1e-6)


def test_a_crop_is_the_box_and_nothing_else():
    """The cut of a flat box is flat, also for boxes thinner than a pixel at the border."""
    crops = cut(scene(), np.array([[20, 30, 60, 80], [159.9, 119.9, 160, 120]]), (8, 8))
    assert (crops[0] == (220, 30, 30)).all()
    assert (crops[1] == (128, 128, 128)).all()


def test_classes_score_as_their_best_wording():
    """Softmax over classes of the best wording's cosine, as a loop has it."""
    cosines = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    owners = (0, 0, 0, 1, 2, 2)
    found = class_probabilities(cosines, owners, 5.0)
    for row, values in zip(found, cosines, strict=True):
        best = [max(v for v, o in zip(values, owners, strict=True) if o == c) for c in range(3)]
        weights = [np.exp(5.0 * float(b)) for b in best]
        assert np.allclose(row, np.array(weights) / sum(weights), atol=1e-6)
    assert best_wording(cosines.T, owners).shape == (3, 4)


def test_options_decide_which_boxes_are_told():
    """min_score, max_detections, nms and suppression over labels act as named; boxes are cut at the border."""
    detector = FixedDetector(
        "ab", [[0, 0, 10, 10], [0, 0, 10, 9], [0, 1, 10, 10], [50, 50, 90, 90]], [0.9, 0.8, 0.7, 0.05], [0, 0, 1, 0]
    )
    image = np.zeros((60, 60, 3), np.uint8)

    def told(**options):
        return boxes(image, DetectOptions(**options), detector).scores.tolist()

    assert told() == [0.9, 0.7]
    assert told(across=True) == [0.9]
    assert told(nms=1.0) == [0.9, 0.8, 0.7]
    assert told(min_score=0.0, nms=1.0, max_detections=3) == [0.9, 0.8, 0.7]
    assert boxes(image, DetectOptions(min_score=0.0), detector).boxes[-1].tolist() == [50, 50, 60, 60]


def test_one_outcome_an_input_in_order(tmp_path):
    """Good pictures, a broken one, a missing one and an earlier failure each give one outcome, in order."""
    Image.fromarray(scene()).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    inputs = [
        Source("a.png", tmp_path / "a.png"),
        Source("b.png", tmp_path / "b.png"),
        Source("c.png", tmp_path / "c.png"),
        Failure("d", "kind", "message"),
    ]
    outcomes = list(run(inputs, DetectOptions(), FixedDetector("a", [], [], [])))
    assert [o.path for o in outcomes] == ["a.png", "b.png", "c.png", "d"]
    assert [isinstance(o, Failure) for o in outcomes] == [False, True, True, True]
    assert outcomes[0].record()["detections"] == []
    assert {o.record()["task"] for o in outcomes} == {"detect"}


def test_boxes_lie_in_the_upright_picture(detector):
    """A picture stored on its side with an EXIF orientation gives the boxes of the upright one."""
    data = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored picture is to be turned clockwise
    Image.fromarray(np.ascontiguousarray(np.rot90(scene(), 1))).save(data, "PNG", exif=exif)
    outcome = next(run([Source("side", None, data.getvalue())], DetectOptions(min_score=0.3), detector))
    assert outcome.image.shape == scene().shape
    best = {d.label: d.box for d in reversed(outcome.detections)}
    for label, expected in TRUTH.items():
        assert np.abs(np.array(best[label]) - expected).max() <= 4


def test_a_source_that_lacks_a_picture_is_a_failure():
    """An InputError of the detector becomes this picture's failure."""

    class Lacking(FixedDetector):
        def detect(self, image, path="", *, only=None):
            raise InputError("no_proposals", "nothing for it")

    data = io.BytesIO()
    Image.fromarray(scene()).save(data, "PNG")
    (outcome,) = run([Source("a", None, data.getvalue())], DetectOptions(), Lacking("a", [], [], []))
    assert (outcome.kind, outcome.path) == ("no_proposals", "a")
