"""JSONL, JSON, CSV and TSV: exactly one outcome each, whole records, files that appear only when complete."""

import csv
import io
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipkit.errors import OutputError, UsageError
from clipkit.output.report import Tally
from clipkit.output.writers import choose_format, open_writer
from clipkit.results import Classification, Failure, Prediction

COLUMNS = Classification.columns
CAT = Classification("cat.jpg", "builtin", "abc", (Prediction("cat", 0.9), Prediction("dog", 0.1)))
NONE = Classification("none.jpg", "builtin", "abc", ())
BAD = Failure("bad\n.png", "truncated", "the PNG data ends early")
ODD = Classification("caf\udce9 猫\t.jpg", "builtin", "abc", (Prediction('a,"b"\tc\\d', 0.25),))
ALL = [CAT, BAD, NONE, ODD]


class Pipe(io.TextIOWrapper):
    """A text stream over bytes that remembers each write, as standard output is."""

    def __init__(self, *, terminal=False, encoding="utf-8"):
        class Raw(io.BytesIO):
            writes: ClassVar[list] = []

            def write(self, data):
                self.writes.append(bytes(data))
                return super().write(data)

        Raw.writes = []
        super().__init__(Raw(), encoding=encoding)
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def written(format_name, outcomes, columns=COLUMNS):
    stream = Pipe()
    with open_writer(format_name, columns=columns, stream=stream) as writer:
        for outcome in outcomes:
            writer.write(outcome)
    return stream.buffer.getvalue(), stream.buffer.writes


def test_jsonl_is_one_record_a_line_and_one_write_a_record():
    """Whoever stops reading, or stops us, sees whole records."""
    data, writes = written("jsonl", ALL)
    records = [json.loads(line) for line in data.decode().splitlines()]
    assert records == [outcome.record() for outcome in ALL]
    assert [w.endswith(b"\n") and w.count(b"\n") == 1 for w in writes] == [True] * 4


def test_names_of_any_bytes_survive_json():
    """A name that is no UTF-8 is an escape in valid UTF-8 text, and comes back as the same file name."""
    data, _ = written("jsonl", [ODD])
    text = data.decode("utf-8")
    assert "\\udce9" in text
    assert "猫" in text
    assert json.loads(text)["path"] == ODD.path


@settings(max_examples=100, deadline=None)
@given(name=st.text(st.characters(codec=None), max_size=20), message=st.text(max_size=20))
def test_any_text_is_one_valid_line(name, message):
    """Newlines, separators, lone surrogates and quotes never break a record."""
    data, _ = written("jsonl", [Failure(name, "k", message)])
    assert data.count(b"\n") == 1
    record = json.loads(data)
    assert (record["path"], record["error"]["message"]) == (name, message)


def test_json_has_no_nan():
    """NaN and infinities are not JSON; they become null."""

    @dataclass(frozen=True)
    class Odd:
        path: str = "a"
        columns: ClassVar = ("path", "x")

        def record(self):
            return {"path": "a", "x": [float("nan"), {"y": float("inf")}, 1.5, True]}

        def rows(self):
            yield ("a", None)

    data, _ = written("jsonl", [Odd()], Odd.columns)
    assert json.loads(data) == {"path": "a", "x": [None, {"y": None}, 1.5, True]}


@pytest.mark.parametrize("outcomes", [[], [CAT], ALL])
def test_a_json_file_is_one_array(tmp_path, outcomes):
    """`-o answers.json` can be read by any JSON reader, empty runs too."""
    path = tmp_path / "answers.json"
    with open_writer("auto", path, columns=COLUMNS) as writer:
        for outcome in outcomes:
            writer.write(outcome)
    assert json.loads(path.read_text("utf-8")) == [outcome.record() for outcome in outcomes]


def test_csv_has_a_row_a_prediction_and_failures_in_the_last_column():
    """Read back by Python's csv, each outcome is there once."""
    data, writes = written("csv", ALL)
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    assert rows == [
        ["path", "rank", "label", "score", "error"],
        ["cat.jpg", "1", "cat", "0.9", ""],
        ["cat.jpg", "2", "dog", "0.1", ""],
        ["bad\n.png", "", "", "", "truncated: the PNG data ends early"],
        ["none.jpg", "", "", "", ""],
        ["caf\\udce9 猫\t.jpg", "1", 'a,"b"\tc\\d', "0.25", ""],
    ]
    assert len(writes) == len(ALL)


@settings(max_examples=100, deadline=None)
@given(
    path=st.text(st.characters(codec="utf-8"), max_size=12), label=st.text(st.characters(codec="utf-8"), max_size=12)
)
def test_any_cells_survive_csv_and_tsv(path, label):
    """CSV by the standard reader; TSV by undoing its four escapes. Carriage returns and NULs too."""
    outcome = Classification(path, "m", "w", (Prediction(label, 0.5),))
    data, _ = written("csv", [outcome])
    if "\0" not in path + label:  # Python before 3.13 cannot read them back
        assert list(csv.reader(io.StringIO(data.decode(), newline="")))[1] == [path, "1", label, "0.5", ""]
    data, _ = written("tsv", [outcome])
    line = data.decode().split("\n")
    assert len(line) == 3
    assert [unescape(cell) for cell in line[1].split("\t")] == [path, "1", label, "0.5", ""]


