"""Labels with aliases and backgrounds."""

import pytest

from clipkit.dense.vocabulary import SURROUNDINGS, vocabulary
from clipkit.errors import UsageError
from clipkit.prompts.labels import load_labels


def words(labels, background=None):
    return vocabulary(load_labels(labels), background)


def test_aliases_share_a_value():
    """Each wording is a query of its own; all wordings of a class have its mask value."""
    found = words("cat|kitten,dog", "sky|wall")
    assert found.labels == ("cat", "dog")
    assert found.queries == ("sky", "wall", "cat", "kitten", "dog")
    assert found.owners == (0, 0, 1, 1, 2)
    assert [found.name(value) for value in (0, 1, 2)] == ["background", "cat", "dog"]


def test_the_default_background_leaves_out_what_is_asked():
    """Common surroundings are background, except those that are labels or aliases themselves."""
    found = words("lawn|Grass,sky")
    behind = found.classes[0].aliases
    assert behind[0] == "background"
    assert set(behind[1:]) == set(SURROUNDINGS) - {"grass", "sky"}


def test_background_as_a_label():
    """A label named background gives the background's texts and is no label of its own."""
    found = words("cat,background|sky|wall")
    assert found.labels == ("cat",)
    assert found.classes[0].aliases == ("background", "sky", "wall")
    assert found.has_background


def test_no_background():
    """An empty background leaves value 0 without texts; all classes are things."""
    found = words("cat,dog", "")
    assert not found.has_background
    assert found.owners == (1, 2)
    assert found.things == found.classes


@pytest.mark.parametrize(
    ("labels", "background", "message"),
    [
        ("background", None, "no labels"),
        ("cat|pet,dog|pet", None, "'pet' stands for 'cat' and for 'dog'"),
        ("cat", "Cat|sky", "stands for"),
    ],
)
def test_confusing_requests_are_refused(labels, background, message):
    """No labels, and words that stand for two classes, are usage errors that say which."""
    with pytest.raises(UsageError, match=message):
        words(labels, background)
