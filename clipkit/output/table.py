"""Outcomes for people: one picture as a small chart, many as one line each, anything else as aligned columns."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Self, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from clipkit.media.paths import printable
from clipkit.output.delimited import cell
from clipkit.output.sinks import open_sink
from clipkit.results import Failure

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from clipkit.results import Result

RANKING = {"path", "rank", "label", "score"}
_BAR_WIDTH = 30
_NUMBER = 7
_FILE_WIDTH = 100


class TableWriter:
    """Results as text on a terminal (or in a file); failures go to stderr, one line each.

    One ranking of labels an input: a run of one picture is a chart with bars, a run of many is one line a picture,
    written as it comes. One row of other values an input: lines under one header. Several rows an input (boxes,
    windows): a heading and the rows in aligned columns.
    """

    def __init__(
        self, destination: Path | None, stream: TextIO | None, columns: tuple[str, ...], *, percent: bool = True
    ) -> None:
        """Find out the width, the colours and the characters that the terminal has."""
        stream = sys.stdout if stream is None else stream
        encoding = "utf-8" if destination is not None else getattr(stream, "encoding", None) or "utf-8"
        self._sink = open_sink(destination, stream, encoding)
        if destination is None:
            self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        else:
            self._console = Console(width=_FILE_WIDTH, no_color=True, color_system=None, highlight=False, markup=False)
        self._errors = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._fancy = encoding.lower().replace("-", "").startswith("utf")
        self._columns = columns
        self._percent = percent
        self._first: Result | None = None
        self._rows_out = 0
        self._widths: list[int] | None = None

    def __enter__(self) -> Self:
        """Nothing to prepare."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is still held back: a run of one picture is known to be one only now."""
        if self._first is not None and kind is not BrokenPipeError:
            first, self._first = self._first, None
            self._put(self._chart(first))
        self._sink.close(success=kind is None)

    def write(self, outcome: Result | Failure) -> None:
        """Write one outcome; the very first picture waits until it is known whether there are more."""
        if isinstance(outcome, Failure):
            self._flush_first()
            message = printable(outcome.message)
            path = printable(outcome.path)
            line = message if message.startswith(path) and path else f"{path or repr('')}: {message}"
            self._errors.print(Text(f"clipkit: {line}", style="red"), soft_wrap=True)
            return
        rows = [tuple(row) for row in outcome.rows()]
        if not self._is_ranking(rows):
            self._flush_first()
            self._put(self._row(outcome, rows[0]) if self._is_single(outcome, rows) else self._block(outcome, rows))
        elif self._rows_out == 0 and self._first is None:
            self._first = outcome
        else:
            self._flush_first()
            self._put([self._line(outcome)])

    def _flush_first(self) -> None:
        if self._first is not None:
            first, self._first = self._first, None
            self._put([self._line(first)])

    def _is_ranking(self, rows: list[tuple[Any, ...]]) -> bool:
        """Whether the rows are one list of labels, best first, for the whole input."""
        if not {"rank", "label", "score"} <= set(self._columns):
            return False
        others = [i for i, name in enumerate(self._columns) if name not in RANKING]
        return len({tuple(row[i] for i in others) for row in rows}) == 1

    def _is_single(self, result: Result, rows: list[tuple[Any, ...]]) -> bool:
        return (
            len(rows) == 1
            and "label" not in self._columns
            and "path" in self._columns
            and rows[0][self._columns.index("path")] == result.path
        )

    def _put(self, lines: list[Text]) -> None:
        with self._console.capture() as captured:
            for line in lines:
                line.rstrip()
                self._console.print(line, soft_wrap=True)
        self._sink.write(captured.get())
        self._rows_out += 1

    def _scores(self, result: Result) -> list[tuple[str, float]]:
        at = {name: i for i, name in enumerate(self._columns)}
        rows = [(str(row[at["label"]]), row[at["score"]]) for row in result.rows()]
        return [(printable(label), float(score)) for label, score in rows if score not in {"", None}]

    def _chart(self, result: Result) -> list[Text]:
        width = self._console.width
        scores = self._scores(result)
        lines = [Text(_left_cut(printable(result.path), width, self._ellipsis), style="bold")]
        if not scores:
            return [*lines, Text("  no label", style="dim")]
        numbers = [self._number(score) for _, score in scores]
        number_width = max(map(len, numbers))
        label_width = min(max(cell_len(label) for label, _ in scores), max(8, width - number_width - 6))
        bar_width = min(_BAR_WIDTH, width - label_width - number_width - 6)
        for rank, ((label, score), number) in enumerate(zip(scores, numbers, strict=True)):
            line = Text("  ")
            line.append(_right_cut(label, label_width, self._ellipsis), style="bold" if rank == 0 else "")
            line.append(f"  {number:>{number_width}}", style="bold cyan" if rank == 0 else "cyan")
            if self._percent and bar_width >= 5 and 0 <= score <= 1:
                line.append("  " + self._bar(score, bar_width), style="green" if rank == 0 else "dim")
            lines.append(line)
        return lines

    def _line(self, result: Result) -> Text:
        width = self._console.width
        path_width = max(16, width * 2 // 5)
        line = Text(_left_cut(printable(result.path), path_width, self._ellipsis, pad=True) + "  ")
        scores = self._scores(result)
        if not scores:
            return line.append("no label", style="dim")
        left = width - path_width - 2
        for rank, (label, score) in enumerate(scores):
            number = self._number(score)
            room = left - len(number) - 1 - (2 if rank else 0)
            if rank and cell_len(label) > room:
                break
            shown = label if cell_len(label) <= room else _right_cut(label, max(1, room), self._ellipsis)
            line.append("  " if rank else "")
            line.append(shown, style="bold" if rank == 0 else "dim").append(" ")
            line.append(number, style="cyan" if rank == 0 else "dim")
            left = room - cell_len(shown)
        return line

    def _row(self, result: Result, row: tuple[Any, ...]) -> list[Text]:
        """One line of values under a header that is written once; the first row decides the widths."""
        width = self._console.width
        at = [i for i, name in enumerate(self._columns) if name != "path"]
        cells = [printable(_plain(row[i])) for i in at]
        names = [self._columns[i] for i in at]
        header = self._widths is None
        if self._widths is None:
            self._widths = [
                max(len(n), cell_len(c), _NUMBER if _is_number(row[i]) else 0)
                for n, c, i in zip(names, cells, at, strict=True)
            ]
        room = max(16, width - sum(self._widths) - 2 * len(at))
        lines = []
        for first, rest in [("path", names), (printable(result.path), cells)][0 if header else 1 :]:
            parts = [_left_cut(first, min(room, width * 2 // 5), self._ellipsis, pad=True)]
            for text, w, i in zip(rest, self._widths, at, strict=True):
                gap = " " * max(0, w - cell_len(text))
                parts.append(gap + text if _is_number(row[i]) else text + gap)
            lines.append(Text(_right_cut("  ".join(parts).rstrip(), width, self._ellipsis).rstrip()))
        if header:
            lines[0].stylize("dim")
        return lines

    def _block(self, result: Result, rows: list[tuple[Any, ...]]) -> list[Text]:
        width = self._console.width
        keep = [
            i
            for i, name in enumerate(self._columns)
            if not (name == "path" and all(row[i] == result.path for row in rows))
            and not (rows and all(row[i] is None or row[i] == "" for row in rows))
        ]
        names = [self._columns[i] for i in keep]
        cells = [[printable(_plain(row[i])) for i in keep] for row in rows]
        lines = [Text(_left_cut(printable(result.path), width, self._ellipsis), style="bold")]
        if not keep:
            return lines
        widths = [max(cell_len(text) for text in column) for column in zip(names, *cells, strict=True)]
        numeric = [all(_is_number(row[i]) for row in rows) for i in keep]
        for number, row in enumerate([names, *cells]):
            parts = [
                " " * (w - cell_len(text)) + text if right else set_cell_size(text, w)
                for text, w, right in zip(row, widths, numeric, strict=True)
            ]
            text = "  " + "  ".join(parts).rstrip()
            lines.append(Text(_right_cut(text, width, self._ellipsis).rstrip(), style="dim" if number == 0 else ""))
        return lines

    @property
    def _ellipsis(self) -> str:
        return "…" if self._fancy else "~"

    def _number(self, score: float) -> str:
        if self._percent and 0 <= score <= 1:
            return f"{100 * score:.1f}%"
        return f"{score:.4f}"

    def _bar(self, score: float, width: int) -> str:
        halves = round(2 * width * score)
        if not self._fancy:
            return "#" * (halves // 2)
        return "━" * (halves // 2) + "╸" * (halves % 2)


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
    return cell(value)


def _is_number(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, int | float) and not isinstance(value, bool))


def _left_cut(text: str, width: int, ellipsis: str, *, pad: bool = False) -> str:
    """At most `width` cells, losing the beginning: the end of a path is what tells files apart."""
    if cell_len(text) <= width:
        return set_cell_size(text, width) if pad else text
    tail = text[-(width - 1) :]
    while cell_len(tail) > width - 1:
        tail = tail[1:]
    return ellipsis + (set_cell_size(tail, width - 1) if pad else tail)


def _right_cut(text: str, width: int, ellipsis: str) -> str:
    """Exactly `width` cells, losing the end."""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, max(0, width - 1)) + ellipsis
