"""What is installed here, whether it works, and what to install where it does not.

Every import happens in a process of its own, which says what it is about to do before it does it: a package that fails,
crashes or hangs is named, and the rest of the report is not lost.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clipkit import __version__, settings
from clipkit.errors import ClipkitError
from clipkit.models import catalog
from clipkit.models.device import cuda_may_exist, mps_may_exist
from clipkit.models.locate import hub_cache
from clipkit.models.offline import is_offline

if TYPE_CHECKING:
    from collections.abc import Iterator

State = Literal["ok", "note", "problem"]

# module to import -> distribution that brings it
LIGHT = {
    "numpy": "numpy",
    "PIL.Image": "pillow",
    "onnxruntime": "onnxruntime",
    "cv2": "opencv-python-headless",
    "av": "av",
    "soundfile": "soundfile",
    "safetensors": "safetensors",
    "huggingface_hub": "huggingface_hub",
}
HEAVY = {"torch": "torch", "torchvision": "torchvision", "torchaudio": "torchaudio", "open_clip": "open_clip_torch"}
OPTIONAL = {
    "transformers": (
        "transformers",
        "models with a transformers text tower (SigLIP, NLLB), detectors",
        "clipkit-vision[hf]",
    ),
    "onnx": ("onnx", "`clipkit models export`", "clipkit-vision[export]"),
    "onnxscript": ("onnxscript", "`clipkit models export`", "clipkit-vision[export]"),
}
TORCH_SERIES = (2, 14)

_PROBE = """
import importlib, json, sys
def say(**facts): print(json.dumps(facts), flush=True)
for name in sys.argv[1:]:
    say(start=name)
    try:
        module = importlib.import_module(name)
        say(done=name, version=str(getattr(module, "__version__", "")))
    except BaseException as error:
        say(failed=name, error=type(error).__name__ + ": " + str(error))
if "torch" in sys.argv[1:] and "torch" in sys.modules:
    import torch
    say(start="devices")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    say(done="devices", cuda=torch.version.cuda, names=names, mps=torch.backends.mps.is_available())
"""

_ANSWER = """
import json, sys
from clipkit.models import catalog, store
from clipkit.models.loader import load_clip
facts = store.describe(catalog.resolve(sys.argv[1]))
if facts["pulled"]:
    clip = load_clip(sys.argv[1])
    vector = clip.encode_texts(["a photo of a cat"])[0]
    facts |= {"engine": clip.engine, "device": clip.device, "norm": float((vector * vector).sum() ** 0.5)}
print(json.dumps(facts))
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. A `note` is worth knowing, a `problem` stops something; `remedy` says what to do."""

    topic: str
    name: str
    state: State
    detail: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All findings in reading order."""

    findings: tuple[Finding, ...] = field(default=())

    @property
    def healthy(self) -> bool:
        """Whether nothing is a problem."""
        return not any(finding.state == "problem" for finding in self.findings)

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        rows = [{name: getattr(finding, name) for name in Finding.__slots__} for finding in self.findings]
        return {"schema": 1, "clipkit": __version__, "healthy": self.healthy, "findings": rows}


def examine(timeout: float = 120.0) -> Report:
    """Look at everything. Opens no socket and changes nothing.

    Args:
        timeout: Seconds that one import or one answer may take.
    """
    torch_facts: dict[str, Any] = {}
    findings = [
        *_system(),
        *_packages(torch_facts, timeout),
        *_extras(),
        *_devices(torch_facts),
        *_places(),
        _model(timeout),
    ]
    return Report(tuple(findings))


