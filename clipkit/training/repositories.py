"""The files of public git repositories, read from clones without a checkout."""

from __future__ import annotations

import csv
import io
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Blob:
    """One file of a git repository: its path and its object id."""

    path: str
    oid: str


def git_directory(clones: Path, repository: str) -> Path:
    """The git directory of a clone of `owner/name` under `clones`; FileNotFoundError says what to clone."""
    home = clones / repository.replace("/", "+")
    for candidate in (home / "repo" / ".git", home / "repo", home / ".git", home):
        if (candidate / "HEAD").is_file():
            return candidate
    raise FileNotFoundError(
        f"no clone of {repository} at {home}: git clone --bare https://github.com/{repository} {home}"
    )


def _git(git: Path, *arguments: str) -> str:
    command = ["git", f"--git-dir={git}", *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout.decode()  # noqa: S603 (git, on a local clone)


def list_blobs(git: Path, commit: str) -> list[Blob]:
    """Every file of a commit."""
    entries = [entry.split("\t", 1) for entry in _git(git, "ls-tree", "-r", "-z", commit).split("\0") if entry]
    return [Blob(path, meta.split()[2]) for meta, path in entries]


def read_blobs(git: Path, blobs: list[Blob]) -> Iterator[bytes | None]:
    """The files' bytes, in order, by one `git cat-file --batch`; None for an object the clone lacks."""
    command = ["git", f"--git-dir={git}", "cat-file", "--batch"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as batch:  # noqa: S603 (git, likewise)
        assert batch.stdin is not None
        assert batch.stdout is not None
        for blob in blobs:
            batch.stdin.write(blob.oid.encode() + b"\n")
            batch.stdin.flush()
            header = batch.stdout.readline().split()
            if header[1] == b"missing":
                yield None
                continue
            data = batch.stdout.read(int(header[2]))
            batch.stdout.read(1)
            yield data


def read_text(git: Path, commit: str, path: str) -> str:
    """A text file of a commit; FileNotFoundError for one that is not there."""
    try:
        return _git(git, "show", f"{commit}:{path}")
    except subprocess.CalledProcessError:
        raise FileNotFoundError(f"no {path} in {commit} of {git}") from None


def label_table(git: Path, commit: str, path: str) -> dict[str, str]:
    """File name -> label, from a table of two columns, tabs or commas between them."""
    text = read_text(git, commit, path)
    delimiter = "\t" if "\t" in text else ","
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if len(row) > 1]
    return {row[0].rsplit("/", 1)[-1]: row[1].strip() for row in rows}
