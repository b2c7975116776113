"""Labels as phrases of one caption, and tokens back to labels: GLIP's way of asking (Li et al. 2022, section 3.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST_PHRASES = 40
Characters = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Caption:
    """A text for the model, and for each phrase its characters `[start, end)` in it; None stands for all of the text."""

    text: str
    spans: tuple[Characters | None, ...]


def caption(phrases: Sequence[str]) -> Caption:
    """`person . bicycle . ` with the characters of each phrase.

    Full stops and question marks part phrases for the models; inside a phrase they become spaces.
    """
    text = ""
    spans: list[Characters | None] = []
    for phrase in phrases:
        said = " ".join(re.sub(r"[.?]", " ", phrase.lower()).split())
        spans.append((len(text), len(text) + len(said)))
        text += f"{said} . "
    return Caption(text.strip(), tuple(spans))


def free_caption(text: str, phrases: Sequence[str] | None) -> Caption:
    """A caption of the user's own, with the characters of the phrases that are asked for.

    Args:
        text: for instance `a dog left of a cat`.
        phrases: words of the text; None asks for whatever the text speaks of.

    Raises:
        UsageError: no text, or a phrase that is not in it.
    """
    said = " ".join(text.lower().split())
    if not said:
        raise UsageError("the caption is empty; write what is to be found, for instance 'a dog left of a cat'")
    spans: list[Characters | None] = []
    for phrase in phrases or ():
        words = " ".join(phrase.lower().split())
        match = re.search(rf"(?<!\w){re.escape(words)}(?!\w)", said)
        if match is None:
            raise UsageError(f"the label {phrase!r} is not in the caption {text!r}; labels name words of the caption")
        spans.append(match.span())
    # The models part texts at full stops and look for one at the end.
    return Caption(said if said.endswith((".", "?")) else f"{said} .", tuple(spans) if phrases else (None,))


def chunks(lengths: Sequence[int], budget: int, most: int = MOST_PHRASES) -> list[range]:
    """Consecutive phrases that fit one text.

    Args:
        lengths: tokens of each phrase with its full stop.
        budget: tokens a text may have, without its two ends.
        most: phrases a text may have.

    Raises:
        UsageError: one phrase alone is too long.
    """
    out: list[range] = []
    start = used = 0
    for i, length in enumerate(lengths):
        if length > budget:
            raise UsageError(f"label {i + 1} has {length} tokens, more than the model reads ({budget}); shorten it")
        if i > start and (used + length > budget or i - start == most):
            out.append(range(start, i))
            start, used = i, 0
        used += length
    return [*out, range(start, len(lengths))] if lengths else out


def span_scores(
    probabilities: NDArray[Any], offsets: Sequence[Characters], spans: Sequence[Characters | None]
) -> NDArray[np.float64]:
    """Mean probability over each phrase's tokens.

    Args:
        probabilities: `(Q, T)` or wider: sigmoid of every box with every token.
        offsets: characters of each of the T tokens; `(0, 0)` for the ends.
        spans: characters of each phrase. None takes the best token of the text, full stops left out by the caller.

    Returns:
        `(Q, P)`.
    """
    out = np.zeros((len(probabilities), len(spans)))
    for i, span in enumerate(spans):
        start, end = (0, max(b for _, b in offsets)) if span is None else span
        tokens = [t for t, (a, b) in enumerate(offsets) if a < b and a < end and b > start]
        if tokens:
            part = np.asarray(probabilities, np.float64)[:, tokens]
            out[:, i] = part.max(axis=1) if span is None else part.mean(axis=1)
    return out
