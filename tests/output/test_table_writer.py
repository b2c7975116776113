"""What people see: charts, lines that fit, failures on stderr, colours only where they are wanted."""

import io
from dataclasses import dataclass

import pytest
from rich.cells import cell_len

from clipkit.output.writers import open_writer
from clipkit.results import Classification, Failure, Prediction

COLUMNS = Classification.columns


def picture(path, *pairs):
    return Classification(path, "builtin", "abc", tuple(Prediction(label, score) for label, score in pairs))


CAT = picture("photos/cat.jpg", ("cat", 0.931), ("dog", 0.052), ("sailing boat", 0.011))


@pytest.fixture
def show(monkeypatch):
    """Write outcomes as a table of 80 columns and return the text."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")

    def show(*outcomes, columns=COLUMNS, encoding="utf-8", **options):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        with open_writer("table", columns=columns, stream=stream, **options) as writer:
            for outcome in outcomes:
                writer.write(outcome)
        return stream.buffer.getvalue().decode(encoding)

    return show


def test_one_picture_is_a_chart(show):
    """Name, labels, aligned percentages, bars in proportion."""
    assert show(CAT).splitlines() == [
        "photos/cat.jpg",
        "  cat           93.1%  " + "━" * 28,
        "  dog            5.2%  ━╸",
        "  sailing boat   1.1%  ╸",
    ]


def test_many_pictures_are_a_line_each(show):
    """Paths in a column of their own; what does not fit is left out from the end of the line."""
    lines = show(CAT, picture("b.jpg"), CAT).splitlines()
    assert lines == [
        "photos/cat.jpg                    cat 93.1%  dog 5.2%  sailing boat 1.1%",
        "b.jpg                             no label",
        "photos/cat.jpg                    cat 93.1%  dog 5.2%  sailing boat 1.1%",
    ]


@pytest.mark.parametrize("width", [30, 40, 80, 200])
def test_every_line_fits(show, monkeypatch, width):
    """Long paths lose their beginning, long labels their end; wide characters count double."""
    monkeypatch.setenv("COLUMNS", str(width))
    hard = [
        picture("a/" * 60 + "end.jpg", ("label " * 30, 0.5), ("other", 0.4)),
        picture("猫" * 50 + ".jpg", ("犬" * 50, 0.5), ("x", 0.1)),
        picture("line\nbreak\x1b[31m\udce9.jpg", ("tab\tbed", 1.0)),
        picture("e\u0301" * 40 + ".jpg", *((f"label {n}", 0.01) for n in range(40))),
    ]
    for text in (show(*hard), *(show(one) for one in hard)):
        assert "\x1b" not in text
        for line in text.splitlines():
            assert cell_len(line) <= width, line
    lines = show(*hard).splitlines()
    assert len(lines) == len(hard)
    if width >= 40:
        assert "…" in lines[0]
        assert "end.jpg " in lines[0]


def test_cosines_are_numbers_and_have_no_bar(show):
    """A cosine of 0.27 is no 27 %."""
    text = show(picture("a.jpg", ("cat", 0.27), ("dog", -0.03)), percent=False)
    assert text.splitlines()[1:] == ["  cat   0.2700", "  dog  -0.0300"]


def test_failures_go_to_stderr_on_one_line_and_in_order(show, capsys):
    """Stdout holds results only; what came before a failure is on the screen before it."""
    text = show(CAT, Failure("bad\n.png", "truncated", "ends early"), Failure("", "not_found", "an empty name"))
    assert text.count("\n") == 1
    assert capsys.readouterr().err == "clipkit: bad\\n.png: ends early\nclipkit: '': an empty name\n"
    assert show(Failure("a.png", "x", "a.png: is odd")) == ""
    assert capsys.readouterr().err == "clipkit: a.png: is odd\n"


def test_a_terminal_without_unicode_gets_ascii(show):
    """Bars and ellipses have plain forms, names become escapes."""
    text = show(picture("x" * 100 + "/猫.jpg", ("cat", 0.5)), CAT, encoding="ascii") + show(CAT, encoding="ascii")
    assert "~" in text
    assert "\\u732b" in text
    assert "####" in text


def test_colours_only_where_they_are_wanted(show, monkeypatch):
    """None in a file; FORCE_COLOR brings them, NO_COLOR takes them away again."""
    assert "\x1b[" not in show(CAT)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in show(CAT)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in show(CAT)


def test_a_table_in_a_file_is_plain(tmp_path, monkeypatch):
    """`-o answers.txt` is text without escapes, whatever the terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    path = tmp_path / "answers.txt"
    with open_writer("auto", path, columns=COLUMNS) as writer:
        writer.write(CAT)
        writer.write(CAT)
    assert path.read_text("utf-8").splitlines()[0] == f"{'photos/cat.jpg':40}  cat 93.1%  dog 5.2%  sailing boat 1.1%"


