"""The one place a model is built: once per process and key, whatever number of tasks and threads ask."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Literal, overload

from clipkit.errors import ModelUnavailableError, UsageError
from clipkit.models import catalog
from clipkit.models.device import check_precision, resolve_device
from clipkit.models.locate import locate
from clipkit.settings import setting

if TYPE_CHECKING:
    from clipkit.models.clip import Clip
    from clipkit.models.torch_engine import TorchClip

Engine = Literal["auto", "onnx", "torch"]
_Key = tuple[str, str, str, str]

_lock = threading.Lock()
_locks: dict[_Key, threading.Lock] = {}
_built: dict[_Key, Clip] = {}


@overload
def load_clip(
    name: str | None = None, device: str | None = None, precision: str | None = None, *, engine: Literal["torch"]
) -> TorchClip: ...


@overload
def load_clip(
    name: str | None = None, device: str | None = None, precision: str | None = None, engine: Engine = "auto"
) -> Clip: ...


def load_clip(
    name: str | None = None, device: str | None = None, precision: str | None = None, engine: Engine = "auto"
) -> Clip:
    """A model ready to encode; the same object for every caller that asks for the same model, engine, device and precision.

    Args:
        name: A model name (see `catalog.resolve`); None takes the setting `model`, which is the built-in one by default.
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `mps`; None takes the setting `device`.
        precision: `auto`, `fp32`, `fp16`, `bf16`; None takes the setting `precision`.
        engine: `torch` for tasks that need patch tokens or gradients (gives a `TorchClip`), `onnx` to insist on a graph;
            `auto` is onnx on the CPU where a graph exists and no lower precision is asked for, else torch.

    Raises:
        UsageError: no such model, device or precision, or no graph where one is insisted on.
        ModelUnavailableError: the model is not on this machine.
        ModelError: its files are damaged or contradict each other.
    """
    if engine not in {"auto", "onnx", "torch"}:
        raise UsageError(f"no such engine: {engine!r}; use auto, onnx or torch")
    device, precision = setting("device", device), setting("precision", precision)
    check_precision(precision)
    ref = catalog.resolve(setting("model", name))
    place = "cpu" if engine == "onnx" and device == "auto" else resolve_device(device, small=ref.kind == "builtin")
    graph = engine == "onnx" or (engine == "auto" and place == "cpu" and precision in {"auto", "fp32"})
    if engine == "onnx" and (place != "cpu" or precision not in {"auto", "fp32"}):
        raise UsageError(f"the onnx engine computes on the cpu in fp32, not on {place} in {precision}")
    key = (
        ref.id,
        "onnx" if graph and _has_graph(ref) else "torch",
        place,
        "fp32" if place == "cpu" and precision == "auto" else precision,
    )
    if engine == "onnx" and key[1] != "onnx":
        raise ModelUnavailableError(f"{ref.id} has no ONNX graph: `clipkit models export {ref.id}` writes one")
    with _lock:
        found = _built.get(key)
        lock = _locks.setdefault(key, threading.Lock())
    if found is not None:
        return found
    with lock:
        if key not in _built:
            _built[key] = _build(ref, key)
        return _built[key]


def forget_models() -> None:
    """Drop every model this process built, so that their memory can be freed."""
    with _lock:
        _built.clear()


def _has_graph(ref: catalog.ModelRef) -> bool:
    """Whether a graph set of exactly these weights is here."""
    from clipkit.models.onnx_engine import META, graph_folder

    if ref.kind == "builtin":
        return (catalog.BUILTIN_DIR / META).is_file()
    return (graph_folder(ref, locate(ref).weights) / META).is_file()


def _build(ref: catalog.ModelRef, key: _Key) -> Clip:
    _, engine, device, precision = key
    if engine == "onnx":
        from clipkit.models.onnx_engine import OnnxClip, graph_folder

        folder = catalog.BUILTIN_DIR if ref.kind == "builtin" else graph_folder(ref, locate(ref).weights)
        return OnnxClip(folder, ref.id)
    from clipkit.models.torch_engine import load_torch

    return load_torch(locate(ref), device, precision)
