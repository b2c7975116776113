"""Outcomes as CSV (RFC 4180 quoting) or TSV (escapes, no quoting): one row a prediction."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any, Self

from clipkit.results import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from clipkit.output.sinks import Sink
    from clipkit.results import Result

_TSV_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class DelimitedWriter:
    """A header, then one row a prediction; a failure is one row whose last column, `error`, is `kind: message`."""

    def __init__(self, sink: Sink, columns: tuple[str, ...], *, tabs: bool = False) -> None:
        """Write `columns` and `error` to `sink`, as TSV with `tabs`."""
        self._sink = sink
        self._columns = columns
        self._path_column = columns.index("path") if "path" in columns else 0
        self._encode = _tsv if tabs else _csv
        self._header_due = True

    def __enter__(self) -> Self:
        """Nothing to prepare: the header comes with the first outcome, or alone at the end of an empty run."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file, or drop it after an exception."""
        if kind is None and self._header_due:
            self._sink.write(self._header())
        self._sink.close(success=kind is None)

    def write(self, outcome: Result | Failure) -> None:
        """Write all rows of one outcome at once."""
        rows: list[Sequence[Any]]
        if isinstance(outcome, Failure):
            cells = [""] * (len(self._columns) + 1)
            cells[self._path_column] = outcome.path
            cells[-1] = f"{outcome.kind}: {outcome.message}"
            rows = [cells]
        else:
            rows = [(*row, "") for row in outcome.rows()]
        self._sink.write(self._header() + "".join(self._encode([cell(value) for value in row]) for row in rows))
        self._header_due = False

    def _header(self) -> str:
        return self._encode([*self._columns, "error"]) if self._header_due else ""


def cell(value: Any) -> str:
    """One value as text: None is empty, lists and dicts are JSON."""
    if value is None:
        return ""
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _csv(cells: list[str]) -> str:
    text = io.StringIO()
    # A lone carriage return is quoted from Python 3.13 on only, so quote such rows whole.
    if any("\r" in c for c in cells):
        csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(cells)
    else:
        csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _tsv(cells: list[str]) -> str:
    return "\t".join(c.translate(_TSV_ESCAPES) for c in cells) + "\n"
