"""From what the user named to the files that are meant: lazily, in a fixed order, one Failure for each dead end."""

from __future__ import annotations

import glob
import os
import re
import stat
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from clipkit.errors import UsageError
from clipkit.media.listing import names, open_list, printable
from clipkit.results import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

IMAGE_EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".ico"}
    | {".pbm", ".pgm", ".ppm", ".pnm", ".pfm", ".jp2", ".j2k", ".jpx", ".avif", ".heic", ".heif", ".hif"}
    | {".psd", ".qoi", ".tga"}
)
VIDEO_EXTENSIONS = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2ts", ".mts", ".ts", ".wmv", ".flv"}
    | {".ogv", ".3gp", ".gif"}
)
AUDIO_EXTENSIONS = frozenset(
    {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".aifc", ".au", ".caf", ".wma"}
)

__all__ = [
    "AUDIO_EXTENSIONS",
    "IMAGE_EXTENSIONS",
    "VIDEO_EXTENSIONS",
    "Source",
    "count",
    "expand",
    "printable",
]

_COUNT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Source:
    """One input: its name in records, its path, or (from stdin) its bytes."""

    name: str
    path: Path | None
    data: bytes | None = None


def expand(
    inputs: Sequence[str],
    *,
    files_from: str | None = None,
    null: bool = False,
    extensions: frozenset[str] = IMAGE_EXTENSIONS,
    stdin: BinaryIO | None = None,
) -> Iterator[Source | Failure]:
    """Every file that `inputs` and then `files_from` name, in a fixed order and without holding them all.

    A file is taken whatever its extension. A folder gives its files with one of `extensions`, sorted,
    subfolders included, dot-names left out, links to folders not followed. A pattern (`*`, `?`, `[...]`,
    `**`) is expanded here where the shell did not, unless a file of that very name exists. `-` is one
    file's bytes on stdin. What cannot be taken gives one `Failure` in its place. A file named twice is
    taken twice.

    Args:
        inputs: files, folders, patterns, `-`.
        files_from: a file that lists names of files and folders (no patterns), or `-` for stdin.
        null: the list is separated by NUL bytes instead of newlines.
        extensions: lower case, with the dot.
        stdin: where `-` reads; the process's stdin by default.

    Raises:
        UsageError: nothing is named, the list cannot be read, or stdin would be read twice or from a terminal.
    """
    if not inputs and files_from is None:
        raise UsageError("no inputs: name files, folders or patterns, `-` for stdin, or --files-from LIST")
    readers = list(inputs).count("-") + (files_from == "-")
    if readers > 1:
        raise UsageError("`-` can be read only once: stdin cannot be both an input twice, or an input and the list")
    if readers:
        stdin = sys.stdin.buffer if stdin is None else stdin
        if stdin.isatty():
            raise UsageError("`-` reads from stdin, which is the terminal here: pipe something in")
    listing = None if files_from is None else open_list(files_from, stdin)
    return _expand(inputs, listing, files_from, null, extensions, stdin)


def count(
    inputs: Sequence[str],
    *,
    files_from: str | None = None,
    null: bool = False,
    extensions: frozenset[str] = IMAGE_EXTENSIONS,
) -> int | None:
    """How many outcomes `expand` will give, for a progress bar; None where stdin decides or it takes too long."""
    if files_from is not None and not os.path.isfile(files_from):  # noqa: PTH113  a pipe can be read only once
        return None
    total = 0
    deadline = time.monotonic() + _COUNT_SECONDS
    named = [name for name in inputs if name != "-"]
    if named or files_from is not None:
        for _ in expand(named, files_from=files_from, null=null, extensions=extensions):
            total += 1
            if total % 256 == 0 and time.monotonic() > deadline:
                return None
    return total + len(inputs) - len(named)


def _expand(
    inputs: Sequence[str],
    listing: BinaryIO | None,
    files_from: str | None,
    null: bool,
    extensions: frozenset[str],
    stdin: BinaryIO | None,
) -> Iterator[Source | Failure]:
    for name in inputs:
        if name == "-":
            assert stdin is not None
            yield Source("-", None, stdin.read())
        elif glob.has_magic(name) and not os.path.lexists(name):
            yield from _matches(name, extensions)
        else:
            yield from _named(name, extensions)
    if listing is not None:
        empty = True
        try:
            for name in names(listing, null=null):
                empty = False
                yield from _named(name, extensions)
        finally:
            if files_from != "-":
                listing.close()
        if empty:
            yield Failure(str(files_from), "empty_list", "the list names no files")


