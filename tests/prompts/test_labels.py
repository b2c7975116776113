import pytest

from clipkit.errors import UsageError
from clipkit.prompts.labels import SETS, Label, load_labels, shipped_labels


def test_commas_part_labels_and_bars_part_wordings():
    """`cat|kitten,dog` is two classes; whitespace is tidied; empty parts vanish."""
    assert load_labels(" cat | kitten|cat ,dog,, ") == (Label("cat", ("cat", "kitten")), Label("dog", ("dog",)))


def test_commas_belong_to_labels_in_lists_and_files(tmp_path):
    """A list or a file has one label an item; a byte-order mark and CRLF do not matter."""
    assert load_labels(["cat, black"])[0].name == "cat, black"
    path = tmp_path / "l.txt"
    path.write_bytes("\ufeffcat, black\r\n\r\nÄpfel|apples\r\n".encode())
    assert [label.name for label in load_labels(None, path)] == ["cat, black", "Äpfel"]
    assert [label.name for label in load_labels("dog", path)] == ["dog", "cat, black", "Äpfel"]


def test_repeats_merge():
    """A name given twice is one class with the wordings of both."""
    assert load_labels("cat,cat|kitten") == (Label("cat", ("cat", "kitten")),)


@pytest.mark.parametrize("labels", [None, "", " , ", []])
def test_no_labels_says_how_to_give_them(labels):
    """An empty set is a usage error that names the option."""
    with pytest.raises(UsageError, match="--labels"):
        load_labels(labels)


def test_bar_without_words_is_refused():
    """A label made of bars alone has no name."""
    with pytest.raises(UsageError, match="empty label"):
        load_labels("|")


def test_missing_and_empty_files_are_named(tmp_path):
    """The message names the file."""
    with pytest.raises(UsageError, match="nothere.txt"):
        load_labels(None, tmp_path / "nothere.txt")
    (tmp_path / "void.txt").write_text("\n")
    with pytest.raises(UsageError, match="void.txt"):
        load_labels(None, tmp_path / "void.txt")


def test_shipped_sets_have_their_official_size():
    """Sizes of the data sets; ImageNet's names agree with open_clip's."""
    sizes = {"imagenet": 1000, "coco": 80, "voc": 20, "cifar10": 10, "cifar100": 100, "esc50": 50}
    assert {name: len(shipped_labels(name)) for name in SETS} == sizes
    metadata = pytest.importorskip("open_clip.zero_shot_metadata")
    assert [label.name for label in load_labels("imagenet")] == list(metadata.IMAGENET_CLASSNAMES)


def test_a_mistyped_set_is_guessed():
    """The API answers a near miss with the name."""
    with pytest.raises(UsageError, match="did you mean 'cifar10'"):
        shipped_labels("cifar1")
