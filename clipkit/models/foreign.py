"""Checkpoints of other people's code: their tensors, without running any code that a pickle may hold."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import torch

from clipkit.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path


def read_checkpoint(path: Path, owner: str, part: str, allowed: tuple[type, ...] = ()) -> dict[str, torch.Tensor]:
    """The tensors of a `.pth`, `.ckpt` or `.safetensors` file: of its `part`, where the file has more.

    Arguments and errors are those of `open_checkpoint`.
    """
    loaded = open_checkpoint(path, owner, part, allowed)
    return {str(name): value for name, value in loaded.get(part, loaded).items() if isinstance(value, torch.Tensor)}


def open_checkpoint(path: Path, owner: str, part: str, allowed: tuple[type, ...] = ()) -> dict[str, Any]:
    """Everything a `.pth`, `.ckpt` or `.safetensors` file holds.

    Args:
        path: the file.
        owner: whose checkpoint it should be, for messages.
        part: the entry that holds the weights, where the file has more (`state_dict`, `model`).
        allowed: classes of plain values that the pickle may hold besides tensors.

    Raises:
        ModelError: the file is missing, damaged, or a pickle of more than tensors and plain values.
    """
    if not path.is_file():
        told = "is a folder" if path.is_dir() else "no such file"
        raise ModelError(f"{path}: {told}; --weights names {owner}'s checkpoint")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            loaded: Any = load_file(path)
        else:
            # Mapped into memory: an optimizer's state in the file, often twice the weights, is never read.
            with torch.serialization.safe_globals(list(allowed)):
                loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:
        if "Unsupported global" in str(error) or "weights_only" in str(error).lower():
            raise ModelError(
                f"{path} is a pickle that holds more than weights, and opening it could run code: on a machine "
                f"where you trust it, save its {part!r} alone as .safetensors and name that file"
            ) from error
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(
            f"{path} cannot be read as {owner}'s checkpoint ({first}): download or copy it again"
        ) from error
    return loaded if isinstance(loaded, dict) else {}


def fill(module: torch.nn.Module, tensors: dict[str, torch.Tensor], owner: str) -> None:
    """Load tensors into a module: every one of its parameters, and nothing else.

    Raises:
        ModelError: a tensor is missing, left over, or of another shape.
    """
    try:
        missing, unexpected = module.load_state_dict(tensors, strict=False, assign=True)
    except RuntimeError as error:
        raise ModelError(f"{owner}: {str(error).splitlines()[-1].strip()}") from error
    if missing or unexpected:
        told = "missing" if missing else "left over"
        raise ModelError(f"{owner} does not fit: {(missing or unexpected)[0]} is {told}")
