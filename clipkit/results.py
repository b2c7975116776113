"""What tasks yield: one outcome for each input, in input order, as frozen records with a stable JSON form."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = 1


def header(task: str, path: str, model: str, weights: str) -> dict[str, Any]:
    """The five fields every JSON record starts with."""
    return {"schema": SCHEMA, "task": task, "path": path, "model": model, "weights": weights}


@runtime_checkable
class Result(Protocol):
    """A successful outcome.

    `record()` is its JSON object. `columns` and `rows()` are its flat form for CSV, TSV and tables: one
    row a prediction (a result without predictions has one row), cells in the order of `columns`.
    """

    columns: ClassVar[tuple[str, ...]]

    @property
    def path(self) -> str: ...  # noqa: D102

    def record(self) -> dict[str, Any]: ...  # noqa: D102

    def rows(self) -> Iterator[tuple[Any, ...]]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Failure:
    """An input that could not be used. `kind` is a short stable word, `message` one line for a person."""

    path: str
    kind: str
    message: str
    task: str = ""
    model: str = ""
    weights: str = ""

    def within(self, task: str, model: str, weights: str) -> Failure:
        """The same failure, saying which task and model met it."""
        return replace(self, task=task, model=model, weights=weights)

    def record(self) -> dict[str, Any]:
        """The JSON object: the common header and `error` in the result's place."""
        return header(self.task, self.path, self.model, self.weights) | {
            "error": {"kind": self.kind, "message": self.message}
        }


@dataclass(frozen=True, slots=True)
class Prediction:
    """A label and its score; the score's meaning (softmax, sigmoid, cosine) is the caller's choice."""

    label: str
    score: float

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        return {"label": self.label, "score": round(self.score, 6)}


@dataclass(frozen=True, slots=True)
class Classification:
    """What `classify` says of one image: predictions, best first."""

    path: str
    model: str
    weights: str
    predictions: tuple[Prediction, ...] = field(default=())
    task: str = "classify"

    columns: ClassVar[tuple[str, ...]] = ("path", "rank", "label", "score")

    @property
    def label(self) -> str | None:
        """The best label, or None where no label passed the threshold."""
        return self.predictions[0].label if self.predictions else None

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        return header(self.task, self.path, self.model, self.weights) | {
            "predictions": [p.record() for p in self.predictions]
        }

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """One row a prediction; one row with empty cells where there is none."""
        if not self.predictions:
            yield (self.path, "", "", "")
        for rank, p in enumerate(self.predictions, 1):
            yield (self.path, rank, p.label, round(p.score, 6))


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """Accuracy on the pictures of one class."""

    label: str
    count: int
    top1: float
    top5: float

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        return {"label": self.label, "count": self.count, "top1": round(self.top1, 6), "top5": round(self.top5, 6)}


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What `bench zero-shot` measures: shares in [0, 1] over `count` pictures, and pictures a second."""

    path: str
    model: str
    weights: str
    top1: float
    top5: float
    per_class: tuple[ClassAccuracy, ...]
    count: int
    per_second: float
    task: str = "bench zero-shot"

    columns: ClassVar[tuple[str, ...]] = ("path", "label", "count", "top1", "top5")

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        return header(self.task, self.path, self.model, self.weights) | {
            "top1": round(self.top1, 6),
            "top5": round(self.top5, 6),
            "per_class": [c.record() for c in self.per_class],
            "count": self.count,
            "per_second": round(self.per_second, 2),
        }

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """One row a class, then one over all."""
        for c in self.per_class:
            yield (self.path, c.label, c.count, round(c.top1, 4), round(c.top5, 4))
        yield (self.path, "all", self.count, round(self.top1, 4), round(self.top5, 4))
