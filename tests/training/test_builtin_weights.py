"""The weights that ship: small, complete, described, and sane about words."""

import json
from pathlib import Path

import pytest
import torch

from clipkit.training.evaluate import CAPTIONS, Model, _nearer

BUILTIN = Path(__file__).parents[2] / "clipkit" / "models" / "builtin"


@pytest.fixture(scope="module")
def model():
    return Model(BUILTIN)


def test_the_weights_are_small_and_the_card_is_filled():
    """At most 30 MB, and a card that says what it was trained on and how well it does."""
    assert (BUILTIN / "open_clip_model.safetensors").stat().st_size <= 30_000_000
    card = json.loads((BUILTIN / "card.json").read_text())
    assert card["name"] == "builtin"
    assert {"version", "date", "parameters", "trained_on", "not_for", "accuracy"} <= set(card)


def test_captions_lie_nearer_what_they_show(model):
    """`two dogs running on grass` is nearer dog than cat, and most captions like it."""
    assert _nearer(model, "two dogs running on grass", "dog", "cat")
    assert sum(_nearer(model, *case) for case in CAPTIONS) >= len(CAPTIONS) - 2


@pytest.mark.parametrize(
    "form", ["{}s", "a photo of a {}", "a drawing of the {}.", "here you can see a {}", "an old photo of a {}"]
)
def test_wordings_lie_nearest_their_name(model, form):
    """Plurals, templates and paraphrases keep the name they are about."""
    names = ["cat", "dog", "bird", "car", "boat", "flower", "airplane", "horse", "pizza", "guitar"]
    likeness = model.texts([form.format(name) for name in names]) @ model.texts(names).T
    assert torch.equal(likeness.argmax(dim=-1), torch.arange(len(names)))
