"""What a captioned photograph shows: the names in its caption, and the numbers of its label column."""

from __future__ import annotations

import csv
import io
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clipkit.training.phrases import Phrases

AMBIGUOUS = frozenset({
    "bat", "batter", "box", "button", "card", "cap", "cast", "chain", "chest", "cone", "control", "cover",
    "date", "doe", "drink", "ear", "fly", "glass", "handle", "heart", "hose", "iron", "log", "match", "metal",
    "motor", "mound", "mouse", "orange", "paper", "pen", "pet", "pick", "pipe", "pitcher", "plastic",
    "platter", "pole", "remote", "ring", "runner", "screen", "slide", "sport", "stage", "swing", "tag", "tie",
    "toy", "trunk", "turkey", "watch", "wing",
})  # fmt: skip
"""Names that are mostly something else in a caption: an orange cat, a man about to fly a kite."""
LEAST_MENTIONS = 15
"""Pictures that a name must be mentioned for; rarer ones are often misreadings."""
SEPARATOR = "|"
"""Between the names of a picture."""


def caption_labels(tables: list[str], numbers: Mapping[str, str], phrases: Phrases) -> dict[str, str]:
    """Names of each picture, `dog|frisbee`, those of its label numbers first.

    Args:
        tables: CSV texts with the columns ImageID and Caption and, if the pictures are labelled, Labels (numbers, spaces between).
        numbers: number -> name.
        phrases: knows the names in a caption.
    """
    found: dict[str, list[str]] = {}
    for table in tables:
        for row in csv.DictReader(io.StringIO(table)):
            labels = [numbers[number] for number in (row.get("Labels") or "").split() if number in numbers]
            mentioned = [phrases.names.names[index] for index in phrases.mentions(row.get("Caption") or "")]
            found[row["ImageID"]] = list(dict.fromkeys([*labels, *(n for n in mentioned if n not in AMBIGUOUS)]))
    counts = Counter(name for names in found.values() for name in names)
    return {
        file: SEPARATOR.join(name for name in names if counts[name] >= LEAST_MENTIONS) for file, names in found.items()
    }
