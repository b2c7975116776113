"""Put classified files into a folder for each label, without ever overwriting or silently moving one."""

from __future__ import annotations

import contextlib
import filecmp
import glob
import itertools
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clipkit.errors import OutputError, UsageError
from clipkit.output.folder_names import FolderNames
from clipkit.results import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from clipkit.results import Classification

How = Literal["copy", "hardlink", "symlink", "move"]
Action = Literal["copied", "hardlinked", "symlinked", "moved", "present", "skipped"]

_NAME_BYTES = 255
_DONE: dict[How, Action] = {"copy": "copied", "hardlink": "hardlinked", "symlink": "symlinked", "move": "moved"}


@dataclass(frozen=True, slots=True)
class Filed:
    """What happened to one file.

    Attributes:
        source: its name as in the records.
        target: where it is now; None where it was skipped.
        action: `present` means that the label's folder already holds this very content.
        reason: why it was skipped, else empty.
    """

    source: str
    target: Path | None
    action: Action
    reason: str = ""


class Sorter:
    """Files go to `directory/<label>/<name>`; a taken name gets a number: `cat.jpg`, `cat-2.jpg`, `cat-3.jpg`."""

    def __init__(
        self,
        directory: Path,
        *,
        action: How = "copy",
        labels: Sequence[str] = (),
        inputs: Sequence[str] = (),
    ) -> None:
        """Check that sorting cannot feed on itself; nothing is written yet.

        Args:
            directory: the parent of the label folders.
            action: `copy` keeps the sources; `move` is for when the user asked for it in so many words.
            labels: in their order, so that folder names do not depend on which picture comes first.
            inputs: what the user named; its folders must not overlap with `directory`.

        Raises:
            UsageError: `directory` is a file, or overlaps with a folder that is being read.
        """
        if directory.exists() and not directory.is_dir():
            raise UsageError(f"{directory} is a file; name a folder to sort into")
        for folder in _scanned(inputs):
            if _overlap(folder, directory):
                raise UsageError(
                    f"cannot sort into {directory} while reading {folder}: sorted files would be read again; "
                    "choose a folder outside"
                )
        self._directory = directory
        self._how: How = action
        self.counts: Counter[Action] = Counter()
        self._folders = FolderNames(labels)

    def sorted(self, outcomes: Iterator[Classification | Failure]) -> Iterator[Classification | Failure]:
        """Pass outcomes on unchanged, each after its file is in place; failures go nowhere. `counts` says what was done."""
        try:
            for outcome in outcomes:
                if not isinstance(outcome, Failure):
                    self.counts[self.file(outcome.path, outcome.label).action] += 1
                yield outcome
        finally:  # closing this stream stops what feeds it, decoding threads included
            getattr(outcomes, "close", lambda: None)()

    def file(self, name: str, label: str | None) -> Filed:
        """Put one input in its label's folder.

        Args:
            name: the input's name as in the records, which is its path.
            label: the best label; None skips the file.

        Raises:
            OutputError: the folder cannot be written, or a link cannot be made there.
        """
        if label is None:
            return Filed(name, None, "skipped", "no label")
        if name == "-" and not os.path.lexists(name):
            return Filed(name, None, "skipped", "stdin has no file to sort")
        source = Path(name)
        if not source.is_file():
            return Filed(name, None, "skipped", "the file is gone")
        folder = self._directory / self._folders[label]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for number in itertools.count(1):
                target = folder / _numbered(source, number)
                if os.path.lexists(target):
                    if self._same(source, target):
                        return Filed(name, target, "present")
                elif self._place(source, target):
                    return Filed(name, target, _DONE[self._how])
        except OSError as error:
            hint = "; hard links need the same disk: sort by copy" if self._how == "hardlink" else ""
            raise OutputError(f"cannot sort {name} into {folder}: {error.strerror or error}{hint}") from error
        raise AssertionError("unreachable")

    def _same(self, source: Path, target: Path) -> bool:
        if not target.is_file():  # a folder, or a broken link
            return False
        return target.samefile(source) or filecmp.cmp(source, target, shallow=False)

    def _place(self, source: Path, target: Path) -> bool:
        """Make `target`; False where another process has just taken the name."""
        if self._how == "symlink":
            return _claim(lambda: target.symlink_to(source.absolute()))
        if self._how == "hardlink":
            return _claim(lambda: target.hardlink_to(source.resolve()))
        if self._how == "move" and source.stat().st_dev == target.parent.stat().st_dev and not source.is_symlink():
            return _replace_own(source, target)
        handle, temporary = tempfile.mkstemp(prefix=".clipkit-", suffix=".part", dir=target.parent)
        os.close(handle)
        try:
            shutil.copy2(source, temporary)
            placed = _replace_own(Path(temporary), target)
        finally:
            Path(temporary).unlink(missing_ok=True)
        if placed and self._how == "move":
            source.unlink()
        return placed


def _numbered(source: Path, number: int) -> str:
    if number == 1:
        return source.name
    ending = f"-{number}{source.suffix}"
    stem = os.fsencode(source.stem)[: _NAME_BYTES - len(os.fsencode(ending))]
    return os.fsdecode(stem) + ending


def _claim(make: Callable[[], None]) -> bool:
    try:
        make()
    except FileExistsError:
        return False
    return True


def _replace_own(source: Path, target: Path) -> bool:
    """Rename without overwriting, on every system: take the name with an empty file of ours, then replace that."""
    if not _claim(lambda: target.touch(exist_ok=False)):
        return False
    try:
        source.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            target.unlink()
        raise
    return True


def _scanned(inputs: Sequence[str]) -> list[Path]:
    """The folders that the inputs make clipkit read: named ones, matched ones, and the roots of `**` patterns."""
    folders: list[Path] = []
    for name in inputs:
        if os.path.isdir(name):  # noqa: PTH112
            folders.append(Path(name))
        elif glob.has_magic(name) and not os.path.lexists(name):
            if "**" in name:
                parts = itertools.takewhile(lambda part: not glob.has_magic(part), Path(name).parts)
                folders.append(Path(*parts))
            else:
                folders.extend(Path(match) for match in glob.iglob(name) if os.path.isdir(match))  # noqa: PTH112, PTH207
    return folders


def _overlap(folder: Path, directory: Path) -> bool:
    inside, outside = folder.resolve(), directory.resolve()
    return inside == outside or inside in outside.parents or outside in inside.parents