def unescape(cell):
    return re.sub(r"\\(.)", lambda m: {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}[m[1]], cell)


def test_an_empty_run_has_a_header_and_a_failed_one_nothing():
    """A header alone says that nothing was found; nothing at all that the run did not come that far."""
    assert written("csv", [])[0] == b"path,rank,label,score,error\n"
    stream = Pipe()
    with pytest.raises(RuntimeError), open_writer("csv", columns=COLUMNS, stream=stream):
        raise RuntimeError
    assert stream.buffer.getvalue() == b""


def test_lists_in_cells_are_json():
    """A box or a nested value stays one cell."""

    @dataclass(frozen=True)
    class Box:
        path: str = "a"
        columns: ClassVar = ("path", "box", "note")

        def record(self):
            return {}

        def rows(self):
            yield ("a", [1, 2], None)

    assert written("tsv", [Box()], Box.columns)[0] == b"path\tbox\tnote\terror\na\t[1, 2]\t\t\n"


def test_auto_looks_at_the_suffix_and_at_the_stream(tmp_path):
    """A table is for a terminal; everything else gets records."""
    assert [
        choose_format("auto", tmp_path / f"x{s}") for s in (".csv", ".TSV", ".jsonl", ".json", ".txt", ".out", "")
    ] == [
        "csv",
        "tsv",
        "jsonl",
        "json",
        "table",
        "jsonl",
        "jsonl",
    ]
    assert choose_format("auto", None, Pipe()) == "jsonl"
    assert choose_format("auto", None, Pipe(terminal=True)) == "table"
    assert choose_format("csv", tmp_path / "x.jsonl") == "csv"
    with pytest.raises(UsageError, match="xml"):
        choose_format("xml", None)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("format_name", ["jsonl", "json", "csv", "tsv", "table"])
def test_a_file_is_put_in_place_whole_or_not_at_all(tmp_path, format_name, error):
    """After an error or Ctrl-C the previous file is there, no part of the new one, and the error is what it was."""
    path = tmp_path / "answers"
    path.write_text("before")
    with pytest.raises(error), open_writer(format_name, path, columns=COLUMNS) as writer:  # noqa: PT012
        writer.write(CAT)
        raise error
    assert path.read_text() == "before"
    assert [child.name for child in tmp_path.iterdir()] == ["answers"]
    with open_writer(format_name, path, columns=COLUMNS) as writer:
        writer.write(CAT)
        assert path.read_text() == "before"
    assert "cat" in path.read_text()


def test_places_that_cannot_be_written_are_told_at_once(tmp_path):
    """Before the first picture is read, not after the last."""
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "x.csv"):
        with pytest.raises(OutputError, match="cannot write"):
            open_writer("csv", place, columns=COLUMNS)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_links_keep_pointing_and_devices_stay_devices(tmp_path):
    """`-o link` writes the file behind it; `-o /dev/null` does not replace the device."""
    target = tmp_path / "real.jsonl"
    target.write_text("old")
    (tmp_path / "link.jsonl").symlink_to(target)
    with open_writer("auto", tmp_path / "link.jsonl", columns=COLUMNS) as writer:
        writer.write(CAT)
    assert (tmp_path / "link.jsonl").is_symlink()
    assert "cat" in target.read_text()
    with open_writer("jsonl", Path(os.devnull), columns=COLUMNS) as writer:
        writer.write(CAT)
    assert not Path(os.devnull).is_file()


def test_a_closed_pipe_is_left_to_the_caller_and_a_full_disk_is_an_output_error():
    """The command line ends quietly on the first and says the second."""

    class Closed(io.StringIO):
        error: OSError = BrokenPipeError()

        def write(self, _):
            raise self.error

    with pytest.raises(BrokenPipeError), open_writer("jsonl", columns=COLUMNS, stream=Closed()) as writer:
        writer.write(CAT)
    full = Closed()
    full.error = OSError(28, "No space left on device")
    with pytest.raises(OutputError, match="No space"), open_writer("csv", columns=COLUMNS, stream=full) as writer:
        writer.write(CAT)


def test_streams_without_bytes_underneath_work():
    """Notebooks and `contextlib.redirect_stdout` give plain text streams."""
    stream = io.StringIO()
    with open_writer("jsonl", columns=COLUMNS, stream=stream) as writer:
        writer.write(ODD)
    assert json.loads(stream.getvalue())["path"] == ODD.path


def test_text_written_before_comes_first():
    """The text layer's buffer is flushed before bytes go underneath it."""
    stream = Pipe()
    stream.write("# before\n")
    with open_writer("jsonl", columns=COLUMNS, stream=stream) as writer:
        writer.write(CAT)
    assert stream.buffer.getvalue().startswith(b"# before\n{")


def test_a_run_in_one_line():
    """Counts by kind, most frequent first."""
    tally = Tally()
    for outcome in (CAT, NONE, BAD, Failure("a", "not_found", "m"), Failure("b", "not_found", "m")):
        tally.add(outcome)
    assert (tally.done, tally.failed) == (2, 3)
    assert tally.summary() == "2 done, 3 failed (2 not found, 1 truncated)"
    assert Tally(done=1200).summary() == "1,200 done"
