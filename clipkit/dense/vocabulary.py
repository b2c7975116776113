"""Labels and a background list: which texts are asked of the pixels, and which class each answer counts for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipkit.errors import UsageError
from clipkit.prompts.labels import Label

if TYPE_CHECKING:
    from collections.abc import Sequence

BACKGROUND = "background"
MOST_LABELS = 65535
# Surroundings that fill photographs and are seldom asked for. One that is asked for as a label leaves this list.
SURROUNDINGS = (
    "sky", "cloud", "wall", "ceiling", "floor", "window", "curtain", "building", "fence", "road", "pavement", "ground",
    "sand", "rock", "mountain", "grass", "bush", "tree", "forest", "sea", "river", "water", "snow", "shelf",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The classes of a mask and the texts that stand for them.

    Value 0 of a mask is the background (or nothing, where no background is asked); value i is `labels[i - 1]`.
    `classes` are the labels whose texts are asked, the background first where there is one; `owners[j]` is the mask
    value the j-th of all their wordings counts for.
    """

    labels: tuple[str, ...]
    classes: tuple[Label, ...]
    owners: tuple[int, ...]

    @property
    def has_background(self) -> bool:
        """Whether background is a class of its own, with texts."""
        return 0 in self.owners

    @property
    def things(self) -> tuple[Label, ...]:
        """The labels with their wordings, without the background."""
        return self.classes[1:] if self.has_background else self.classes

    @property
    def queries(self) -> tuple[str, ...]:
        """Every text that is asked, in the order of `owners`."""
        return tuple(wording for label in self.classes for wording in label.aliases)

    def name(self, value: int) -> str:
        """The label of a mask value."""
        return self.labels[value - 1] if value else BACKGROUND


def vocabulary(labels: Sequence[Label], background: str | None = None) -> Vocabulary:
    """The classes of a mask.

    Args:
        labels: the things to find; a label named `background` gives the background's texts.
        background: `sky|wall|grass`: the background's texts; an empty string: no background; None: the labels' own
            `background`, else a list of common surroundings without those that are labels or aliases.

    Raises:
        UsageError: no labels, too many, or a wording that stands for two classes.
    """
    things = [label for label in labels if label.name.casefold() != BACKGROUND]
    own = tuple(wording for label in labels if label not in things for wording in label.aliases)
    if not things:
        raise UsageError("no labels: name at least one thing to find, for instance --labels 'cat|kitten,dog'")
    if len(things) > MOST_LABELS:
        raise UsageError(f"{len(things)} labels are more than a mask of 16 bits can hold ({MOST_LABELS})")
    if background is not None:
        behind = Label.parse(background).aliases if background.strip(" |") else ()
    else:
        asked = {wording.casefold() for label in things for wording in label.aliases}
        behind = own or (BACKGROUND, *(wording for wording in SURROUNDINGS if wording not in asked))

    classes = [Label(BACKGROUND, behind), *things] if behind else things
    owner_of: dict[str, str] = {}
    for label in classes:
        for wording in label.aliases:
            other = owner_of.setdefault(wording.casefold(), label.name)
            if other != label.name:
                raise UsageError(f"{wording!r} stands for {other!r} and for {label.name!r}; it can stand for one only")
    first = 0 if behind else 1
    owners = tuple(value for value, label in enumerate(classes, first) for _ in label.aliases)
    return Vocabulary(tuple(label.name for label in things), tuple(classes), owners)
