"""CLIP's byte-pair encoding in plain Python: ready in milliseconds, token for token open_clip's `SimpleTokenizer`.

The id of a merged symbol is 512 + the rank of its merge (256 bytes, 256 bytes that end a word, then the merges in order),
so the merge list alone is the vocabulary and only its first 48,894 lines need decompressing.
"""

from __future__ import annotations

import html
import importlib.util
import re
import zlib
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.errors import ModelUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

CONTEXT_LENGTH = 77
MERGES = 49152 - 256 - 2
START, END = 49406, 49407
VOCAB_SIZE = 49408
SPECIAL = {"<start_of_text>": START, "<end_of_text>": END}

_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
_CONTRACTIONS = r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d"
# Cleaned text of printable ASCII without an ampersand passes ftfy and html.unescape unchanged.
_NEEDS_CLEANING = re.compile(r"[^\x20-\x7e\t\n\r]|&")
_ASCII_WORDS = re.compile(_CONTRACTIONS + r"|[a-z]+|[0-9]|[^\sa-z0-9]+")


class ClipTokenizer:
    """Text -> token ids, as OpenAI's CLIP defines it."""

    name = "clip-bpe"

    def __init__(self, context_length: int = CONTEXT_LENGTH) -> None:
        """Use rows of `context_length` tokens."""
        self.context_length = context_length
        self._ranks = _merge_ranks()
        self._bytes = _byte_symbols()
        self._words: dict[str, list[int]] = {word: [number] for word, number in SPECIAL.items()}

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without start and end."""
        words, known = _split(text), self._words
        ids: list[int] = []
        for word in words:
            found = known.get(word)
            if found is None:
                found = known[word] = self._merge(word)
            ids += found
        return ids

    def __call__(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """N texts -> (N, context_length): start, ids, end, zeros. Longer texts are cut and still end with the end token."""
        rows = np.zeros((len(texts), self.context_length), np.int64)
        for row, text in zip(rows, texts, strict=True):
            ids = [START, *self.encode(text), END]
            if len(ids) > self.context_length:
                ids = [*ids[: self.context_length - 1], END]
            row[: len(ids)] = ids
        return rows

    def _merge(self, word: str) -> list[int]:
        symbols = [self._bytes[byte] for byte in word.encode("utf-8")]
        parts = [symbol for symbol, _ in symbols]
        ids = [number for _, number in symbols]
        parts[-1] += "</w>"
        ids[-1] += 256
        ranks = self._ranks
        while len(parts) > 1:
            best = min(ranks.get(f"{a} {b}", MERGES) for a, b in pairwise(parts))
            if best == MERGES:
                break
            i = 0
            while i < len(parts) - 1:
                if ranks.get(f"{parts[i]} {parts[i + 1]}") == best:
                    parts[i : i + 2] = [parts[i] + parts[i + 1]]
                    ids[i : i + 2] = [512 + best]
                i += 1
        return ids


def trimmed_batches(
    tokens: NDArray[np.int64], size: int, *, trim: bool = True
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.int64]]]:
    """(N, L) rows -> batches of up to `size` rows as (row numbers, tokens), cut to the batch's last end token.

    Rows of like length share a batch, so that short prompts do not pay for a long one. The end token is the largest id, as
    argmax pooling has it. Only towers that are causal and pool by argmax may be trimmed: what follows the end token cannot
    reach it.
    """
    ends = tokens.argmax(axis=1) if trim else np.zeros(len(tokens), np.intp)
    order = np.argsort(ends, kind="stable")
    for first in range(0, len(order), size):
        rows = order[first : first + size]
        length = int(ends[rows].max()) + 1 if trim else tokens.shape[1]
        yield rows, np.ascontiguousarray(tokens[rows, :length])


def _split(text: str) -> list[str]:
    """Cleaned, lowercased text -> words, as `SimpleTokenizer` finds them."""
    if _NEEDS_CLEANING.search(text) is None:
        return _ASCII_WORDS.findall(" ".join(text.split()).lower())
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    text = " ".join(text.split()).lower()
    return [str(word) for word in _unicode_words()(text)]


@cache
def _unicode_words() -> Callable[[str], list[Any]]:
    import regex

    pattern = regex.compile(_CONTRACTIONS + r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE)
    found: Callable[[str], list[Any]] = pattern.findall
    return found


@cache
def _byte_symbols() -> tuple[tuple[str, int], ...]:
    """For each byte its printable stand-in and its id: printable bytes first, then the others as U+0100 onwards."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    symbols = {byte: (chr(byte), number) for number, byte in enumerate(printable)}
    symbols |= {byte: (chr(256 + i), len(printable) + i) for i, byte in enumerate(others)}
    return tuple(symbols[byte] for byte in range(256))


@cache
def _merge_ranks() -> dict[str, int]:
    """`"left right"` -> rank, from the vocabulary file inside the installed open_clip, which is not imported."""
    spec = importlib.util.find_spec("open_clip")
    folders = list(spec.submodule_search_locations or []) if spec else []
    path = Path(folders[0]) / _VOCABULARY if folders else None
    if path is None or not path.is_file():
        raise ModelUnavailableError(
            "CLIP's vocabulary comes with the package open_clip_torch, which is not installed: pip install open_clip_torch"
        )
    unzip = zlib.decompressobj(wbits=31)
    text, packed = b"", path.read_bytes()
    position, step = 0, 1 << 18
    while text.count(b"\n") <= MERGES + 1 and position < len(packed):
        text += unzip.decompress(packed[position : position + step])
        position += step
    lines = text.decode("utf-8", errors="ignore").split("\n", MERGES + 2)[1 : MERGES + 1]
    return dict(zip(lines, range(MERGES), strict=True))
