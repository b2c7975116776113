"""A run on disk: enough to go on after an interruption as if there had been none."""

from __future__ import annotations

import hashlib
import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.errors import InputError
from clipkit.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

VERSION = 1


def fingerprint(photo: NDArray[np.float32], *facts: str) -> str:
    """Changes whenever a state would not fit: the pixels drawn, and facts such as the options and the weights."""
    digest = hashlib.sha256(np.ascontiguousarray(photo).tobytes())
    for fact in facts:
        digest.update(fact.encode() + b"\0")
    return digest.hexdigest()[:16]


def save_state(path: Path, arrays: dict[str, NDArray[Any]], facts: dict[str, Any]) -> None:
    """Write a state file, whole or not at all."""
    with atomic_write(path) as stream:
        np.savez(stream, allow_pickle=False, facts=np.asarray(json.dumps({"version": VERSION, **facts})), **arrays)


def load_state(path: Path, mark: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
    """The arrays and facts of a state file, None where there is none.

    Raises:
        InputError: it is damaged, or was written with another picture, model or options (`mark` differs).
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = json.loads(str(arrays.pop("facts")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError("state", f"the state file {path} is damaged; delete it to begin again") from error
    if facts.get("version") != VERSION or facts.get("mark") != mark:
        raise InputError(
            "state",
            f"the state file {path} is of another picture, model or other options; run with those, or delete it",
        )
    return arrays, facts
