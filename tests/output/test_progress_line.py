"""The progress line: for people at a terminal, and for nobody else."""

import io
import sys

import pytest

from clipkit.output import progress as module
from clipkit.output.progress import LiveProgress, NoProgress, open_progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True

    encoding = "utf-8"


def at_a_terminal(monkeypatch):
    """Make both streams terminals, inside the test: pytest replaces them after fixtures."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    err, out = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(sys, "stdout", out)
    return err


def test_nothing_without_a_terminal(monkeypatch):
    """In a script, in CI, after --quiet: an object that only calls."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(open_progress(), NoProgress)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert isinstance(open_progress(show=False), NoProgress)
    called = []
    with open_progress(show=False, count=lambda: pytest.fail("counted")) as progress:
        progress.hide_while(called.append, 1)
        progress.advance()
    assert called == [1]


def test_nothing_when_results_go_into_a_pipe(monkeypatch):
    """`| head` and `| jq` print on the same terminal."""
    at_a_terminal(monkeypatch)
    assert isinstance(open_progress(), LiveProgress)
    monkeypatch.setattr(module, "_stdout_is_a_pipe", lambda: True)
    assert isinstance(open_progress(), NoProgress)


def test_a_short_run_shows_nothing_and_counts_nothing(monkeypatch):
    """Three pictures need no bar, and a folder need not be walked for one."""
    terminal = at_a_terminal(monkeypatch)
    with open_progress(count=lambda: pytest.fail("counted")) as progress:
        for _ in range(3):
            progress.advance()
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("total", [500, None])
def test_a_long_run_shows_how_far_it_is_and_cleans_up(monkeypatch, total):
    """Done, total, rate; at most ten drawings a second; no trace at the end."""
    terminal = at_a_terminal(monkeypatch)
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with open_progress(count=lambda: total) as progress:
        for _ in range(100):
            now[0] += 0.02
            progress.advance()
    text = terminal.getvalue()
    assert ("99/500" in text or "98/500" in text or "97/500" in text) if total else "/?" in text
    assert "50/s" in text
    assert text.count("/s") <= 17
    assert text.rstrip().endswith(("\x1b[2K", "\x1b[?25h"))


def test_it_is_off_the_screen_while_a_row_is_written(monkeypatch):
    """Between hiding and the row nothing is drawn; drawing resumes when it is due."""
    terminal = at_a_terminal(monkeypatch)
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with open_progress(count=lambda: 9) as progress:
        progress.advance()
        now[0] += 1
        progress.advance()
        assert "2/9" in terminal.getvalue()
        progress.hide_while(terminal.write, "\nROW\n")
        progress.hide_while(terminal.write, "ROW\n")
        before = terminal.getvalue().split("ROW")[0]
        assert "\x1b[2K" in before.rsplit("2/9", 1)[1]
        assert terminal.getvalue().endswith("\nROW\nROW\n")
        progress.advance()
        assert terminal.getvalue().endswith("ROW\nROW\n")
        now[0] += 0.2
        progress.advance()
        assert "4/9" in terminal.getvalue().rsplit("ROW", 1)[1]
