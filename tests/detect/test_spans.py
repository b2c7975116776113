"""Captions, chunks and span scores by another route."""

import numpy as np
import pytest

from clipkit.detection.spans import caption, chunks, free_caption, span_scores
from clipkit.errors import UsageError


def test_captions_know_where_their_phrases_are():
    """Each phrase's characters are the phrase again; stops inside a phrase do not part it."""
    made = caption(["Person", "traffic  light", "St. Bernard"])
    assert made.text == "person . traffic light . st bernard ."
    assert [made.text[a:b] for a, b in made.spans] == ["person", "traffic light", "st bernard"]


def test_span_scores_equal_the_loop():
    """The mean over the tokens of each phrase, found character by character, to 1e-6."""
    made = caption(["ab cd", "e", "fgh"])
    offsets = [(0, 0), *((i, i + 1) for i, c in enumerate(made.text) if c not in " ."), (0, 0)]
    probabilities = np.random.default_rng(0).random((7, len(offsets) + 5))
    found = span_scores(probabilities, offsets, made.spans)
    for q in range(7):
        for p, (start, end) in enumerate(made.spans):
            kept = [probabilities[q, t] for t, (a, b) in enumerate(offsets) for c in range(start, end) if a <= c < b]
            assert found[q, p] == pytest.approx(sum(kept) / len(kept), abs=1e-6)
    assert span_scores(probabilities, offsets, (None,))[:, 0] == pytest.approx(
        probabilities[:, 1 : len(offsets) - 1].max(axis=1)
    )


@pytest.mark.parametrize("seed", range(5))
def test_chunks_hold_every_phrase_once_and_fit(seed):
    """Parts follow each other, none is over the budget or over the number, and none could take the next phrase."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, 9, 100).tolist()
    parts = chunks(lengths, 30, most=7)
    assert [i for part in parts for i in part] == list(range(100))
    for part, after in zip(parts, [*parts[1:], None], strict=True):
        total = sum(lengths[i] for i in part)
        assert total <= 30 and len(part) <= 7
        if after is not None:
            assert len(part) == 7 or total + lengths[after.start] > 30
    assert chunks([], 30) == []


def test_a_phrase_that_never_fits_is_told():
    """The message names the label by its place."""
    with pytest.raises(UsageError, match="label 2 has 31 tokens"):
        chunks([3, 31], 30)


def test_free_captions_hold_their_labels():
    """Labels are found as whole words; one that is not there is an error; without labels the text is asked for."""
    made = free_caption("A dog left of a  Cat", ["cat", "dog"])
    assert [made.text[a:b] for a, b in made.spans] == ["cat", "dog"]
    assert made.text == "a dog left of a cat ."
    assert free_caption("a dog?", None).spans == (None,)
    with pytest.raises(UsageError, match="not in the caption"):
        free_caption("a catalogue", ["cat"])
    with pytest.raises(UsageError, match="empty"):
        free_caption("  ", None)
