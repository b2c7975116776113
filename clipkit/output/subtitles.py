"""SubRip subtitles of what is heard when: one file a recording, for players and editors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clipkit.errors import UsageError
from clipkit.files import atomic_write
from clipkit.results import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from clipkit.audio.segments import Segment
    from clipkit.tasks.audio_classify import AudioClassification


def timestamp(seconds: float) -> str:
    """Seconds as SubRip writes them: `01:02:03,456`."""
    total = round(seconds * 1000)
    return f"{total // 3_600_000:02d}:{total // 60_000 % 60:02d}:{total // 1000 % 60:02d},{total % 1000:03d}"


def subrip(segments: Iterable[Segment]) -> str:
    """The text of an .srt file."""
    return "".join(
        f"{number}\n{timestamp(s.start)} --> {timestamp(s.end)}\n{s.label}\n\n" for number, s in enumerate(segments, 1)
    )


class Subtitler:
    """Writes `FILE.srt` itself for a name that ends so, else `DIR/NAME.srt` for each recording."""

    def __init__(self, destination: Path) -> None:
        """`destination` is a file that ends in .srt, for one recording, or a folder.

        Raises:
            UsageError: the folder's name belongs to a file.
        """
        self._single = destination.suffix.lower() == ".srt"
        if not self._single and destination.is_file():
            raise UsageError(f"{destination} is a file; name a folder, or a file that ends in .srt")
        self._destination = destination
        self._taken: set[str] = set()

    def written(self, outcomes: Iterator[AudioClassification | Failure]) -> Iterator[AudioClassification | Failure]:
        """Pass outcomes on unchanged, each after its subtitles are in place; failures have none.

        Raises:
            UsageError: one file was named and a second recording comes.
            OutputError: a file cannot be written.
        """
        for outcome in outcomes:
            if not isinstance(outcome, Failure):
                with atomic_write(self._place(outcome.path), "w", encoding="utf-8", newline="\n") as stream:
                    stream.write(subrip(outcome.segments or ()))
            yield outcome

    def _place(self, name: str) -> Path:
        if self._single:
            if self._taken:
                raise UsageError(f"{self._destination} is one file, but there are several recordings; name a folder")
            self._taken.add(name)
            return self._destination
        stem = "stdin" if name == "-" else Path(name).stem
        number, candidate = 1, stem
        while candidate.casefold() in self._taken:
            number += 1
            candidate = f"{stem}-{number}"
        self._taken.add(candidate.casefold())
        return self._destination / f"{candidate}.srt"
