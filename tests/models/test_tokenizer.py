# ruff: noqa: RUF001 - the strings are ambiguous on purpose
"""Our byte-pair encoding is open_clip's, for every string."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clipkit.models.tokenizer import END, START, ClipTokenizer, trimmed_batches


@pytest.fixture(scope="module")
def ours():
    return ClipTokenizer()


@pytest.fixture(scope="module")
def theirs():
    import open_clip

    return open_clip.get_tokenizer("ViT-B-32")


TRICKY = [
    "",
    " ",
    "a photo of a cat.",
    "A PHOTO of the Shih-Tzu's café, 1999!!",
    "it's we're they'll I'd you've I'm can't",
    "<start_of_text> inside <END_OF_TEXT>",
    "&lt;b&gt; &amp;amp; &eacute;",
    "tabs\tand\nnew\r\nlines\x0b\x0c",
    "\x1b[31mred\x1b[0m \x00\x07",
    "l'été à l’hôtel — “quoted” ﬁne",
    "日本語テキスト 한국어 العربية हिन्दी",
    "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301",
    "schÃ¶n mojibake Ã©",
    "İstanbul 'ſ ſtraße \u212a",
    "ⅷ ² ½ ٣ 12",
    "antidisestablishmentarianism " * 40,
    "\ud800 lone surrogate".encode("utf-8", "replace").decode(),
    "\x1c\x1d\x1e\x1f\x85\xa0\u2028\u3000x",
]


@pytest.mark.parametrize("text", TRICKY)
def test_equal_to_open_clip(text, ours, theirs):
    """Ids, padding and truncation agree on the strings known to be hard."""
    np.testing.assert_array_equal(ours([text]), theirs([text]).numpy())


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=60))
@example("'S’s")
@example("&#x130;")
def test_any_unicode_string(ours, theirs, text):
    """No string is encoded differently."""
    assert ours.encode(text) == theirs.encode(text)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(max_codepoint=127), max_size=60))
def test_any_ascii_string(ours, theirs, text):
    """The path that skips ftfy gives what the full cleaning gives."""
    assert ours.encode(text) == theirs.encode(text)


def test_whole_vocabulary(ours, theirs):
    """Every merged symbol that is a word by itself comes back as its own id."""
    words = {w.removesuffix("</w>"): i for w, i in theirs.encoder.items() if w.endswith("</w>") and w.isascii()}
    plain = [(w, i) for w, i in words.items() if w.removesuffix("</w>").isalpha()][::7]
    assert len(plain) > 3000
    assert all(ours.encode(w) == theirs.encode(w) for w, _ in plain)
    assert sum(ours.encode(w) == [i] for w, i in plain) > 0.99 * len(plain)


def test_context_length(theirs):
    """Another context length cuts there and keeps the end token last."""
    rows = ClipTokenizer(5)(["one two three four five six", "cat"])
    assert rows.shape == (2, 5)
    assert rows[0, 0] == START
    assert rows[0, -1] == END
    np.testing.assert_array_equal(rows, theirs(["one two three four five six", "cat"], context_length=5).numpy())


def test_no_heavy_import(isolated):
    """ASCII text needs neither torch nor open_clip nor ftfy nor regex."""
    code = (
        "import sys; from clipkit.models.tokenizer import ClipTokenizer; ClipTokenizer()(['a photo of a cat']);"
        "print([m for m in ('torch', 'open_clip', 'ftfy', 'regex', 'tokenizers') if m in sys.modules])"
    )
    assert isolated(code).strip() == "[]"


def test_trimmed_batches_cover_every_row():
    """Each row comes once, in batches of like lengths, cut behind the last end token of its batch."""
    tokens = ClipTokenizer()(["a " * n for n in (3, 40, 1, 7, 7, 0)])
    seen = []
    for rows, batch in trimmed_batches(tokens, 2):
        assert batch.shape[1] == int(tokens[rows].argmax(1).max()) + 1
        np.testing.assert_array_equal(batch, tokens[rows, : batch.shape[1]])
        assert (tokens[rows, batch.shape[1] :] == 0).all()
        seen += rows.tolist()
    assert sorted(seen) == list(range(6))
    assert [b.shape for _, b in trimmed_batches(tokens, 4, trim=False)] == [(4, 77), (2, 77)]
    assert list(trimmed_batches(tokens[:0], 4)) == []
