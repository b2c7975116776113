"""Foreign checkpoints opened so that no code in them can run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from clipkit.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def load_checkpoint(path: Path, owner: str, harmless: Sequence[type] = ()) -> dict[str, Any]:
    """What a `.safetensors` file, or a pickle of tensors and plain values, holds.

    Args:
        path: the file.
        owner: whose checkpoint `--weights` names, for messages: `LSeg's`.
        harmless: classes that a pickle may hold besides, because they keep values and run nothing.

    Raises:
        ModelError: the file is missing, damaged, or a pickle of more than tensors and plain values.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file; --weights names {owner} checkpoint")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            loaded: Any = load_file(path)
        else:
            with torch.serialization.safe_globals(list(harmless)):
                loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if "Unsupported global" in str(error) or "weights_only" in str(error).lower():
            raise ModelError(
                f"{path} is a pickle that holds more than weights, and opening it could run code: on a machine "
                f"where you trust it, save its 'state_dict' alone as .safetensors and name that file"
            ) from error
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"{path} cannot be read: {first}") from error
    return loaded if isinstance(loaded, dict) else {}
