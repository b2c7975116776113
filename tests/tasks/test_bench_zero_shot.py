"""`bench zero-shot`: class folders and CSV files, counted by hand."""

import pytest
from fake import FakeClip
from PIL import Image

from clipkit.errors import UsageError
from clipkit.results import Accuracy, Failure
from clipkit.tasks.bench_zero_shot import read_labelled, run
from clipkit.tasks.classify import ClassifyOptions

COLOURS = {(255, 0, 0): "a dark red.", (0, 255, 0): "a green.", (0, 0, 255): "a blue."}


@pytest.fixture
def clip():
    """A model that sees colours."""
    fake = FakeClip(dim=32)
    fake.colours = COLOURS
    return fake


@pytest.fixture
def folder(tmp_path):
    """Class dark_red: 3 right and 1 wrong; green: 2 right and 1 broken; blue: 1 wrong."""
    red, green, _ = COLOURS
    pictures = {
        "dark_red": [red, red, red, green],
        "green": [green, green, None],
        "blue": [red],
    }
    for name, colours in pictures.items():
        (tmp_path / name).mkdir()
        for i, colour in enumerate(colours):
            path = tmp_path / name / f"{i}.png"
            if colour is None:
                path.write_text("")
            else:
                Image.new("RGB", (9, 9), colour).save(path)
    return tmp_path


def bench(data, clip):
    options = ClassifyOptions(labels=data.labels, templates=("a {}.",))
    return list(run(data, options, clip))


def test_accuracy_counted_by_hand(folder, clip):
    """5 of 7 readable pictures are right; the broken one is a failure and no miss."""
    *failures, accuracy = bench(read_labelled(folder), clip)
    assert [type(f) for f in failures] == [Failure]
    assert isinstance(accuracy, Accuracy)
    assert accuracy.top1 == pytest.approx(5 / 7)
    assert accuracy.top5 == 1
    assert accuracy.count == 7
    assert {c.label: (c.count, c.top1) for c in accuracy.per_class} == {
        "dark red": (4, 0.75),
        "green": (2, 1.0),
        "blue": (1, 0.0),
    }
    assert accuracy.per_second > 0
    assert accuracy.record()["per_class"][0]["label"] == "blue"
    assert [row[1] for row in accuracy.rows()][-1] == "all"


def test_csv_equals_folders(folder, clip):
    """The same pictures by CSV give the same figures."""
    rows = [f"{p.relative_to(folder)},{p.parent.name.replace('_', ' ')}" for p in sorted(folder.rglob("*.png"))]
    table = folder / "data.csv"
    table.write_text("path,label\n" + "\n".join(rows) + "\n")
    a, b = (bench(read_labelled(path), clip)[-1] for path in (folder, table))
    assert (a.top1, a.per_class, a.count) == (b.top1, b.per_class, b.count)


def test_ties_count_against_the_model(folder, clip):
    """Two classes with the same prompt cannot be told apart, so neither is credited."""
    names = folder / "names.csv"
    names.write_text("dark_red,dark red\ngreen,dark red|dark  red\nblue,blue\n")
    accuracy = bench(read_labelled(folder, names), clip)[-1]
    assert {c.label: c.top1 for c in accuracy.per_class}["dark red"] == 0


def test_names_map_folders(folder, clip):
    """A names file gives folders their labels; a folder without a line is named."""
    names = folder / "names.csv"
    names.write_text('dark_red,"dark red|crimson"\ngreen,green\n')
    with pytest.raises(UsageError, match="'blue'"):
        read_labelled(folder, names)
    names.write_text('dark_red,"dark red|crimson"\ngreen,green\nblue,blue\n')
    labels = {label.name: label.aliases for label in read_labelled(folder, names).labels}
    assert labels["dark red"] == ("dark red", "crimson")


@pytest.mark.parametrize("content", [None, "", "file,class\na.png,cat\n"])
def test_unusable_data_is_a_usage_error(tmp_path, content):
    """An empty folder, an empty CSV and one with other columns each say what is expected."""
    path = tmp_path
    if content is not None:
        path = tmp_path / "d.csv"
        path.write_text(content)
    with pytest.raises(UsageError):
        read_labelled(path)
    with pytest.raises(UsageError, match="no such"):
        read_labelled(tmp_path / "nowhere")
