"""Sorting files by label: nothing is lost, nothing is overwritten, twice is like once."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipkit.errors import OutputError, UsageError
from clipkit.output.folder_names import MAX_BYTES, FolderNames, folder_name
from clipkit.output.sort_into import Filed, Sorter
from clipkit.results import Classification, Failure, Prediction

posix = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")


def make(root, name, content=b"x"):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def tree(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "sorted"


def test_files_are_copied_into_their_labels_folder(tmp_path, out):
    """The source stays; the record says where the copy is."""
    source = make(tmp_path, "in/a.jpg")
    assert Sorter(out).file(source, "cat") == Filed(source, out / "cat" / "a.jpg", "copied")
    assert tree(tmp_path) == {"in/a.jpg": b"x", "sorted/cat/a.jpg": b"x"}


def test_a_taken_name_gets_a_number_and_nothing_is_overwritten(tmp_path, out):
    """Same name, other content: both are kept, and a file of the user's own in the way stays."""
    make(out, "cat/a.jpg", b"the user's")
    sorter = Sorter(out)
    for number in range(3):
        sorter.file(make(tmp_path, f"in{number}/a.jpg", b"%d" % number), "cat")
    assert tree(out) == {"cat/a.jpg": b"the user's", "cat/a-2.jpg": b"0", "cat/a-3.jpg": b"1", "cat/a-4.jpg": b"2"}


@pytest.mark.parametrize(
    "action", ["copy", pytest.param("hardlink", marks=posix), pytest.param("symlink", marks=posix)]
)
def test_the_same_run_again_changes_nothing(tmp_path, out, action):
    """Content that is there already is not put there twice, numbered names included."""
    sources = [make(tmp_path, f"in{n}/a.jpg", b"%d" % n) for n in range(3)]
    first = [Sorter(out, action=action).file(source, "cat") for source in sources]
    before = tree(out)
    again = [Sorter(out, action=action).file(source, "cat") for source in sources]
    assert [filed.action for filed in again] == ["present"] * 3
    assert [filed.target for filed in again] == [filed.target for filed in first]
    assert tree(out) == before
    assert len(before) == 3


@posix
def test_links_point_to_the_source(tmp_path, out, monkeypatch):
    """Also when the source was named relative to the working folder."""
    source = Path(make(tmp_path, "in/a.jpg"))
    monkeypatch.chdir(tmp_path)
    hard = Sorter(out, action="hardlink").file("in/a.jpg", "hard")
    soft = Sorter(out, action="symlink").file("in/a.jpg", "soft")
    assert (hard.action, soft.action) == ("hardlinked", "symlinked")
    assert hard.target.samefile(source)
    assert not hard.target.is_symlink()
    assert soft.target.is_symlink()
    assert soft.target.samefile(source)


def test_move_takes_the_source_away_only_when_it_is_safe(tmp_path, out):
    """Moved files are whole in their place; a file whose content is there already stays where it is."""
    first, second = make(tmp_path, "in/a.jpg", b"1"), make(tmp_path, "in2/a.jpg", b"1")
    sorter = Sorter(out, action="move")
    assert sorter.file(first, "cat").action == "moved"
    assert sorter.file(second, "cat").action == "present"
    assert tree(tmp_path) == {"in2/a.jpg": b"1", "sorted/cat/a.jpg": b"1"}


@posix
def test_moving_a_link_keeps_the_picture(tmp_path, out):
    """The content arrives; the link goes; what it pointed to stays."""
    real = make(tmp_path, "elsewhere/real.jpg", b"pixels")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").symlink_to(real)
    Sorter(out, action="move").file(str(tmp_path / "in" / "a.jpg"), "cat")
    assert (out / "cat" / "a.jpg").read_bytes() == b"pixels"
    assert not (out / "cat" / "a.jpg").is_symlink()
    assert Path(real).exists()
    assert not (tmp_path / "in" / "a.jpg").is_symlink()


def test_moving_across_disks_copies_first(tmp_path, out, monkeypatch):
    """Where a rename is impossible the source goes only after its copy is in place."""
    source = make(tmp_path, "in/a.jpg", b"1")
    real = Path.stat
    device = iter(range(1, 99))

    def stat(self, **options):
        status = real(self, **options)
        return os.stat_result((*status[:2], next(device), *status[3:])) if self.name in {"a.jpg", "cat"} else status

    monkeypatch.setattr(Path, "stat", stat)
    Sorter(out, action="move").file(source, "cat")
    assert tree(tmp_path) == {"sorted/cat/a.jpg": b"1"}


def test_a_failed_copy_leaves_no_trace(tmp_path, out, monkeypatch):
    """A full disk is an output error; no temporary file and no empty file stays behind."""
    source = make(tmp_path, "in/a.jpg")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clipkit.output.sort_into.shutil.copy2", full)
    with pytest.raises(OutputError, match="No space"):
        Sorter(out).file(source, "cat")
    assert tree(out) == {}


