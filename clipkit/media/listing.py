"""Names of files as text: read from a list, whatever their bytes, and shown to people on one line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

from clipkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


def printable(name: str) -> str:
    """A name on one line for people: control characters and bytes that are no UTF-8 are shown as escapes."""
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else _escape(c) for c in name)


def _escape(c: str) -> str:
    if "\udc80" <= c <= "\udcff":  # a byte that os.fsdecode could not read as UTF-8
        return f"\\x{ord(c) - 0xDC00:02x}"
    return c.encode("unicode_escape").decode("ascii")


def open_list(files_from: str, stdin: BinaryIO | None) -> BinaryIO:
    """The list as a byte stream; `-` is stdin.

    Raises:
        UsageError: it cannot be read.
    """
    if files_from == "-":
        assert stdin is not None
        return stdin
    try:
        return open(files_from, "rb")  # noqa: PTH123  closed by the generator that reads it
    except OSError as error:
        raise UsageError(f"cannot read the list {printable(files_from)}: {error.strerror}") from error


def names(stream: BinaryIO, *, null: bool) -> Iterator[str]:
    """The names in a list, decoded as the file system's own names are, so that any bytes survive.

    Raises:
        UsageError: the list is UTF-16.
    """
    for number, raw in enumerate(_records(stream, null)):
        if number == 0:
            if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise UsageError("the list of files is UTF-16; save it as UTF-8")
            raw = raw.removeprefix(b"\xef\xbb\xbf")  # noqa: PLW2901
        if not null and raw.endswith(b"\r") and not os.path.lexists(raw):
            raw = raw[:-1]  # noqa: PLW2901  a list written on Windows
        if raw:
            yield os.fsdecode(raw)


def _records(stream: BinaryIO, null: bool) -> Iterator[bytes]:
    if not null:
        for line in stream:
            yield line.removesuffix(b"\n")
        return
    rest = b""
    read = getattr(stream, "read1", stream.read)  # read1 gives what has arrived: results need not wait for 64 KiB
    while block := read(65536):
        *whole, rest = (rest + block).split(b"\0")
        yield from whole
    if rest:
        yield rest
