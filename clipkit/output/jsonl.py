"""Records as JSON: one object a line, or one array."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from clipkit.output.sinks import Sink
    from clipkit.results import Failure, Result


class JsonlWriter:
    """One JSON object a line (RFC 8259, UTF-8), failures among them in their place."""

    def __init__(self, sink: Sink) -> None:
        """Write to `sink`."""
        self._sink = sink

    def __enter__(self) -> Self:
        """Nothing to prepare."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file, or drop it after an exception."""
        self._sink.close(success=kind is None)

    def write(self, outcome: Result | Failure) -> None:
        """Write one line."""
        self._sink.write(encode(outcome) + "\n")


class JsonWriter(JsonlWriter):
    """One JSON array of all records, a record a line."""

    def __init__(self, sink: Sink) -> None:
        """Write to `sink`."""
        super().__init__(sink)
        self._started = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the array."""
        if kind is None:
            self._sink.write("\n]\n" if self._started else "[]\n")
        super().__exit__(kind, error, trace)

    def write(self, outcome: Result | Failure) -> None:
        """Write one element."""
        self._sink.write((",\n" if self._started else "[\n") + encode(outcome))
        self._started = True


def encode(outcome: Result | Failure) -> str:
    """The record on one line. NaN and infinities, which JSON lacks, become null."""
    record = outcome.record()
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(", ", ": "))
    except ValueError:
        return json.dumps(_finite(record), ensure_ascii=False, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
