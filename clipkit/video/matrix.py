"""Every frame of an index as one memory-mapped matrix, for searches that look at all of them.

The SQLite rows stay the truth; the matrix is derived, rebuilt when the index has changed, and may be deleted
at any time. float32 because that is what the processor multiplies: a million 512-d frames take about 0.1 s,
six times less than from float16.
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
    from numpy.typing import NDArray

    from clipkit.video.index import VideoIndex


_TEMPORARY = ".frames-"
_ABANDONED_SECONDS = 3600


@dataclass(frozen=True, slots=True, eq=False)
class FrameMatrix:
    """`frames` (F, D) unit vectors, memory-mapped; those of video `ids[i]` are rows `starts[i]:starts[i + 1]`."""

    frames: NDArray[np.float32]
    ids: NDArray[np.int64]
    starts: NDArray[np.int64]

    def best_of_video(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """(V,) the cosine of each video's best frame with a unit query (D,)."""
        if not len(self.ids):
            return np.zeros(0, np.float32)
        return np.asarray(np.maximum.reduceat(self.frames @ query, self.starts[:-1]), np.float32)


def frame_matrix(index: VideoIndex, space: int) -> FrameMatrix:
    """The matrix of a space as it is now: opened where it is up to date, built otherwise.

    Raises:
        OutputError: it cannot be written.
    """
    generation = index.generation(space)
    folder = index.folder / f"frames-{space}-{generation}"
    if not (folder / "rows.json").exists():
        try:
            _build(index, space)
        except OSError as error:
            raise OutputError(f"cannot write in the index folder {index.folder}: {error.strerror or error}") from error
        return frame_matrix(index, space)
    rows = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    ids, counts = np.asarray(rows["ids"], np.int64), np.asarray(rows["counts"], np.int64)
    starts = np.concatenate([[0], np.cumsum(counts)])
    frames = np.load(folder / "frames.npy", mmap_mode="r") if len(ids) else np.zeros((0, 0), np.float32)
    return FrameMatrix(frames, ids, starts)


def _build(index: VideoIndex, space: int) -> None:
    """Write the matrix beside its place and rename it there; readers of older ones keep what they have open."""
    _sweep(index.folder)
    temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=index.folder))
    try:
        with index.snapshot(), (temporary / "frames.npy").open("wb") as out:
            generation = index.generation(space)
            rows = index.counts(space)
            shape = (sum(count for _, count, _ in rows), rows[0][2] if rows else 0)
            np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": shape})
            for frames in index.all_frames(space):
                out.write(unit(frames).astype("<f4").tobytes())
        contents = {"ids": [video for video, _, _ in rows], "counts": [count for _, count, _ in rows]}
        (temporary / "rows.json").write_text(json.dumps(contents), encoding="utf-8")
        target = index.folder / f"frames-{space}-{generation}"
        with contextlib.suppress(OSError):  # another process was first: its matrix is the same
            temporary.rename(target)
        for old in index.folder.glob(f"frames-{space}-*"):
            if old != target:
                shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what a process that was killed while building left, once nobody can still be building it."""
    for left in folder.glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
