"""Windows that agree, joined: from one answer every few seconds to stretches of a recording with one label each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clipkit.results import Prediction


@dataclass(frozen=True, slots=True)
class Segment:
    """From `start` to `end` seconds `label` is the best answer; `score` is the mean over its windows."""

    start: float
    end: float
    label: str
    score: float

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "label": self.label,
            "score": round(self.score, 6),
        }


def merge_windows(answers: Iterable[tuple[float, float, Prediction | None]]) -> list[Segment]:
    """Join neighbouring windows with the same best label; segments follow one another and never overlap.

    Where windows of different labels overlap, the border lies in the middle of the overlap. A window without an answer
    (silence, or nothing over the threshold) leaves a gap.

    Args:
        answers: (start, end, best prediction) of each window, by start.
    """
    runs: list[tuple[float, float, str, list[float]]] = []
    previous: str | None = None
    for start, end, best in answers:
        label = None if best is None else best.label
        if best is not None and label is not None:
            if runs and label == previous and start <= runs[-1][1]:
                runs[-1] = (runs[-1][0], max(end, runs[-1][1]), label, [*runs[-1][3], best.score])
            else:
                begin = start
                if runs and runs[-1][1] > start:
                    begin = (runs[-1][1] + start) / 2
                    runs[-1] = (runs[-1][0], begin, *runs[-1][2:])
                runs.append((begin, end, label, [best.score]))
        elif runs and runs[-1][1] > start:
            runs[-1] = (runs[-1][0], max(runs[-1][0], start), *runs[-1][2:])
        previous = label
    return [Segment(start, end, label, sum(scores) / len(scores)) for start, end, label, scores in runs if end > start]
