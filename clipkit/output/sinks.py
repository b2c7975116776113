"""Where records go: standard output, one whole record a write, or a file that appears only when it is complete."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TextIO

from clipkit.errors import OutputError
from clipkit.files import atomic_write

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class Sink(Protocol):
    """Takes whole records as text; closing without success leaves no half-written file."""

    def write(self, text: str) -> None:
        """Write one record whole."""

    def close(self, *, success: bool) -> None:
        """End; with `success=False` a file destination stays as it was before."""


def open_sink(destination: Path | None, stream: TextIO | None = None, encoding: str = "utf-8") -> Sink:
    """A sink for `destination`, or for `stream` (standard output by default) where it is None.

    Raises:
        OutputError: the destination is a folder or cannot be written.
    """
    if destination is None:
        return StreamSink(sys.stdout if stream is None else stream, encoding)
    return FileSink(destination)


class StreamSink:
    r"""Standard output; each record is written and flushed at once, so that a closed pipe and Ctrl-C leave whole records.

    Text that has no UTF-8 form (file names of other encodings) is written as `\udcXX`, which in JSON is
    the escape of the very same name.
    """

    def __init__(self, stream: TextIO, encoding: str = "utf-8") -> None:
        """Write to `stream`, through its byte buffer where it has one."""
        self._stream = stream
        self._buffer: IO[bytes] | None = getattr(stream, "buffer", None)
        self._encoding = encoding
        stream.flush()

    def write(self, text: str) -> None:
        """Write one record whole; a reader that has left raises BrokenPipeError."""
        data = text.encode(self._encoding, "backslashreplace")
        try:
            if self._buffer is None:
                self._stream.write(data.decode(self._encoding))
                self._stream.flush()
            else:
                self._buffer.write(data)
                self._buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"cannot write to standard output: {error.strerror or error}") from error

    def close(self, *, success: bool) -> None:
        """Nothing to do: every record is out already."""


class FileSink:
    """A file, written beside its place and renamed at the end, so that it is never seen half-written.

    Devices and pipes are written directly; of a link the file it points to is replaced.
    """

    def __init__(self, destination: Path) -> None:
        """Check the place now: a run must not end in this error after an hour of work."""
        self._destination = destination
        self._open: AbstractContextManager[IO[Any]]
        try:
            mode = destination.stat().st_mode if destination.exists() else 0
            if stat.S_ISDIR(mode):
                raise OutputError(f"cannot write {destination}: it is a folder; name a file in it")
            direct = mode and not stat.S_ISREG(mode)
            if direct or str(destination).startswith(("/dev/", "/proc/")):
                self._open = destination.open("wb")
            else:
                self._open = atomic_write(Path(os.path.realpath(destination)))
            self._stream = self._open.__enter__()
        except OSError as error:
            raise self._failed(error) from error

    def write(self, text: str) -> None:
        """Add one record."""
        try:
            self._stream.write(text.encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise self._failed(error) from error

    def close(self, *, success: bool) -> None:
        """Put the file in its place, or leave what was there."""
        if success:
            self._open.__exit__(None, None, None)
            return
        with contextlib.suppress(_AbandonError):
            self._open.__exit__(_AbandonError, _AbandonError(), None)

    def _failed(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {self._destination}: {error.strerror or error}")


class _AbandonError(Exception):
    """Tells `atomic_write` to drop the temporary file, whatever the real reason was."""
