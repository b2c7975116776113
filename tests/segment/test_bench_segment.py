"""The metric of `bench segment` by another route, and its class tables."""

import numpy as np
import pytest

from clipkit.errors import UsageError
from clipkit.prompts.labels import Label
from clipkit.tasks.bench_segment import class_scores, mean_iou, pairs, read_classes


def counted(truth, answer, values):
    """A confusion matrix by loops."""
    confusion = np.zeros((values, values), np.int64)
    for t, a in zip(truth.ravel(), answer.ravel(), strict=True):
        confusion[t, a] += 1
    return confusion


def test_pooled_iou_by_sets():
    """Each class's IoU is the pooled intersection over the pooled union of pixel sets of all pictures."""
    rng = np.random.default_rng(0)
    truths, answers = rng.integers(0, 4, (3, 6, 7)), rng.integers(0, 4, (3, 6, 7))
    scores = class_scores(counted(truths, answers, 4), ["background", "a", "b", "c"], background=True)
    expected = []
    for value in range(4):
        in_truth, in_answer = (set(map(tuple, np.argwhere(x == value))) for x in (truths, answers))
        expected.append(len(in_truth & in_answer) / len(in_truth | in_answer))
        assert scores[value].iou == pytest.approx(expected[-1])
        assert scores[value].accuracy == pytest.approx(len(in_truth & in_answer) / len(in_truth))
    assert mean_iou(scores) == pytest.approx(np.mean(expected))


def test_absent_and_invented_classes():
    """A class in neither masks nor answers does not count; one that is only answered counts as zero."""
    truth, answer = np.array([1, 1, 2]), np.array([1, 3, 2])
    scores = class_scores(counted(truth, answer, 5), ["background", "a", "b", "c", "d"], background=False)
    assert [score.label for score in scores] == ["a", "b", "c", "d"]
    assert [score.iou for score in scores] == [0.5, 1.0, 0.0, None]
    assert [score.accuracy for score in scores] == [0.5, 1.0, None, None]
    assert mean_iou(scores) == pytest.approx(0.5)


def test_equal_to_jaccard_over_pooled_pixels():
    """The mean over classes is scikit-learn's macro Jaccard index written out: TP / (TP + FP + FN)."""
    rng = np.random.default_rng(1)
    truth, answer = rng.integers(1, 4, 500), rng.integers(1, 4, 500)
    scores = class_scores(counted(truth, answer, 4), ["background", "a", "b", "c"], background=False)
    macro = [
        np.sum((truth == v) & (answer == v))
        / (np.sum((truth == v) & (answer == v)) + np.sum((truth == v) ^ (answer == v)))
        for v in (1, 2, 3)
    ]
    assert mean_iou(scores) == pytest.approx(np.mean(macro))


def test_tables_are_read_from_yaml_json_and_text(tmp_path):
    """YAML `number: name`, `labels.json`, and plain lines with aliases all give the same classes."""
    yaml = tmp_path / "c.yaml"
    yaml.write_text("names:\n  1: person\n  2: bicycle\npath: images/2017\n")
    labels = tmp_path / "labels.json"
    labels.write_text('{\n  "0": "background",\n  "1": "person",\n  "2": "bicycle"\n}\n')
    text = tmp_path / "c.txt"
    text.write_text("# mine\n1: person|man|woman\n2\tbicycle\n*: background|sky\n")
    for path in (yaml, labels, text):
        found = read_classes(path)
        assert found.ids == (1, 2)
        assert [label.name for label in found.labels] == ["person", "bicycle"]
    assert read_classes(yaml).background is None
    assert read_classes(labels).background_ids == (0,)
    last = read_classes(text)
    assert last.labels[0] == Label("person", ("person", "man", "woman"))
    assert last.background == Label("background", ("background", "sky"))
    assert last.others


def test_numbers_map_to_values_background_or_nothing(tmp_path):
    """Listed numbers become values from 1; unlisted ones are not judged, or background with `*`; 255 is never judged."""
    path = tmp_path / "c.txt"
    path.write_text("5: cat\n9: dog\n0: background\n")
    table = read_classes(path).lookup()
    assert table[[0, 5, 9, 77, 255]].tolist() == [0, 1, 2, -1, -1]
    path.write_text("5: cat\n9: dog\n*: background\n")
    assert read_classes(path).lookup()[[0, 5, 9, 77, 255]].tolist() == [0, 1, 2, 0, -1]
    assert read_classes(path, "9").lookup()[[5, 9]].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "only", "message"),
    [("nothing here", None, "lists no classes"), ("1: a\n1: b", None, "number 1 to two"), ("1: a", "x", "1-90")],
)
def test_bad_tables(tmp_path, text, only, message):
    """A table without classes, with a number twice, or an unreadable selection is a usage error."""
    path = tmp_path / "c.txt"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_classes(path, only)


def test_pairs_go_by_name(tmp_path):
    """Masks find their pictures by stem, whatever the extension; folders without a pair are refused."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    with pytest.raises(UsageError, match="not a folder"):
        pairs(images, masks)
    images.mkdir()
    masks.mkdir()
    (images / "b.jpg").touch()
    (masks / "a.png").touch()
    with pytest.raises(UsageError, match="no PNG mask"):
        pairs(images, masks)
    (masks / "b.png").touch()
    assert pairs(images, masks) == [(None, masks / "a.png"), (images / "b.jpg", masks / "b.png")]
