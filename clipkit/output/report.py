"""A run in one line: how many inputs were done, how many failed, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clipkit.results import Failure

if TYPE_CHECKING:
    from clipkit.results import Result


@dataclass(slots=True)
class Tally:
    """Counts of a run: what was done, and what failed by kind."""

    done: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        """Inputs that gave no result."""
        return sum(self.failures.values())

    def add(self, outcome: Result | Failure) -> None:
        """Count one outcome."""
        if isinstance(outcome, Failure):
            self.failures[outcome.kind] += 1
        else:
            self.done += 1

    def summary(self) -> str:
        """For instance `197 done, 3 failed (2 truncated, 1 not found)`."""
        if not self.failed:
            return f"{self.done:,} done"
        kinds = ", ".join(f"{n:,} {kind.replace('_', ' ')}" for kind, n in self.failures.most_common())
        return f"{self.done:,} done, {self.failed:,} failed ({kinds})"
