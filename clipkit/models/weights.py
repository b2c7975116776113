"""Safetensors files read with numpy alone: the header, single tensors by offset, and the hash that names the weights."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.errors import ModelError
from clipkit.files import atomic_write
from clipkit.settings import cache_dir

if TYPE_CHECKING:
    from numpy.typing import NDArray

HASH_DIGITS = 12
_DTYPES: dict[str, type[np.generic]] = {
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
    "I32": np.int32,
    "I64": np.int64,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_SAMPLE = 4096
_MAX_HEADER = 100_000_000  # the format's own limit


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of a safetensors header. `offset` counts from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


class Safetensors:
    """A safetensors file: its tensors by name, mapped and never copied."""

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            ModelError: the file is missing, truncated or no safetensors file.
        """
        self.path = Path(path)
        try:
            with self.path.open("rb") as stream:
                size = struct.unpack("<Q", stream.read(8))[0]
                if size > _MAX_HEADER:
                    raise ValueError("the header is too long")  # noqa: TRY301
                raw = stream.read(size)
            header = json.loads(raw)
            self.metadata: dict[str, str] = header.pop("__metadata__", {})
            start = 8 + size
            self.tensors = {
                name: Tensor(
                    entry["dtype"],
                    tuple(entry["shape"]),
                    start + entry["data_offsets"][0],
                    entry["data_offsets"][1] - entry["data_offsets"][0],
                )
                for name, entry in header.items()
            }
            end = max((t.offset + t.length for t in self.tensors.values()), default=start)
            if self.path.stat().st_size < end:
                raise ValueError(f"{end - self.path.stat().st_size} bytes are missing")  # noqa: TRY301
        except FileNotFoundError as error:
            raise ModelError(f"the weights file {self.path} is missing: pull or install the model again") from error
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, struct.error) as error:
            raise ModelError(
                f"the weights file {self.path} is damaged ({error}): `clipkit models verify` checks it, "
                "pull or install the model again"
            ) from error
        self.header_hash = hashlib.sha256(raw).hexdigest()
        self._start = start

    @cached_property
    def fingerprint(self) -> str:
        """Tells weights apart in a moment: SHA-256 of the header and of 16 samples of the data, spread evenly."""
        digest, data = hashlib.sha256(self.header_hash.encode()), self._bytes
        for start in np.linspace(self._start, max(len(data) - _SAMPLE, self._start), 16).astype(int):
            digest.update(data[start : start + _SAMPLE].tobytes())
        return digest.hexdigest()

    @cached_property
    def _bytes(self) -> NDArray[np.uint8]:
        return np.memmap(self.path, np.uint8, mode="r")

    def read(self, name: str) -> NDArray[Any]:
        """A read-only view of one tensor.

        Raises:
            ModelError: no such tensor, or a type that numpy does not have (bfloat16).
        """
        tensor = self.tensors.get(name)
        if tensor is None or tensor.dtype not in _DTYPES:
            found = "is missing" if tensor is None else f"is stored as {tensor.dtype}, which numpy cannot read"
            raise ModelError(f"{self.path}: tensor {name!r} {found}")
        flat = self._bytes[tensor.offset : tensor.offset + tensor.length].view(_DTYPES[tensor.dtype])
        return flat.reshape(tensor.shape)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex.

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error


def weights_hash(path: Path) -> str:
    """First 12 hex digits of the SHA-256 of a weights file, remembered by path, size and modification time.

    A hub file's blob is named by its SHA-256, which spares reading gigabytes; `clipkit models verify` reads them.
    """
    real = Path(path).resolve()
    if len(real.name) == 64 and set(real.name) <= set("0123456789abcdef"):
        return real.name[:HASH_DIGITS]
    try:
        stat = real.stat()
    except OSError as error:
        raise ModelError(f"the weights file {path} cannot be read: {error.strerror or error}") from error
    key = f"{real}|{stat.st_size}|{stat.st_mtime_ns}"
    memory = cache_dir() / "weights.json"
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
        if isinstance(known, dict) and isinstance(known.get(key), str):
            return str(known[key])
    except (OSError, ValueError):
        known = {}
    digest = file_sha256(real)[:HASH_DIGITS]
    _remember(memory, {**(known if isinstance(known, dict) else {}), key: digest})
    return digest


def _remember(memory: Path, values: dict[str, str]) -> None:
    """Keep the newest hundred hashes; a cache that cannot be written is no error."""
    import contextlib

    from clipkit.errors import OutputError

    with contextlib.suppress(OutputError), atomic_write(memory, "w", encoding="utf-8") as stream:
        json.dump(dict(list(values.items())[-100:]), stream, indent=1)
