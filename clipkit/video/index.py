"""Frame embeddings on disk: an SQLite file with one row a video, so that work done is never done again.

SQLite because it is in the standard library (no import cost, no dependency), survives `kill -9` at any point
(each video is one transaction in a write-ahead log), lets several processes write in turn, and reads the
vectors of ten thousand videos in some ten milliseconds. The full scan over every frame, which only a search
for moments needs, runs on a memory-mapped matrix derived from it (`clipkit.video.matrix`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from clipkit.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

FILE = "videos.sqlite"
VERSION = 1
SAMPLE_BYTES = 65536

_SCHEMA = """
CREATE TABLE IF NOT EXISTS space (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, model TEXT NOT NULL, weights TEXT NOT NULL,
    sampling TEXT NOT NULL, head TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS video (
    id INTEGER PRIMARY KEY AUTOINCREMENT, space INTEGER NOT NULL REFERENCES space(id) ON DELETE CASCADE, path BLOB NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sample BLOB NOT NULL,
    kind TEXT, message TEXT, duration REAL, count INTEGER NOT NULL, vector BLOB, times BLOB, frames BLOB,
    UNIQUE (space, path)
);
"""


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one file's content from another's: its absolute path, size, time of change, and a hash of both ends."""

    path: bytes
    size: int
    mtime_ns: int
    sample: bytes

    @classmethod
    def of(cls, path: Path) -> Identity:
        """Read it from a file.

        Raises:
            OSError: the file cannot be read.
        """
        status = path.stat()
        digest = hashlib.blake2b(str(status.st_size).encode(), digest_size=16)
        with path.open("rb") as file:
            digest.update(file.read(SAMPLE_BYTES))
            file.seek(max(0, status.st_size - SAMPLE_BYTES))
            digest.update(file.read(SAMPLE_BYTES))
        return cls(os.fsencode(path.absolute()), status.st_size, status.st_mtime_ns, digest.digest())


@dataclass(frozen=True, slots=True)
class Entry:
    """A video as the index knows it; `kind` and `message` where it could not be used."""

    id: int
    path: bytes
    size: int
    mtime_ns: int
    sample: bytes
    kind: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class SpaceStats:
    """One model and sampling in the index: how many videos, unusable files and frames it holds."""

    model: str
    weights: str
    sampling: str
    head: str
    videos: int
    failures: int
    frames: int
    seconds: float


class VideoIndex:
    """An index folder, open. Every method is one transaction; several processes may use one folder."""

    def __init__(self, folder: Path) -> None:
        """Open the index in `folder`, or start it.

        Raises:
            OutputError: the folder cannot be written, or holds something else.
        """
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(folder / FILE, timeout=60, isolation_level=None)
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise self._failed(error) from error
        except OSError as error:
            raise OutputError(f"cannot use the index folder {folder}: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        """The index itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._db.close()

    def space(self, model: str, weights: str, sampling: str, head: str) -> int:
        """The id of one combination of model weights, sampling and head; embeddings of different ones never meet."""
        key = f"{weights}|{sampling}|{head}"
        with self._transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO space (key, model, weights, sampling, head) VALUES (?, ?, ?, ?, ?)",
                (key, model, weights, sampling, head),
            )
            return int(self._db.execute("SELECT id FROM space WHERE key = ?", (key,)).fetchone()[0])

    def entries(self, space: int) -> dict[bytes, Entry]:
        """Every video of a space by its path."""
        rows = self._rows("SELECT id, path, size, mtime_ns, sample, kind, message FROM video WHERE space = ?", (space,))
        return {row[1]: Entry(*row) for row in rows}

    def entry(self, space: int, path: bytes) -> Entry | None:
        """One video of a space, as it stands now."""
        query = "SELECT id, path, size, mtime_ns, sample, kind, message FROM video WHERE space = ? AND path = ?"
        row = next(iter(self._rows(query, (space, path))), None)
        return None if row is None else Entry(*row)

    def put(
        self,
        space: int,
        identity: Identity,
        *,
        duration: float,
        times: NDArray[np.float64],
        frames: NDArray[np.float32],
        vector: NDArray[np.float32],
    ) -> None:
        """Keep a video: `times` (N,), `frames` (N, D) as float16, and its pooled unit `vector` (D,)."""
        blobs = (vector.astype("<f4").tobytes(), times.astype("<f8").tobytes(), frames.astype("<f2").tobytes())
        self._put(space, identity, (None, None, duration, len(times), *blobs))

    def put_failure(self, space: int, identity: Identity, kind: str, message: str) -> None:
        """Remember that a file cannot be used, so that it is not decoded again until it changes."""
        self._put(space, identity, (kind, message, None, 0, None, None, None))

    def adopt(self, known: Entry, identity: Identity) -> None:
        """Let a renamed or copied file keep the work done under its other name."""
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO video (space, path, size, mtime_ns, sample, kind, message, duration, count, "
                "vector, times, frames) SELECT space, ?, size, ?, sample, kind, message, duration, count, vector, "
                "times, frames FROM video WHERE id = ?",
                (identity.path, identity.mtime_ns, known.id),
            )

    def drop(self, paths: Iterable[bytes]) -> int:
        """Forget files, in every space; returns how many rows went."""
        with self._transaction():
            return sum(self._db.execute("DELETE FROM video WHERE path = ?", (path,)).rowcount for path in paths)

    def paths(self) -> list[bytes]:
        """Every path in any space."""
        return [row[0] for row in self._rows("SELECT DISTINCT path FROM video", ())]

    def vectors(self, space: int) -> tuple[list[int], list[bytes], NDArray[np.float32]]:
        """The usable videos of a space, by path: ids, paths, and their pooled vectors (V, D)."""
        query = "SELECT id, path, vector FROM video WHERE space = ? AND kind IS NULL ORDER BY path"
        rows = list(self._rows(query, (space,)))
        joined = np.frombuffer(b"".join(row[2] for row in rows), "<f4")
        return (
            [r[0] for r in rows],
            [r[1] for r in rows],
            joined.reshape(len(rows), -1) if rows else joined.reshape(0, 0),
        )

    def frames(self, video: int) -> tuple[float, NDArray[np.float64], NDArray[np.float32]] | None:
        """A video's duration, frame times (N,) and frame embeddings (N, D); None where it is gone meanwhile."""
        query = "SELECT duration, count, times, frames FROM video WHERE id = ? AND kind IS NULL"
        row = next(iter(self._rows(query, (video,))), None)
        if row is None:
            return None
        frames = np.frombuffer(row[3], "<f2").reshape(row[1], -1).astype(np.float32)
        return float(row[0]), np.frombuffer(row[2], "<f8"), frames

    def counts(self, space: int) -> list[tuple[int, int, int]]:
        """(id, number of frames, their width D) of every usable video of a space, by path."""
        query = "SELECT id, count, length(frames) / 2 / count FROM video WHERE space = ? AND kind IS NULL ORDER BY path"
        return [(row[0], row[1], row[2]) for row in self._rows(query, (space,))]

    def some_frames(self, videos: Iterable[int]) -> Iterator[NDArray[np.float32]]:
        """The frames (N, D) of videos by their ids, one by one."""
        for video in videos:
            found = self.frames(video)
            assert found is not None, "read within a snapshot"
            yield found[2]

    def stats(self) -> list[SpaceStats]:
        """What the index holds."""
        query = (
            "SELECT s.model, s.weights, s.sampling, s.head, SUM(v.kind IS NULL), SUM(v.kind IS NOT NULL), SUM(v.count), "
            "TOTAL(v.duration) FROM space s JOIN video v ON v.space = s.id GROUP BY s.id ORDER BY s.model, s.sampling"
        )
        return [SpaceStats(*row) for row in self._rows(query, ())]

    def bytes_on_disk(self) -> int:
        """The folder's size, derived matrices included."""
        return sum(p.stat().st_size for p in self.folder.rglob("*") if p.is_file())

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Several reads that see one state of the index, whatever other processes write meanwhile."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("ROLLBACK")

    def _put(self, space: int, identity: Identity, values: tuple[object, ...]) -> None:
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO video (space, path, size, mtime_ns, sample, kind, message, duration, count, "
                "vector, times, frames) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (space, identity.path, identity.size, identity.mtime_ns, identity.sample, *values),
            )

    def _prepare(self) -> None:
        deadline = time.monotonic() + 60
        while True:  # switching the journal needs the file for itself, and does not wait for it
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        with self._transaction():
            found = self._db.execute("PRAGMA user_version").fetchone()[0]
            if found not in {0, VERSION}:
                raise OutputError(
                    f"{self.folder} was written by another clipkit (index version {found}); use another --index"
                )
            for statement in _SCHEMA.split(";\n"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {VERSION}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise self._failed(error) from error

    def _rows(self, query: str, values: tuple[object, ...]) -> Iterator[tuple]:  # type: ignore[type-arg]
        try:
            yield from self._db.execute(query, values)
        except sqlite3.DatabaseError as error:
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.DatabaseError) -> OutputError:
        if isinstance(error, sqlite3.OperationalError):
            return OutputError(f"cannot use the index in {self.folder}: {error}; is another process holding it?")
        return OutputError(f"the index {self.folder / FILE} is damaged ({error}); delete the folder and index again")