def explain_import(name: str, error: str, versions: dict[str, str]) -> str | None:
    """The remedy for an import error that is known, None for one that is not.

    Args:
        name: The module that failed.
        error: What it said.
        versions: Installed versions by distribution.
    """
    torch = versions.get("torch", "")
    if re.search(r"torchvision::nms does not exist|torchvision.*(undefined symbol|_C\.so)", error):
        return (
            f"torch {torch} and torchvision {versions.get('torchvision', '')} are of different builds (for instance a CPU-only "
            f"torch beside a CUDA torchvision): install both in one command and from one index, "
            f"pip install --force-reinstall 'torch=={_series(torch)}.*' '{_torchvision_for(torch)}'"
        )
    if name == "torchaudio" or "TorchAudio" in error:
        return (
            f"torch {torch} and torchaudio {versions.get('torchaudio', '')} are built for different CUDA versions: "
            "pip install --force-reinstall 'torch==2.14.*' 'torchaudio==2.11.*' torchvision"
        )
    if "libGL" in error or "libgthread" in error:
        return "this is OpenCV with windows: pip uninstall opencv-python opencv-contrib-python; pip install --force-reinstall opencv-python-headless"
    if re.search(r"lib(cudart|cublas|cudnn|nccl|cusparse)", error):
        return "CUDA libraries of torch are missing: pip install --force-reinstall torch torchvision"
    if "ABI" in error or "numpy.core.multiarray" in error or "compiled using NumPy 1" in error:
        return f"{name} was built for another NumPy: pip install --upgrade {LIGHT.get(name) or HEAVY.get(name) or name} numpy"
    return None


def _system() -> Iterator[Finding]:
    version = platform.python_version()
    fine = sys.version_info >= (3, 11)
    yield Finding("clipkit", "version", "ok", f"{__version__} in {Path(__file__).parents[1]}")
    yield Finding(
        "clipkit",
        "python",
        "ok" if fine else "problem",
        f"{version} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        None if fine else "Python 3.11 or newer",
    )


def _packages(torch_facts: dict[str, Any], timeout: float) -> Iterator[Finding]:
    versions = {name: _version(name) or "" for name in {**LIGHT, **HEAVY}.values()}
    for modules in (LIGHT, HEAVY):
        results, devices = _probe(list(modules), timeout)
        torch_facts |= devices
        for module, distribution in modules.items():
            yield _package(module, distribution, results.get(module), versions)


def _package(module: str, distribution: str, error: str | None, versions: dict[str, str]) -> Finding:
    version = versions[distribution]
    if not version and error:
        return Finding("packages", distribution, "problem", "not installed", f"pip install {distribution}")
    if error:
        known = explain_import(module, error, versions)
        last = error.strip().splitlines()[-1][:300] if error.strip() else "fails to import"
        remedy = known or f"pip install --force-reinstall {distribution}"
        return Finding("packages", distribution, "problem", f"{version} does not import: {last}", remedy)
    if distribution == "torch" and not _in_series(version):
        wanted = ".".join(map(str, TORCH_SERIES))
        return Finding(
            "packages",
            distribution,
            "note",
            f"{version}; clipkit is made for {wanted}",
            f"pip install 'torch=={wanted}.*'",
        )
    return Finding("packages", distribution, "ok", version)


def _extras() -> Iterator[Finding]:
    for distribution, purpose, extra in OPTIONAL.values():
        version = _version(distribution)
        if version:
            yield Finding("extras", distribution, "ok", version)
        else:
            yield Finding(
                "extras", distribution, "note", f"not installed; needed for {purpose}", f"pip install '{extra}'"
            )


def _devices(torch_facts: dict[str, Any]) -> Iterator[Finding]:
    names = torch_facts.get("names") or []
    if names:
        yield Finding("devices", "cuda", "ok", f"{', '.join(names)} (torch built for CUDA {torch_facts.get('cuda')})")
    elif cuda_may_exist():
        built = torch_facts.get("cuda")
        why = f"torch built for CUDA {built} cannot use it" if built else "this torch is a CPU-only build"
        remedy = (
            "update the GPU's driver"
            if built
            else "install a CUDA build of torch with its torchvision, or use --device cpu"
        )
        yield Finding("devices", "cuda", "note", f"a GPU is present but {why}", remedy)
    else:
        yield Finding("devices", "cuda", "ok", "none; the CPU computes")
    if mps_may_exist():
        yield Finding("devices", "mps", "ok", "usable" if torch_facts.get("mps") else "not usable by this torch")


