"""Inputs to files: every form of naming, in a fixed order, one outcome for each dead end."""
# Names are text here, as users give them.
# ruff: noqa: PTH102, PTH103, PTH106, PTH107, PTH109, PTH118, PTH119

import io
import os
import sys
from itertools import islice
from pathlib import Path

import pytest

from clipkit.errors import UsageError
from clipkit.media import paths
from clipkit.media.paths import Source, count, expand, printable
from clipkit.results import Failure


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(inputs, **options):
    return [item.name if isinstance(item, Source) else (item.path, item.kind) for item in expand(inputs, **options)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_named_file_is_taken_whatever_its_suffix(here):
    """The user's own word counts: a file named on the command line is tried even as .dat."""
    touch(here, "a.dat")
    assert names(["a.dat"]) == ["a.dat"]


def test_a_folder_is_searched_by_extension_in_sorted_order(here):
    """Subfolders are in place among the files, case of the suffix does not count, dot-names and other kinds stay out."""
    touch(here, "d/b.PNG", "d/a/z.jpg", "d/a.jpg", "d/c.txt", "d/.hidden.jpg", "d/.git/x.jpg", "d/z.webp")
    expected = [os.path.join("d", *n.split("/")) for n in ("a/z.jpg", "a.jpg", "b.PNG", "z.webp")]
    assert names(["d"]) == expected
    assert names(["d/"]) == expected
    assert names(["d"], extensions=frozenset({".txt"})) == [os.path.join("d", "c.txt")]


def test_order_is_that_of_the_inputs_and_a_file_named_twice_is_taken_twice(here):
    """Scripts pair outcomes with what they named."""
    touch(here, "a.png", "b.png", "d/c.png")
    assert names(["b.png", "d", "a.png", "b.png"]) == ["b.png", os.path.join("d", "c.png"), "a.png", "b.png"]


def test_patterns_are_expanded_where_the_shell_did_not(here):
    """`*`, `?`, `[..]` and `**` work quoted; with no suffix in the pattern only known kinds are taken."""
    touch(here, "p/b.jpg", "p/a.jpg", "p/n.txt", "p/q/c.png")
    join = os.path.join
    assert names(["p/*.jpg"]) == [join("p", "a.jpg"), join("p", "b.jpg")]
    assert names(["p/?.txt"]) == [join("p", "n.txt")]
    assert names(["p/[ab].jpg"]) == [join("p", "a.jpg"), join("p", "b.jpg")]
    assert names(["p/*"]) == [join("p", "a.jpg"), join("p", "b.jpg"), join("p", "q", "c.png")]
    assert sorted(names(["p/**"])) == sorted([join("p", "a.jpg"), join("p", "b.jpg"), join("p", "q", "c.png")])
    assert names(["**/*.png"]) == [join("p", "q", "c.png")]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows takes no * in names")
def test_a_file_of_the_very_name_wins_over_the_pattern(here):
    """`photo[1].jpg` is what browsers call a second download."""
    touch(here, "photo[1].jpg", "photo1.jpg", "sta*r.jpg", "star.jpg")
    assert names(["photo[1].jpg", "sta*r.jpg"]) == ["photo[1].jpg", "sta*r.jpg"]


def test_dead_ends_give_one_failure_each(here):
    """Missing, empty, nothing of the kind, no match, an address, an empty word: one outcome, in place."""
    touch(here, "only/text.txt", "ok.png")
    (here / "void").mkdir()
    outcomes = names(["no.png", "void", "only", "*.gif", "https://example.org/a.jpg", "", "a\0b", "ok.png"])
    assert outcomes == [
        ("no.png", "not_found"),
        ("void", "empty_folder"),
        ("only", "empty_folder"),
        ("*.gif", "not_found"),
        ("https://example.org/a.jpg", "not_found"),
        ("", "not_found"),
        ("a\0b", "not_found"),
        "ok.png",
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
def test_links_to_files_are_taken_and_links_to_folders_are_not_followed(here):
    """A link upwards must not make the search endless, a dangling one is told, one to itself does not crash."""
    touch(here, "d/a.png")
    (here / "d" / "up").symlink_to(here)
    (here / "d" / "b.png").symlink_to("a.png")
    (here / "d" / "c.png").symlink_to("nowhere")
    (here / "d" / "e.png").symlink_to("e.png")
    (here / "d" / "f.png").symlink_to(here)
    assert names(["d"]) == [
        "d/a.png",
        "d/b.png",
        ("d/c.png", "not_found"),
        ("d/e.png", "not_found"),
        ("d/f.png", "is_directory"),
    ]
    [named] = expand(["d/c.png"])
    assert isinstance(named, Failure)
    assert named.kind == "not_found"
    assert "nowhere" in named.message


def test_an_empty_folder_that_looks_like_a_picture_is_told(here):
    """A folder called x.jpg has one outcome: what is in it, or a failure."""
    touch(here, "d/full.jpg/a.png")
    (here / "d" / "x.jpg").mkdir()
    assert names(["d"]) == [os.path.join("d", "full.jpg", "a.png"), (os.path.join("d", "x.jpg"), "is_directory")]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_told(here):
    """No permission is a failure in place, and the search goes on."""
    touch(here, "d/a/x.png", "d/b.png")
    (here / "d" / "a").chmod(0)
    try:
        assert names(["d"]) == [("d/a", "permission"), "d/b.png"]
    finally:
        (here / "d" / "a").chmod(0o700)


def test_a_folder_that_vanishes_is_told(here, monkeypatch):
    """An error of the file system below a folder is a failure of that folder, not of the run."""
    touch(here, "d/a/x.png", "d/b.png")
    real = os.scandir

    def scandir(folder):
        if os.path.basename(folder) == "a":
            raise OSError(5, "Input/output error")
        return real(folder)

    monkeypatch.setattr(paths.os, "scandir", scandir)
    assert names(["d"]) == [(os.path.join("d", "a"), "unreadable"), os.path.join("d", "b.png")]


def test_dash_is_one_file_on_stdin_and_is_read_only_in_its_turn(here):
    """Bytes on stdin are one input called `-`."""
    touch(here, "a.png")
    stdin = io.BytesIO(b"bytes")
    stream = expand(["a.png", "-"], stdin=stdin)
    next(stream)
    assert stdin.tell() == 0
    assert next(stream) == Source("-", None, b"bytes")


def test_requests_that_make_no_sense_are_refused_before_anything_is_read(tmp_path):
    """No input at all, stdin twice, a list that is not there, a terminal: usage errors, not failures."""
    for inputs, options in (
        ([], {}),
        (["-", "-"], {"stdin": io.BytesIO()}),
        (["-"], {"files_from": "-", "stdin": io.BytesIO()}),
        ([], {"files_from": str(tmp_path / "none.txt")}),
    ):
        with pytest.raises(UsageError):
            expand(inputs, **options)

    class Terminal(io.BytesIO):
        def isatty(self):
            return True

    with pytest.raises(UsageError, match="terminal"):
        expand(["-"], stdin=Terminal())


def test_lists_of_files(here):
    """Newlines or NULs, a last name without one, blank lines, CRLF, a byte order mark, folders; patterns are literal."""
    touch(here, "a b.png", "c.png", "d/e.png", "[x].png")
    (here / "list.txt").write_bytes(b"\xef\xbb\xbfa b.png\r\n\nc.png\nd\n[x].png")
    expected = ["a b.png", "c.png", os.path.join("d", "e.png"), "[x].png"]
    assert names([], files_from="list.txt") == expected
    assert names([], files_from="-", null=True, stdin=io.BytesIO(b"a b.png\0\0c.png\0d\0[x].png")) == expected
    assert names(["c.png"], files_from="-", stdin=io.BytesIO(b"*.png\n")) == ["c.png", ("*.png", "not_found")]


def test_lists_that_name_nothing_or_are_in_a_foreign_encoding(here):
    """An empty list is one failure; UTF-16, which some shells write, is named as the reason."""
    (here / "empty.txt").write_bytes(b"\n\n")
    assert names([], files_from="empty.txt") == [("empty.txt", "empty_list")]
    (here / "wide.txt").write_bytes("a.png\n".encode("utf-16"))
    with pytest.raises(UsageError, match="UTF-16"):
        names([], files_from="wide.txt")


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="names are Unicode there")
def test_names_that_are_no_utf8_and_names_with_newlines_survive(here):
    """A file can be opened by the name that came out, whatever its bytes."""
    raw = [b"latin-\xe9.png", b"new\nline.png"]
    for name in raw:
        Path(os.fsdecode(name)).write_bytes(b"x")
    listed = b"\0".join(raw)
    for stream in (expand(["."]), expand([], files_from="-", null=True, stdin=io.BytesIO(listed))):
        assert sorted(os.fsencode(item.path.name) for item in stream) == raw
        assert printable(os.fsdecode(raw[0])) == "latin-\\xe9.png"
    assert printable("a\nb\t\x1b[0m") == "a\\nb\\t\\x1b[0m"
    assert printable("猫 é.png") == "猫 é.png"


def test_a_null_separated_list_is_read_as_it_arrives(here):
    """A slow producer's first names come out before the stream ends."""
    touch(here, "a.png")
    blocks = [b"a.png\0a.p", b"ng\0"]

    class Slow(io.RawIOBase):
        def read1(self, _):
            return blocks.pop(0) if blocks else pytest.fail("read beyond what was needed")

    assert [item.name for item in islice(expand([], files_from="-", null=True, stdin=Slow()), 2)] == ["a.png", "a.png"]


def test_expansion_is_lazy(here):
    """The first file of a tree is there before the rest of the tree is looked at."""
    touch(here, "d/a/1.png", "d/b/2.png")
    stream = expand(["d"])
    first = next(stream)
    (here / "d" / "b" / "2.png").unlink()
    assert first.path == Path("d/a/1.png")
    assert list(stream) == []


def test_deep_trees_do_not_exhaust_the_stack(here):
    """A tree deeper than Python's recursion limit would allow is walked all the same."""
    depth = 1050
    os.makedirs("d")
    top = os.getcwd()
    os.chdir("d")
    for _ in range(depth):
        os.mkdir("x")
        os.chdir("x")
    Path("a.png").write_bytes(b"x")
    os.chdir(top)
    try:
        assert len(list(expand(["d"]))) == 1
    finally:
        _remove_deep(depth)


def _remove_deep(depth):
    top = os.getcwd()
    os.chdir("d")
    for _ in range(depth):
        os.chdir("x")
    os.remove("a.png")
    for _ in range(depth):
        os.chdir("..")
        os.rmdir("x")
    os.chdir(top)


def test_count_agrees_with_expand_and_gives_up_where_it_cannot_know(here, monkeypatch):
    """The progress bar's total is the number of outcomes; a list on a pipe must not be eaten by counting it."""
    touch(here, "d/a.png", "d/b.png", "c.png")
    (here / "list.txt").write_text("c.png\nd\n")
    assert count(["d", "no.png", "-"]) == 4
    assert count(["c.png"], files_from="list.txt") == 4
    assert count([], files_from="-") is None
    assert count([], files_from=os.devnull) is None
    touch(here, *(f"many/{n}.png" for n in range(300)))
    monkeypatch.setattr(paths, "_COUNT_SECONDS", -1)
    assert count(["many"]) is None
