"""Every frame of an index as memory-mapped matrices, for searches that look at all of them.

The SQLite rows stay the truth; the matrices are derived and may be deleted at any time. A video's row id never
changes its content and is never used again, so a matrix once written stays right: new videos go into a further
one, and forgotten videos are passed over until a rewrite leaves them out. float32 because that is what the
processor multiplies: a million 512-d frames take six times less than from float16.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipkit.errors import OutputError
from clipkit.video.pooling import unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clipkit.video.index import VideoIndex

MOST_PARTS = 8
"""Matrices of one space beyond which they are rewritten as one."""

_TEMPORARY = ".frames-"
_ABANDONED_SECONDS = 3600


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """`frames` (F, D) unit vectors, memory-mapped; those of video `ids[i]` are rows `starts[i]:starts[i + 1]`."""

    folder: Path
    frames: NDArray[np.float32]
    ids: NDArray[np.int64]
    starts: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class FrameMatrix:
    """All frames of a space, in parts; `live` are the ids of the videos the index holds now."""

    parts: tuple[Part, ...]
    live: frozenset[int]

    def best_of_videos(self, query: NDArray[np.float32]) -> dict[int, float]:
        """The cosine of each video's best frame with a unit query (D,), by video id."""
        best: dict[int, float] = {}
        for part in self.parts:
            tops = np.maximum.reduceat(part.frames @ query, part.starts[:-1])
            best |= {i: s for i, s in zip(part.ids.tolist(), tops.tolist(), strict=True) if i in self.live}
        return best


def frame_matrix(index: VideoIndex, space: int) -> FrameMatrix:
    """All frames of a space as the index is now; what no matrix holds yet is written first.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        return _current(index, space)
    except OSError as error:
        raise OutputError(f"cannot write in the index folder {index.folder}: {error.strerror or error}") from error


def _current(index: VideoIndex, space: int) -> FrameMatrix:
    with index.snapshot():
        rows = index.counts(space)
        live = frozenset(video for video, _, _ in rows)
        parts = _open_parts(index.folder, space)
        held = {int(i) for part in parts for i in part.ids}
        dead = sum(len(part.ids) for part in parts) - len(held & live)
        missing = [row for row in rows if row[0] not in held]
        if len(parts) + bool(missing) > MOST_PARTS or dead > max(len(live), 1):
            whole = [_write(index, space, rows)] if rows else []
            for part in parts:
                shutil.rmtree(part.folder, ignore_errors=True)  # open maps of other processes stay readable
            return FrameMatrix(tuple(whole), live)
        if missing:
            parts.append(_write(index, space, missing))
        return FrameMatrix(tuple(parts), live)


def _open_parts(folder: Path, space: int) -> list[Part]:
    parts = []
    for place in sorted(folder.glob(f"frames-{space}-*")):
        with contextlib.suppress(FileNotFoundError):  # another process has just rewritten them as one
            parts.append(_open(place))
    return parts


def _open(place: Path) -> Part:
    rows = json.loads((place / "rows.json").read_text(encoding="utf-8"))
    starts = np.concatenate([[0], np.cumsum(np.asarray(rows["counts"], np.int64))])
    return Part(place, np.load(place / "frames.npy", mmap_mode="r"), np.asarray(rows["ids"], np.int64), starts)


def _write(index: VideoIndex, space: int, rows: Sequence[tuple[int, int, int]]) -> Part:
    """Write a matrix of these videos beside its place and rename it there, so that a half-written one is never seen."""
    _sweep(index.folder)
    temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=index.folder))
    try:
        with (temporary / "frames.npy").open("wb") as out:
            shape = (sum(count for _, count, _ in rows), rows[0][2])
            np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": shape})
            for frames in index.some_frames([video for video, _, _ in rows]):
                out.write(unit(frames).astype("<f4").tobytes())
        contents = {"ids": [video for video, _, _ in rows], "counts": [count for _, count, _ in rows]}
        (temporary / "rows.json").write_text(json.dumps(contents), encoding="utf-8")
        place = index.folder / f"frames-{space}-{temporary.name.removeprefix(_TEMPORARY)}"
        temporary.rename(place)
        return _open(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what a process that was killed while writing left, once nobody can still be writing it."""
    for left in folder.glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
