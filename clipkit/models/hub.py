"""The model hub: what a repository holds, and its files placed in huggingface_hub's own cache layout."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import urllib.error
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from clipkit import __version__
from clipkit.errors import ModelUnavailableError
from clipkit.files import atomic_write
from clipkit.models.download import Expected, download, opened
from clipkit.models.locate import hub_cache, repo_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RECORD = "clipkit.json"


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository's main revision: its commit and its files."""

    name: str
    commit: str
    files: dict[str, Expected]


def endpoint() -> str:
    """The hub's address: HF_ENDPOINT, else the public one."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def read_repo(name: str) -> Repo:
    """Ask the hub what a repository holds.

    Raises:
        ModelUnavailableError: unknown, private or gated, or the hub cannot be reached.
    """
    with _explained(name), opened(f"{endpoint()}/api/models/{name}?blobs=true", _headers()) as response:
        found = json.load(response)
    try:
        files = {
            entry["rfilename"]: Expected(int(entry["size"]), (entry.get("lfs") or {}).get("sha256") or entry["blobId"])
            for entry in found["siblings"]
        }
        return Repo(name, found["sha"], files)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelUnavailableError(f"{endpoint()} answered for {name} in a form this version does not know") from error


def fetch(repo: Repo, file: str, report: Callable[[int], None]) -> Path:
    """Bring one file of a repository into the hub cache, unless it is there, and return its path.

    Raises:
        ModelUnavailableError: the hub cannot be reached or refuses.
        ModelError: the file did not arrive as published.
    """
    expected, home = repo.files[file], repo_cache(repo.name)
    pointer, blob = home / "snapshots" / repo.commit / file, home / "blobs" / expected.digest
    if pointer.is_file() and pointer.stat().st_size == expected.size:
        report(expected.size)
        return pointer
    with _alone(repo.name, expected.digest):
        if not (blob.is_file() and blob.stat().st_size == expected.size):
            url = f"{endpoint()}/{repo.name}/resolve/{repo.commit}/{quote(file)}"
            with _explained(repo.name):
                download(url, blob, expected, _headers(), report)
        report(expected.size)
        _point(pointer, blob)
        _record(home, file, expected)
    return pointer


def finish(repo: Repo) -> None:
    """Name the commit as the repository's main one, after all its files are in place."""
    with atomic_write(repo_cache(repo.name) / "refs" / "main", "w", encoding="utf-8") as stream:
        stream.write(repo.commit)


def missing_bytes(repo: Repo, names: list[str]) -> int:
    """How many bytes of these files are still to be fetched."""
    home, total = repo_cache(repo.name), 0
    for name in names:
        expected = repo.files[name]
        blob = home / "blobs" / expected.digest
        partial = blob.with_name(f"{blob.name}.incomplete")
        have = next((path.stat().st_size for path in (blob, partial) if path.is_file()), 0)
        total += max(0, expected.size - have)
    return total


def check_space(needed: int) -> None:
    """Refuse before the first byte where the disk cannot hold the download.

    Raises:
        ModelUnavailableError: too little space.
    """
    folder = hub_cache()
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ModelUnavailableError(
            f"the model needs {needed / 1e9:.2f} GB and {folder} has {free / 1e9:.2f} GB free: make room, or set HF_HOME to "
            "another disk"
        )


def expected_of(path: Path, snapshot: Path) -> Expected | None:
    """What a cached file should be: by the name of the blob it points to, or by what `fetch` noted; None if unknown."""
    blob = path.resolve()
    if blob.parent.name == "blobs" and len(blob.name) in {40, 64}:
        return Expected(blob.stat().st_size, blob.name)
    try:
        noted = json.loads((snapshot.parent.parent / RECORD).read_text(encoding="utf-8"))
        entry = noted[path.relative_to(snapshot).as_posix()]
        return Expected(int(entry["size"]), str(entry["digest"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _headers() -> dict[str, str]:
    headers = {"User-Agent": f"clipkit/{__version__}"}
    from huggingface_hub import get_token

    if token := get_token():
        headers["Authorization"] = f"Bearer {token}"
    return headers


def _point(pointer: Path, blob: Path) -> None:
    """Make the snapshot's entry: a relative link to the blob, or the file itself where links are not allowed."""
    pointer.parent.mkdir(parents=True, exist_ok=True)
    temporary = pointer.with_name(f".{pointer.name}.{os.getpid()}.part")
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:
        blob.replace(temporary)
    temporary.replace(pointer)


def _record(home: Path, file: str, expected: Expected) -> None:
    path = home / RECORD
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        noted = {}
    noted[file] = {"size": expected.size, "digest": expected.digest}
    with atomic_write(path, "w", encoding="utf-8") as stream:
        json.dump(noted, stream, indent=1)


@contextlib.contextmanager
def _alone(repo: str, digest: str) -> Iterator[None]:
    """One process at a time fetches a blob."""
    from filelock import FileLock

    folder = hub_cache() / ".locks" / repo_cache(repo).name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{digest}.lock"):
        yield


@contextlib.contextmanager
def _explained(repo: str) -> Iterator[None]:
    """The hub's refusals and the network's failures as one line each."""
    try:
        yield
    except urllib.error.HTTPError as error:
        if error.code in {401, 403}:
            raise ModelUnavailableError(
                f"the hub refuses {repo}: it does not exist, or it is private or gated; accept its terms at "
                f"{endpoint()}/{repo} and set HF_TOKEN"
            ) from error
        if error.code == 404:
            raise ModelUnavailableError(f"{endpoint()} has no repository or file {repo}") from error
        raise ModelUnavailableError(
            f"{endpoint()} answers {error.code} {error.reason} for {repo}: try again later"
        ) from error
    except urllib.error.URLError as error:
        raise ModelUnavailableError(
            f"{endpoint()} cannot be reached ({error.reason}): check the connection; models that are here keep working"
        ) from error
    except (TimeoutError, ConnectionError) as error:
        raise ModelUnavailableError(f"{endpoint()} does not answer ({error}): try again later") from error
