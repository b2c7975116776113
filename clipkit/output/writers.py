"""One way to write outcomes in any format: records for programs, a table for people."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal, Protocol, Self, TextIO, get_args

from clipkit.errors import UsageError
from clipkit.output.sinks import open_sink

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from clipkit.results import Failure, Result

Format = Literal["auto", "table", "jsonl", "json", "csv", "tsv"]

_BY_SUFFIX: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "table",
}


class Writer(Protocol):
    """Takes outcomes one by one. Leaving the `with` block by an exception leaves a destination file as it was."""

    def __enter__(self) -> Self: ...  # noqa: D105

    def __exit__(  # noqa: D105
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def write(self, outcome: Result | Failure) -> None:
        """Write one outcome whole."""


def open_writer(
    format: str,  # noqa: A002  the option's name
    destination: Path | None = None,
    *,
    columns: tuple[str, ...],
    stream: TextIO | None = None,
    percent: bool = True,
) -> Writer:
    """A writer for `format`.

    Args:
        format: `jsonl` one record a line; `json` one array; `csv` and `tsv` one row a prediction with a last
            column `error`; `table` for people; `auto` by the destination's suffix, else a table on a terminal
            and `jsonl` anywhere else.
        destination: a file, put in place whole at the end; None for `stream`.
        columns: names of the cells in `Result.rows()`.
        stream: standard output by default.
        percent: tables show scores in [0, 1] as percentages with a bar.

    Raises:
        UsageError: the format is not known.
        OutputError: the destination cannot be written.
    """
    chosen = choose_format(format, destination, stream)
    if chosen == "table":
        from clipkit.output.table import TableWriter

        return TableWriter(destination, stream, columns, percent=percent)
    sink = open_sink(destination, stream)
    if chosen in {"csv", "tsv"}:
        from clipkit.output.delimited import DelimitedWriter

        return DelimitedWriter(sink, columns, tabs=chosen == "tsv")
    from clipkit.output.jsonl import JsonlWriter, JsonWriter

    return JsonWriter(sink) if chosen == "json" else JsonlWriter(sink)


def choose_format(format: str, destination: Path | None, stream: TextIO | None = None) -> str:  # noqa: A002
    """What `auto` means here.

    Raises:
        UsageError: the format is not known.
    """
    if format not in get_args(Format):
        raise UsageError(f"unknown format {format!r}; choose one of {', '.join(get_args(Format))}")
    if format != "auto":
        return format
    if destination is not None:
        return _BY_SUFFIX.get(destination.suffix.lower(), "jsonl")
    return "table" if (sys.stdout if stream is None else stream).isatty() else "jsonl"
