"""COCO's run-length code of a binary mask: column by column, runs of zeros and ones in turn, packed as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def encode(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """`(H, W)` bool -> `{"size": [H, W], "counts": text}`, as pycocotools writes it."""
    flat = np.asarray(mask, np.bool_).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=False)) if flat.size else np.zeros(0, np.int64)
    counts = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return {"size": [int(mask.shape[0]), int(mask.shape[1])], "counts": pack(counts.tolist())}


def decode(rle: dict[str, Any]) -> NDArray[np.bool_]:
    """The inverse of `encode`; `counts` may also be a list of run lengths.

    Raises:
        ValueError: the runs do not fill the size.
    """
    height, width = rle["size"]
    counts = rle["counts"]
    runs = unpack(counts) if isinstance(counts, str) else list(counts)
    if sum(runs) != height * width or min(runs, default=0) < 0:
        raise ValueError(f"run lengths sum to {sum(runs)}, not {height} x {width}")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape((height, width), order="F")


def pack(counts: list[int]) -> str:
    """Run lengths as text: from the third on, the change against the run before the last; 5 bits a character."""
    deltas = counts[:3] + [count - before for before, count in zip(counts[1:], counts[3:], strict=False)]
    text = []
    for delta in deltas:
        rest, more = delta, True
        while more:
            bits, rest = rest & 31, rest >> 5
            more = rest != (-1 if bits & 16 else 0)
            text.append(chr(48 + bits + 32 * more))
    return "".join(text)


def unpack(text: str) -> list[int]:
    """The inverse of `pack`."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts
