"""What a graph's initialisers are made of: a name such as `fold(conv.weight,bn,1e-05)` -> an array, with numpy alone.

| recipe | value |
|---|---|
| `name` | the tensor as float32 |
| `stored(name)` | the tensor as it is in the file, mapped and not copied |
| `fold(weight,bn,eps)` | a convolution's weight times gamma / sqrt(var + eps) of the batch norm behind it |
| `shift(bn,eps)` | that batch norm's beta - mean gamma / sqrt(var + eps) |
| `causal(L)` | (L, L), -inf above the diagonal and 0 elsewhere |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clipkit.models.weights import Safetensors


def cook(recipe: str, weights: Safetensors) -> NDArray[Any]:
    """The array that an initialiser's name stands for.

    Raises:
        ModelError: an unknown recipe or a missing tensor: the graph does not belong to these weights.
    """
    if not recipe.endswith(")"):
        return _float32(weights, recipe)
    kind, _, inside = recipe[:-1].partition("(")
    arguments = inside.split(",")
    if kind == "stored":
        return weights.read(arguments[0])
    if kind == "fold":
        weight = _float32(weights, arguments[0])
        scale = _batch_norm_scale(weights, arguments[1], float(arguments[2]))
        return np.multiply(weight, scale.reshape(-1, *[1] * (weight.ndim - 1)))
    if kind == "shift":
        scale = _batch_norm_scale(weights, arguments[0], float(arguments[1]))
        return _float32(weights, f"{arguments[0]}.bias") - _float32(weights, f"{arguments[0]}.running_mean") * scale
    if kind == "causal":
        length = int(arguments[0])
        return np.triu(np.full((length, length), -np.inf, np.float32), 1)
    raise ModelError(f"the graph asks for {recipe!r}, which this version does not know: export the model again")


def tensor_names(recipe: str) -> list[str]:
    """The tensors of the weights file that a recipe reads."""
    if not recipe.endswith(")"):
        return [recipe]
    kind, _, inside = recipe[:-1].partition("(")
    arguments = inside.split(",")
    if kind == "stored":
        return arguments
    parts = ("weight", "bias", "running_mean", "running_var")
    if kind == "fold":
        return [arguments[0], *(f"{arguments[1]}.{part}" for part in parts)]
    if kind == "shift":
        return [f"{arguments[0]}.{part}" for part in parts]
    return []


def _float32(weights: Safetensors, name: str) -> NDArray[np.float32]:
    stored = weights.read(name)
    return widen(stored) if stored.dtype == np.float16 else np.ascontiguousarray(stored, np.float32)


def widen(half: NDArray[np.float16]) -> NDArray[np.float32]:
    """Finite float16 -> float32, exactly, in an eighth of numpy's time.

    Exponent and mantissa are shifted to their places in float32 and the exponents' biases (15 and 127) are evened out by a
    multiplication by 2^112, which also makes the subnormal numbers right.
    """
    bits = half.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= np.int32(-0x70002000)  # the sign and the 15 bits behind it; the shift smeared the sign over what is between
    wide: NDArray[np.float32] = bits.view(np.float32)
    wide *= np.float32(2.0**112)
    return wide


def _batch_norm_scale(weights: Safetensors, name: str, eps: float) -> NDArray[np.float32]:
    variance = _float32(weights, f"{name}.running_var").astype(np.float64)
    scale = _float32(weights, f"{name}.weight") / np.sqrt(variance + eps)
    return scale.astype(np.float32)