def results(*columns):
    """A result type with these columns; its rows are given."""

    @dataclass(frozen=True)
    class Rows:
        path: str
        given: tuple

        def record(self):
            return {}

        def rows(self):
            yield from self.given

    Rows.columns = columns
    return Rows


def test_several_rows_are_aligned_columns_under_their_name(show):
    """Boxes, windows: a heading, the column names, the rows; numbers to the right, empty columns left out."""
    found = results("path", "label", "score", "box", "note")
    rows = tuple(("a.jpg", "cat", 0.123456, box, None) for box in ([1, 2], [10, 200]))
    assert show(found("a.jpg", rows), columns=found.columns).splitlines() == [
        "a.jpg",
        "  label   score  box",
        "  cat    0.1235  [1, 2]",
        "  cat    0.1235  [10, 200]",
    ]
    assert show(found("none.jpg", ()), columns=found.columns).splitlines()[0] == "none.jpg"


def test_one_row_an_input_is_a_line_under_one_header(show):
    """Depths, sketches, metrics: as a table of files."""
    depth = results("path", "method", "min", "mean", "metric")
    text = show(
        *(
            depth(path, ((path, "clip", 0.5, mean, False),))
            for path, mean in (("a.jpg", 1.25), ("long/" * 20, 12345.678))
        ),
        columns=depth.columns,
    )
    assert text.splitlines() == [
        "path                              method      min     mean  metric",
        "a.jpg                             clip        0.5     1.25  False",
        f"…{'/long' * 6}/  clip        0.5    12346  False",
    ]


def test_one_ranking_with_constant_extras_is_shown_as_a_ranking(show):
    """A recording heard as a whole is one list of labels; heard in windows it has rows with times."""
    heard = results("path", "start", "end", "rank", "label", "score")
    whole = heard("a.wav", (("a.wav", 0, 5, 1, "dog", 0.9), ("a.wav", 0, 5, 2, "rain", 0.1)))
    parts = heard("b.wav", (("b.wav", 0, 5, 1, "dog", 0.9), ("b.wav", 5, 9, 1, "rain", 0.8)))
    assert show(whole, whole, columns=heard.columns).splitlines()[0] == f"{'a.wav':32}  dog 90.0%  rain 10.0%"
    assert show(whole, parts, columns=heard.columns).splitlines() == [
        f"{'a.wav':32}  dog 90.0%  rain 10.0%",
        "b.wav",
        "  start  end  rank  label  score",
        "      0    5     1  dog      0.9",
        "      5    9     1  rain     0.8",
    ]


def test_the_only_picture_is_shown_even_if_the_run_is_stopped(show, monkeypatch):
    """What was answered before Ctrl-C is not lost."""
    monkeypatch.setenv("COLUMNS", "80")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with pytest.raises(KeyboardInterrupt), open_writer("table", columns=COLUMNS, stream=stream) as writer:  # noqa: PT012
        writer.write(CAT)
        raise KeyboardInterrupt
    assert "cat" in stream.buffer.getvalue().decode()
