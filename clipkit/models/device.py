"""Where a model computes and how precisely: `auto` is cuda, then mps, then cpu, decided without torch where it can be."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clipkit.errors import UsageError

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "fp16", "bf16"]
PRECISIONS = ("auto", "fp32", "fp16", "bf16")

# What a driver leaves behind: NVIDIA on Linux, CUDA inside WSL, ROCm, NVIDIA on Windows.
_GPU_TRACES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd", r"C:\Windows\System32\nvcuda.dll")


def cuda_may_exist() -> bool:
    """Whether a CUDA or ROCm device is plainly present, told from device files and without importing torch.

    False is certain enough to stay on the CPU; True means that torch must be asked.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in {"", "-1"}:
        return False
    return any(Path(trace).exists() for trace in _GPU_TRACES)


def mps_may_exist() -> bool:
    """Whether this is a Mac with Apple's own processor."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


def resolve_device(device: str = "auto", *, small: bool = False) -> str:
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps` -> the device to use.

    Args:
        device: What was asked for.
        small: A model so small that starting an accelerator through Metal costs more than it saves (the built-in one):
            `auto` then means the CPU unless CUDA is plainly present.

    Raises:
        UsageError: a name that is no device, or a device that this machine or its torch does not have.
    """
    name = device.strip().lower()
    if name == "cpu":
        return "cpu"
    if name == "auto":
        if cuda_may_exist() and _cuda_count():
            return "cuda"
        return "mps" if not small and mps_may_exist() and _mps_works() else "cpu"
    kind, _, index = name.partition(":")
    if kind == "mps" and not index:
        if mps_may_exist() and _mps_works():
            return "mps"
        raise UsageError("this machine has no Metal device: use --device cpu, or --device auto")
    if kind != "cuda" or (index and not index.isdecimal()):
        raise UsageError(f"no such device: {device!r}; use auto, cpu, cuda, cuda:N or mps")
    count = _cuda_count() if cuda_may_exist() else 0
    if not count:
        raise UsageError(f"--device {device}: {_why_no_cuda()}; use --device cpu, or --device auto")
    if index and int(index) >= count:
        raise UsageError(f"--device {device}: this machine has {count} CUDA device(s), cuda:0 to cuda:{count - 1}")
    return name


def check_precision(precision: str) -> None:
    """Refuse a precision that does not exist.

    Raises:
        UsageError: not one of auto, fp32, fp16, bf16.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"no such precision: {precision!r}; use {', '.join(PRECISIONS)}")


def resolve_precision(precision: str, device: str, *, native: bool = True) -> Precision:
    """The precision to compute in.

    `auto` is fp32 on cpu and mps. On cuda it is fp16 for open_clip's own towers, which keep their layer norms in fp32, and
    bf16 for timm and transformers towers, whose activations may exceed fp16's range (fp32 where the device lacks bf16).

    Raises:
        UsageError: not a precision.
    """
    check_precision(precision)
    if precision == "auto":
        if not device.startswith("cuda"):
            return "fp32"
        if native:
            return "fp16"
        import torch

        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "fp16" if precision == "fp16" else "bf16" if precision == "bf16" else "fp32"


def torch_dtype(precision: Precision) -> torch.dtype:
    """The torch type of a precision."""
    import torch

    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]


def _cuda_count() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _mps_works() -> bool:
    import torch

    return torch.backends.mps.is_available()


def _why_no_cuda() -> str:
    if not cuda_may_exist():
        return "no CUDA device is present"
    import torch

    if torch.version.cuda is None:
        return "a GPU is present but this torch is a CPU-only build (`clipkit doctor` says what to install)"
    return "torch cannot use the CUDA device (`clipkit doctor` says more)"