def _named(name: str, extensions: frozenset[str]) -> Iterator[Source | Failure]:
    """One file or folder, by its literal name."""
    try:
        mode = os.stat(name).st_mode if name else 0  # noqa: PTH116  names stay text: millions of Paths are slow
    except (OSError, ValueError) as error:
        yield _missing(name, error)
        return
    if not name:
        yield Failure(name, "not_found", "an empty name")
    elif stat.S_ISDIR(mode):
        yield from _folder(name, extensions)
    else:
        yield Source(name, Path(name))


def _missing(name: str, error: OSError | ValueError) -> Failure:
    if isinstance(error, PermissionError):
        return Failure(name, "permission", "no permission to look at it")
    if os.path.islink(name):  # noqa: PTH114
        return _broken_link(name)
    if re.match(r"[a-z][a-z0-9+.-]+://", name, re.IGNORECASE):
        return Failure(
            name, "not_found", "addresses are not fetched; download it, for instance curl -sL URL | clipkit ... -"
        )
    return Failure(name, "not_found", "no such file or folder")


def _broken_link(name: str) -> Failure:
    try:
        target = printable(os.readlink(name))  # noqa: PTH115
    except OSError:
        target = "nothing"
    return Failure(name, "not_found", f"a broken link: it points to {target}, which does not exist")


def _matches(pattern: str, extensions: frozenset[str]) -> Iterator[Source | Failure]:
    """What a pattern matches, sorted. With a bare `*` or `**` at its end, only known extensions and folders."""
    deep = "**" in pattern
    last = re.split(r"[/\\]" if os.sep == "\\" else "/", pattern)[-1]
    bare = "." not in last
    found = False
    for name in sorted(glob.iglob(pattern, recursive=True), key=lambda n: n.split(os.sep)):  # noqa: PTH206, PTH207
        if os.path.isdir(name):  # noqa: PTH112
            if deep:  # its files match on their own
                continue
            outcomes = _folder(name, extensions)
        elif bare and _suffix(name) not in extensions:
            continue
        else:
            outcomes = _named(name, extensions)
        found = True
        yield from outcomes
    if not found:
        yield Failure(pattern, "not_found", "no file matches this pattern")


def _folder(top: str, extensions: frozenset[str]) -> Iterator[Source | Failure]:
    """The files below a folder, depth first, each folder's names sorted; one Failure where there is none."""
    empty = True
    stack = [_entries(top)]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            continue
        if isinstance(entry, Failure):
            empty = False
            yield entry
            continue
        name, is_folder, is_link = entry
        wanted = _suffix(name) in extensions
        if is_folder and not is_link:
            if wanted and not _any_file(name):
                empty = False
                yield Failure(name, "is_directory", "this is an empty folder, not a file")
            else:
                stack.append(_entries(name))
        elif wanted:
            empty = False
            yield _file(name, is_folder, is_link)
    if empty:
        why = "no files of the kinds this command reads in it" if _any_file(top) else "the folder is empty"
        yield Failure(top, "empty_folder", why)


def _file(name: str, is_folder: bool, is_link: bool) -> Source | Failure:
    if is_link and is_folder:
        return Failure(name, "is_directory", "a link to a folder; links to folders are not followed")
    if is_link and not os.path.exists(name):  # noqa: PTH110
        return _broken_link(name)
    return Source(name, Path(name))


def _entries(folder: str) -> Iterator[tuple[str, bool, bool] | Failure]:
    """(name, is a folder, is a link) of a folder's visible entries, sorted by name."""
    try:
        with os.scandir(folder) as scan:
            entries = sorted((e.name, _is_folder(e), e.is_symlink()) for e in scan if not e.name.startswith("."))
    except OSError as error:
        kind = "permission" if isinstance(error, PermissionError) else "unreadable"
        yield Failure(folder, kind, f"the folder cannot be read: {error.strerror}")
        return
    for name, is_folder, is_link in entries:
        yield os.path.join(folder, name), is_folder, is_link  # noqa: PTH118


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False


def _any_file(folder: str) -> list[str]:
    """At most one visible name in the folder; a folder that cannot be read counts as not empty."""
    try:
        with os.scandir(folder) as scan:
            return next(([e.name] for e in scan if not e.name.startswith(".")), [])
    except OSError:
        return [folder]


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122
