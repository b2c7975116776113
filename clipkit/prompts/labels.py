"""Label lists: `cat,dog`, aliases `cat|kitten|tabby`, files, and the shipped sets."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from clipkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SETS = ("imagenet", "coco", "voc", "cifar10", "cifar100", "esc50")
_HINT = "name them with --labels cat,dog or --labels-file FILE"


@dataclass(frozen=True, slots=True)
class Label:
    """A class: the name shown, and the wordings that stand for it (the name is the first)."""

    name: str
    aliases: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Label:
        """`cat|kitten|tabby` -> the class `cat` with three wordings."""
        wordings = tuple(dict.fromkeys(part for part in (" ".join(p.split()) for p in text.split("|")) if part))
        if not wordings:
            raise UsageError(f"empty label {text!r}; {_HINT}")
        return cls(wordings[0], wordings)


def load_labels(labels: str | Sequence[str] | None = None, labels_file: str | Path | None = None) -> tuple[Label, ...]:
    """The label set of a command line or an API call.

    Args:
        labels: `cat,dog` (commas part labels), a list of labels (commas belong to the label), or the name of
            a shipped set: imagenet, coco, voc, cifar10, cifar100, esc50.
        labels_file: a text file, one label a line (commas belong to the label, empty lines are skipped).

    Returns:
        Labels in the order given; repeated names of a user's list are kept once.

    Raises:
        UsageError: no labels at all, or a file that cannot be read.
    """
    if isinstance(labels, str):
        if labels in SETS and labels_file is None:
            return shipped_labels(labels)
        labels = labels.split(",")
    texts = [text for text in labels or () if text.strip()]
    if labels_file is not None:
        texts += _lines(Path(labels_file))
    if not texts:
        raise UsageError(f"no labels given; {_HINT}")
    return _unique(Label.parse(text) for text in texts)


def shipped_labels(name: str) -> tuple[Label, ...]:
    """A shipped set, in its official order and length (ImageNet's 1000 names hold two names twice)."""
    if name not in SETS:
        hint = difflib.get_close_matches(name, SETS, n=1)
        raise UsageError(f"no label set {name!r}" + (f"; did you mean {hint[0]!r}?" if hint else ""))
    text = (resources.files("clipkit.prompts") / "data" / f"labels-{name}.txt").read_text(encoding="utf-8")
    return tuple(Label(line, (line,)) for line in text.splitlines())


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the labels file {path}: {error}") from error
    if not any(line.strip() for line in lines):
        raise UsageError(f"the labels file {path} is empty; write one label a line")
    return [line for line in lines if line.strip()]


def _unique(labels: Iterable[Label]) -> tuple[Label, ...]:
    merged: dict[str, Label] = {}
    for label in labels:
        known = merged.get(label.name)
        aliases = label.aliases if known is None else tuple(dict.fromkeys(known.aliases + label.aliases))
        merged[label.name] = Label(label.name, aliases)
    return tuple(merged.values())