def test_what_cannot_be_sorted_is_skipped_with_a_reason(tmp_path, out):
    """Stdin, a file that has gone, a picture without a label."""
    sorter = Sorter(out)
    for name, label in (("-", "cat"), (str(tmp_path / "gone.jpg"), "cat"), (make(tmp_path, "a.jpg"), None)):
        filed = sorter.file(name, label)
        assert (filed.target, filed.action) == (None, "skipped")
        assert filed.reason
    assert not out.exists()


def test_outcomes_pass_through_and_failures_go_nowhere(tmp_path, out):
    """Each result is filed before it is handed on; the stream is unchanged."""
    source = make(tmp_path, "in/a.jpg")
    outcomes = [
        Classification(source, "m", "w", (Prediction("cat", 0.9),)),
        Failure(make(tmp_path, "in/b.jpg"), "truncated", "cut"),
        Classification(source, "m", "w", ()),
    ]
    sorter = Sorter(out)
    stream = sorter.sorted(iter(outcomes))
    assert next(stream) is outcomes[0]
    assert tree(out) == {"cat/a.jpg": b"x"}
    assert list(stream) == outcomes[1:]
    assert tree(out) == {"cat/a.jpg": b"x"}
    assert dict(sorter.counts) == {"copied": 1, "skipped": 1}


@pytest.mark.parametrize(
    ("inputs", "target", "fine"),
    [
        (["in"], "in/sorted", False),
        (["in"], "in", False),
        (["in/deep"], "in", False),
        (["in/*"], "in/deep/sorted", False),
        (["in/**/*.jpg"], "in/sorted", False),
        (["."], "sorted", False),
        (["in"], "sorted", True),
        (["in/a.jpg"], "in", True),
        (["in/*.jpg"], "in/sorted", True),
        (["in"], "in-sorted", True),
        (["-"], "in", True),
    ],
)
def test_sorting_must_not_feed_on_itself(tmp_path, monkeypatch, inputs, target, fine):
    """A folder that is read and the folder that is written must not overlap."""
    make(tmp_path, "in/a.jpg")
    make(tmp_path, "in/deep/b.jpg")
    monkeypatch.chdir(tmp_path)
    if fine:
        Sorter(Path(target), inputs=inputs)
    else:
        with pytest.raises(UsageError, match="folder outside"):
            Sorter(Path(target), inputs=inputs)


def test_a_file_in_the_folders_place_is_told(tmp_path, out):
    """At the start for DIR itself, when it is met for a label."""
    out.touch()
    with pytest.raises(UsageError):
        Sorter(out)
    make(tmp_path, "other/cat", b"a file")
    with pytest.raises(OutputError, match="cat"):
        Sorter(tmp_path / "other").file(make(tmp_path, "a.jpg"), "cat")


@posix
def test_very_long_names_can_be_numbered(tmp_path, out):
    """A name of 255 bytes makes room for its number."""
    sorter = Sorter(out)
    for number in range(2):
        assert sorter.file(make(tmp_path, f"in{number}/{'n' * 251}.jpg", b"%d" % number), "cat").action == "copied"
    assert sorted(len(path.name) for path in (out / "cat").iterdir()) == [255, 255]


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("cat", "cat"),
        ("sailing boat", "sailing boat"),
        ("a/b\\c:d*e?f", "a_b_c_d_e_f"),
        ("..", "__"),
        ("../../etc", "___.._etc"),
        (".hidden", "_hidden"),
        ("", "_"),
        ("  ", "_"),
        ("dot. ", "dot"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("com1", "_com1"),
        ("console", "console"),
        ("e\u0301", "é"),
        ("tab\there\n", "tab_here_"),
        ("猫", "猫"),
    ],
)
def test_labels_as_folder_names(label, name):
    """No separator, no dot folder, no reserved name, no control character."""
    assert folder_name(label) == name


@given(label=st.text(st.characters(codec=None), max_size=200))
def test_any_label_is_one_safe_folder(label):
    """One component, within the length, never up or hidden, and stable."""
    name = folder_name(label)
    assert name == folder_name(label)
    assert 0 < len(name.encode()) <= MAX_BYTES
    assert Path(name).parts == (name,)
    assert not name.startswith(".")
    assert not name.endswith((".", " "))


@given(labels=st.lists(st.text(alphabet="aA./ ", max_size=4), unique=True, max_size=12))
def test_no_two_labels_share_a_folder(labels):
    """Also where upper and lower case are the same; the order of the pictures does not matter."""
    names = FolderNames(labels)
    folders = [names[label] for label in labels]
    assert len({folder.casefold() for folder in folders}) == len(labels)
    assert [FolderNames(labels)[label] for label in reversed(labels)] == folders[::-1]