def _places() -> Iterator[Finding]:
    config = settings.config_path()
    try:
        values = ", ".join(f"{key} = {value}" for key, value in settings.config().items()) or "defaults"
        yield Finding("places", "config", "ok", f"{config} ({values})")
    except ClipkitError as error:
        yield Finding("places", "config", "problem", str(error), f"correct or delete {config}")
    yield _folder("cache", settings.cache_dir(), "CLIPKIT_CACHE_DIR")
    yield _folder("models", hub_cache(), "HF_HOME")
    if is_offline():
        yield Finding(
            "places",
            "network",
            "note",
            "offline mode is on: nothing is pulled",
            "unset CLIPKIT_OFFLINE and HF_HUB_OFFLINE",
        )


def _folder(name: str, path: Path, variable: str) -> Finding:
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return Finding(
            "places", name, "problem", f"{path} cannot be written", f"set {variable} to a folder you may write"
        )
    free = shutil.disk_usage(existing).free
    return Finding("places", name, "ok", f"{path} ({free / 1e9:.1f} GB free)")


def _model(timeout: float) -> Finding:
    """Whether the model in use answers."""
    try:
        name = settings.setting("model")
        catalog.resolve(name)
    except ClipkitError as error:
        return Finding("model", "in use", "problem", str(error), "clipkit models use builtin")
    code, out, err = _run([sys.executable, "-c", _ANSWER, name], timeout)
    if code != 0:
        last = next((line for line in reversed(err.strip().splitlines()) if line.strip()), "no answer")
        return Finding("model", name, "problem", last[:300], f"clipkit models verify {name}")
    facts = json.loads(out.strip().splitlines()[-1])
    if not facts["pulled"]:
        return Finding("model", facts["name"], "problem", facts["why"], f"clipkit models pull {facts['name']}")
    if not abs(facts["norm"] - 1) < 1e-2:
        return Finding(
            "model", facts["name"], "problem", "answers with no vector", f"clipkit models verify {facts['name']}"
        )
    size = facts["bytes"] / 1e6
    detail = f"answers ({facts['engine']} on {facts['device']}, {size:.0f} MB, weights {facts['weights']})"
    return Finding("model", facts["name"], "ok", detail)


def _probe(modules: list[str], timeout: float) -> tuple[dict[str, str], dict[str, Any]]:
    """Import modules in order in another process -> errors by module, and what torch says of devices.

    After a crash or a hang the modules behind it are tried in a further process.
    """
    errors: dict[str, str] = {}
    devices: dict[str, Any] = {}
    rest = list(modules)
    while rest:
        code, out, err = _run([sys.executable, "-c", _PROBE, *rest], timeout)
        started = None
        for line in out.splitlines():
            try:
                fact = json.loads(line)
            except ValueError:
                continue
            started = fact.get("start", started)
            if "failed" in fact:
                errors[fact["failed"]] = fact["error"]
            if fact.get("done") == "devices":
                devices = fact
            if "done" in fact or "failed" in fact:
                started = None
        if started is None or started not in rest:
            break
        errors[started] = err.strip().splitlines()[-1] if err.strip() else f"the process ended with {code}"
        rest = rest[rest.index(started) + 1 :]
    return errors, devices


def _run(command: list[str], timeout: float) -> tuple[int, str, str]:
    """Run without network -> exit code (or -1 after the timeout), stdout, stderr."""
    try:
        done = subprocess.run(  # noqa: S603 (our own code in our own interpreter)
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONFAULTHANDLER": "", "PYTHONIOENCODING": "utf-8"},
        )
    except subprocess.TimeoutExpired as error:
        out = error.stdout if isinstance(error.stdout, bytes) else b""
        return -1, out.decode(errors="replace"), f"no end after {timeout:.0f} s"
    except OSError as error:
        return -1, "", str(error)
    return done.returncode, done.stdout, done.stderr


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _in_series(version: str) -> bool:
    return _series(version) == ".".join(map(str, TORCH_SERIES))


def _series(version: str) -> str:
    return ".".join(version.partition("+")[0].split(".")[:2]) or ".".join(map(str, TORCH_SERIES))


def _torchvision_for(torch: str) -> str:
    """The torchvision of a torch 2.x: their minor versions go up together, 0.15 belonging to 2.0."""
    minor = _series(torch).partition(".")[2]
    return f"torchvision==0.{int(minor) + 15}.*" if minor.isdecimal() else "torchvision"
