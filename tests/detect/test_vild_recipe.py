"""ViLD's prompts, ensemble and regions, each by another route."""

import json
import math

import numpy as np
import pytest
from detect_stand import ColourClip, scene

from clipkit.dense.vocabulary import vocabulary
from clipkit.detection.boxes import iou
from clipkit.detection.region_sources import FileRegions, SelectiveSearch, pool
from clipkit.detection.vild import VildDetector, VildOptions, article, ensemble, spoken, templates, text_vectors
from clipkit.errors import InputError, ModelUnavailableError, UsageError
from clipkit.prompts.labels import load_labels
from clipkit.tasks.detect import DetectOptions, boxes


def test_templates_are_the_sixty_three():
    """63 different texts; those that start with a or the say `This is` first, the others stay; articles are filled."""
    for an in (False, True):
        texts = templates(an)
        assert len(set(texts)) == 63
        assert all(text.count("{}") == 1 and "article" not in text for text in texts)
    assert "There is an {} in the scene." in templates(an=True)
    assert "This is a photo of a {}." in templates()
    assert "This is the plastic {}." in templates()
    assert "itap of my {}." in templates()
    assert not [text for text in templates() if text.startswith(("a ", "an ", "the "))]


@pytest.mark.parametrize(
    ("name", "said", "before"),
    [("Traffic_light", "traffic light", "a"), ("apple/pear", "apple or pear", "an"), ("T.V.", "t.v", "a")],
)
def test_names_are_said_as_the_prompts_say_them(name, said, before):
    """Underscores, slashes, capitals and final full stops as in the authors' prompts; the article by the first letter."""
    assert spoken(name) == said
    assert article(spoken(name)) == before


def test_text_vectors_average_unit_prompts():
    """Vectors equal the loop over prompts: encode, average, normalise."""
    clip = ColourClip()
    names = ["red apple", "apple", "blue_car"]
    found = text_vectors(clip, names)
    for name, vector in zip(names, found, strict=True):
        said = name.replace("_", " ")
        rows = [clip.encode_texts([t.replace("{}", said)])[0] for t in templates(an=said[0] in "aeiou")]
        mean = sum(rows) / 63
        assert np.allclose(vector, mean / math.sqrt(float(mean @ mean)), atol=1e-6)


def test_the_ensemble_is_the_cube_root_of_three():
    """(p_text p_image third)^(1/3), third = p_text for base labels and p_image for the others, to 1e-6."""
    draw = np.random.default_rng(0)
    text, image = draw.random((5, 4)), draw.random((5, 4))
    base = np.array([True, False, True, False])
    found = ensemble(text, image, base)
    for n in range(5):
        for c in range(4):
            third = text[n, c] if base[c] else image[n, c]
            assert found[n, c] == pytest.approx((text[n, c] * image[n, c] * third) ** (1 / 3), abs=1e-6)


def test_pooled_features_are_means_over_the_box():
    """A region's feature is the normalised mean of its cells; a box smaller than a cell takes that cell."""
    features = np.random.default_rng(1).normal(size=(4, 6, 3)).astype(np.float32)
    found = pool(features, np.array([[20, 10, 40, 30], [59, 39, 60, 40]]), 60, 40)
    mean = features[1:3, 2:4].reshape(-1, 3).mean(axis=0)
    assert np.allclose(found[0], mean / np.linalg.norm(mean), atol=1e-6)
    assert np.allclose(found[1], features[3, 5] / np.linalg.norm(features[3, 5]), atol=1e-6)


def proposals(tmp_path, record):
    """A file of one line."""
    file = tmp_path / "boxes.jsonl"
    file.write_text(json.dumps(record) + "\n", encoding="utf-8")
    return file


def test_boxes_from_a_file_get_the_right_names(tmp_path):
    """Of boxes over red, blue and grey, the first two get their colours' names and the third nothing."""
    truth = [[20, 30, 60, 80], [100, 20, 140, 60], [0, 90, 60, 120]]
    file = proposals(tmp_path, {"path": "elsewhere/a.png", "boxes": truth})
    words = vocabulary(load_labels("red thing,blue thing"), "background")
    detector = VildDetector(ColourClip(), words, FileRegions(file, 3), VildOptions())
    found = boxes(scene(), DetectOptions(min_score=0.5), detector, path="here/a.png")
    assert {detector.labels[c]: box for c, box in zip(found.classes, found.boxes.tolist(), strict=True)} == {
        "red thing": truth[0],
        "blue thing": truth[1],
    }
    assert ((found.scores >= 0) & (found.scores <= 1)).all()


def test_region_features_and_base_labels_count(tmp_path):
    """Features that contradict the crop lower its score, and lower it more for a base label."""
    words = vocabulary(load_labels("red thing,blue thing"), "background")
    scores = {}
    for name, features, base in (("none", None, ()), ("novel", [[0, 1, 0]], ()), ("base", [[0, 1, 0]], ("red thing",))):
        record = {"path": "a", "boxes": [[20, 30, 60, 80]]} | ({"features": features} if features else {})
        source = FileRegions(proposals(tmp_path, record), 3)
        detector = VildDetector(ColourClip(), words, source, VildOptions(frozenset(base)))
        found = detector.detect(scene(), "a", only=[0])
        scores[name] = float(found.scores[0])
    assert scores["none"] > scores["novel"] > scores["base"]


def test_detect_records_are_proposals(tmp_path):
    """A record of `clipkit detect` reads as a line of boxes."""
    record = {"path": "a.png", "detections": [{"label": "x", "score": 0.5, "box": [1, 2, 3, 4]}]}
    found = FileRegions(proposals(tmp_path, record), 3).regions(scene(), "a.png")
    assert found.boxes.tolist() == [[1, 2, 3, 4]]
    assert found.scores.tolist() == [0.5]


@pytest.mark.parametrize(
    "line",
    ["[1]", "{", '{"path": "a", "boxes": [[1, 2, 3]]}', '{"path": "a", "boxes": [[1,2,3,4]], "features": [[1]]}'],
)
def test_a_bad_line_is_named(tmp_path, line):
    """The message names file and line."""
    file = tmp_path / "boxes.jsonl"
    file.write_text(line, encoding="utf-8")
    with pytest.raises(UsageError, match=r"boxes\.jsonl, line 1"):
        FileRegions(file, 3)


def test_a_picture_without_a_line_is_a_failure(tmp_path):
    """Only that picture fails."""
    source = FileRegions(proposals(tmp_path, {"path": "a.png", "boxes": []}), 3)
    assert len(source.regions(scene(), "a.png").boxes) == 0
    with pytest.raises(InputError, match="no line for this picture"):
        source.regions(scene(), "b.png")


def test_selective_search_finds_shapes_or_says_what_is_missing():
    """With OpenCV's contrib modules both shapes are among the boxes; without, the message says what to install."""
    import cv2

    if hasattr(cv2, "ximgproc"):
        found = SelectiveSearch().regions(scene(), "")
        truth = np.array([[20, 30, 60, 80], [100, 20, 140, 60]])
        assert iou(truth, found.boxes).max(axis=1).min() >= 0.8
    else:
        with pytest.raises(ModelUnavailableError, match="opencv-contrib-python-headless"):
            SelectiveSearch()
