"""Class vectors on disk, so that a second run with the same words encodes no text."""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

from clipkit.errors import ClipkitError
from clipkit.files import atomic_write
from clipkit.settings import cache_dir

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_LAYOUT = 1  # raised when the stored form changes
_KEEP_BYTES = 256 * 2**20


def vector_key(text_key: str, wordings: Sequence[str], templates: Sequence[str], reduction: str) -> str:
    """A name that changes whenever the vectors would: model and tokenizer, words, templates, reduction."""
    parts = json.dumps([_LAYOUT, text_key, list(wordings), list(templates), reduction])
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class VectorCache:
    """A folder of `<key>.npy` files, at most 256 MiB, the longest unused removed first. None keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        """Use `folder` (created at the first save)."""
        self.folder = folder

    @classmethod
    def default(cls) -> VectorCache:
        """The user cache."""
        return cls(cache_dir() / "vectors")

    def load(self, key: str) -> NDArray[np.float32] | None:
        """The vectors of a key, or None; a damaged file counts as absent."""
        if self.folder is None:
            return None
        path = self.folder / f"{key}.npy"
        try:
            vectors = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        if vectors.dtype != np.float32 or vectors.ndim != 3 or not np.isfinite(vectors).all():
            return None
        with contextlib.suppress(OSError):
            path.touch()
        return np.asarray(vectors)

    def save(self, key: str, vectors: NDArray[np.float32]) -> None:
        """Keep vectors; a cache that cannot be written is no error."""
        if self.folder is None or vectors.nbytes > _KEEP_BYTES:
            return
        with contextlib.suppress(ClipkitError, OSError):
            with atomic_write(self.folder / f"{key}.npy") as stream:
                np.save(stream, vectors, allow_pickle=False)
            self._prune()

    def _prune(self) -> None:
        assert self.folder is not None
        files = [(path.stat(), path) for path in self.folder.glob("*.npy")]
        total = sum(stat.st_size for stat, _ in files)
        for stat, path in sorted(files, key=lambda item: item[0].st_mtime):
            if total <= _KEEP_BYTES:
                break
            path.unlink(missing_ok=True)
            total -= stat.st_size
