"""`index stats`: what a video index holds, one record for each model and sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from clipkit.results import header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clipkit.video.index import SpaceStats, VideoIndex

TASK = "index stats"


@dataclass(frozen=True, slots=True)
class SpaceRecord:
    """One part of an index; `path` is the index's folder, `bytes` the size of the whole folder."""

    path: str
    space: SpaceStats
    bytes: int
    task: str = TASK

    columns: ClassVar[tuple[str, ...]] = ("model", "sampling", "head", "videos", "failures", "frames", "seconds")

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        found = self.space
        return header(self.task, self.path, found.model, found.weights) | {
            "sampling": found.sampling,
            "head": found.head,
            "videos": found.videos,
            "failures": found.failures,
            "frames": found.frames,
            "seconds": round(found.seconds, 3),
            "bytes": self.bytes,
        }

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """One row."""
        s = self.space
        yield (s.model, s.sampling, s.head, s.videos, s.failures, s.frames, round(s.seconds, 1))


def run_stats(index: VideoIndex) -> Iterator[SpaceRecord]:
    """One record for each model, sampling and head."""
    size = index.bytes_on_disk()
    for space in index.stats():
        yield SpaceRecord(str(index.folder), space, size)
