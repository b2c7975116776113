"""The doctor survives whatever is broken, names it, and says what to install."""

import json
import sys

import pytest
from typer.testing import CliRunner

from clipkit.cli.app import app
from clipkit.models import doctor
from clipkit.models.doctor import Finding, Report, examine, explain_import

NMS = "RuntimeError: operator torchvision::nms does not exist"
AUDIO = (
    "RuntimeError: Detected that PyTorch and TorchAudio were compiled with different CUDA versions. PyTorch has CUDA version "
    "13.2 whereas TorchAudio has CUDA version 13.0. Please install the TorchAudio version that matches your PyTorch version."
)
VERSIONS = {"torch": "2.14.1+cpu", "torchvision": "0.29.2", "torchaudio": "2.11.0"}


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """Modules that behave as told, importable by the probing processes alone."""
    home = tmp_path / "modules"
    home.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(home))

    def make(**sources):
        for name, source in sources.items():
            (home / f"{name}.py").write_text(source)

    return make


@pytest.fixture
def small(monkeypatch, fakes):
    """An environment of two fake packages, so that examining is quick."""
    fakes(good="__version__ = '1.0'", torch_like="")
    monkeypatch.setattr(doctor, "LIGHT", {"good": "numpy"})
    monkeypatch.setattr(doctor, "HEAVY", {"torch_like": "torch"})
    return fakes


def test_broken_pair_is_recognised():
    """A torchvision of another build: both are to be installed together, in the versions that belong together."""
    remedy = explain_import("torchvision", NMS, VERSIONS)
    assert "'torch==2.14.*' 'torchvision==0.29.*'" in remedy
    assert "different builds" in remedy
    assert explain_import("open_clip", NMS, VERSIONS) == remedy


def test_torchaudio_mismatch_is_recognised():
    """torchaudio for another CUDA: its last release and the torch that it loads beside."""
    remedy = explain_import("torchaudio", AUDIO, VERSIONS)
    assert "torchaudio==2.11.*" in remedy
    assert "different CUDA" in remedy


@pytest.mark.parametrize(
    ("module", "error", "expected"),
    [
        ("cv2", "ImportError: libGL.so.1: cannot open shared object file", "opencv-python-headless"),
        ("torch", "OSError: libcudart.so.13: cannot open shared object file", "CUDA libraries"),
        ("av", "ImportError: numpy.core.multiarray failed to import", "another NumPy"),
    ],
)
def test_other_known_errors(module, error, expected):
    """What often goes wrong has its remedy."""
    assert expected in explain_import(module, error, VERSIONS)


def test_unknown_errors_stay_unknown():
    """No remedy is invented."""
    assert explain_import("av", "ValueError: something new", VERSIONS) is None


def test_no_remedy_names_another_distribution():
    """The package `clipkit` on the index is somebody else's: only `clipkit-vision` is ever named."""
    texts = [extra for _, _, extra in doctor.OPTIONAL.values()]
    assert all(text.startswith("clipkit-vision[") for text in texts)


def test_crashes_and_hangs_are_survived(fakes):
    """An import that kills or blocks its process is named; the modules behind it are still tried."""
    fakes(
        fine="",
        broken=f"raise RuntimeError({NMS[14:]!r})",
        killer="import os; os._exit(7)",
        aborting="import os; os.abort()",
        leaving="raise SystemExit('bye')",
        noisy="print('{not json')",
        last="import nothing_of_this_name",
    )
    errors, _ = doctor._probe(["fine", "broken", "killer", "aborting", "leaving", "noisy", "last"], 30)
    assert set(errors) == {"broken", "killer", "aborting", "leaving", "last"}
    assert errors["broken"] == NMS
    assert "7" in errors["killer"]
    assert "ModuleNotFoundError" in errors["last"]


def test_a_hang_is_ended(fakes):
    """An import that never ends is given up after the timeout."""
    fakes(sleeper="import time; time.sleep(60)", after="")
    errors, _ = doctor._probe(["sleeper", "after"], 0.7)
    assert set(errors) == {"sleeper"}
    assert "no end after" in errors["sleeper"]


def test_broken_packages_are_problems(small):
    """Examination goes on after broken packages and comes to a verdict."""
    small(torch_like=f"raise RuntimeError({NMS[14:]!r})")
    report = examine(timeout=60)
    found = {finding.name: finding for finding in report.findings}
    assert found["torch"].state == "problem"
    assert "does not import" in found["torch"].detail
    assert "torchvision==" in found["torch"].remedy
    assert found["numpy"].state == "ok"
    assert not report.healthy


def test_missing_package_is_named(small, monkeypatch):
    """What is not installed is told apart from what is broken."""
    monkeypatch.setattr(doctor, "LIGHT", {"no_such_module": "no-such-distribution"})
    found = {finding.name: finding for finding in examine(timeout=60).findings}
    assert found["no-such-distribution"].detail == "not installed"
    assert found["no-such-distribution"].remedy == "pip install no-such-distribution"


def test_model_in_use_answers(small, tiny_vit, monkeypatch):
    """The model in use is really asked; a damaged, absent or mistyped one is a problem with a remedy."""
    from clipkit.models.catalog import resolve
    from clipkit.models.export import export

    export(resolve(str(tiny_vit)))  # graphs answer in a moment
    monkeypatch.setenv("CLIPKIT_MODEL", str(tiny_vit))
    finding = doctor._model(120)
    assert finding.state == "ok"
    assert "answers (onnx on cpu" in finding.detail
    monkeypatch.setenv("CLIPKIT_MODEL", "ViT-B-32")
    assert doctor._model(60).remedy == "clipkit models pull ViT-B-32/openai"
    monkeypatch.setenv("CLIPKIT_MODEL", "ViT-B-23")
    assert doctor._model(60).remedy == "clipkit models use builtin"


def test_damaged_model_is_a_problem(tiny_vit, tmp_path, monkeypatch):
    """Weights that cannot be read make the report fail, in one line."""
    import shutil

    broken = shutil.copytree(tiny_vit, tmp_path / "broken")
    (broken / "open_clip_model.safetensors").write_bytes(b"junk")
    monkeypatch.setenv("CLIPKIT_MODEL", str(broken))
    finding = doctor._model(120)
    assert finding.state == "problem"
    assert "damaged" in finding.detail


def test_gpu_that_torch_cannot_use(monkeypatch):
    """A GPU beside a CPU-only torch is worth a note."""
    monkeypatch.setattr(doctor, "cuda_may_exist", lambda: True)
    (finding,) = [f for f in doctor._devices({"cuda": None, "names": []}) if f.name == "cuda"]
    assert finding.state == "note"
    assert "CPU-only" in finding.detail
    (finding,) = [f for f in doctor._devices({"cuda": "13.0", "names": ["H200"]}) if f.name == "cuda"]
    assert (finding.state, "H200" in finding.detail) == ("ok", True)


def test_places(monkeypatch, tmp_path):
    """A config file that cannot be read and a cache that cannot be written are problems; offline is a note."""
    config = tmp_path / "config.toml"
    config.write_text("model = [")
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("CLIPKIT_CONFIG", str(config))
    monkeypatch.setenv("CLIPKIT_CACHE_DIR", str(blocked / "cache"))
    monkeypatch.setenv("CLIPKIT_OFFLINE", "1")
    found = {finding.name: finding for finding in doctor._places()}
    assert found["config"].state == "problem"
    assert found["cache"].state == "problem"
    assert found["models"].state == "ok"
    assert found["network"].state == "note"


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("note", 0), ("problem", 1)])
def test_command(monkeypatch, state, code):
    """Exit code 1 for problems only; the table and the JSON say the same."""
    report = Report((Finding("packages", "torch", state, "as it is", "do this"),))
    monkeypatch.setattr(doctor, "examine", lambda: report)
    table = CliRunner().invoke(app, ["doctor"])
    assert table.exit_code == code
    assert "do this" in table.stdout
    found = CliRunner().invoke(app, ["doctor", "--json"])
    assert found.exit_code == code
    assert json.loads(found.stdout)["findings"][0]["state"] == state


def test_the_doctor_itself_imports_nothing_heavy(isolated):
    """Its own process stays able to report whatever is broken."""
    code = (
        "import sys; from clipkit.models import doctor;"
        "print([m for m in ('torch', 'numpy', 'onnxruntime', 'open_clip', 'PIL', 'huggingface_hub') if m in sys.modules])"
    )
    assert isolated(code).strip() == "[]"


def test_this_environment():
    """The probe of the real packages finds no failure that the tests themselves would not have met."""
    errors, _ = doctor._probe(["numpy", "PIL.Image", "onnxruntime"], 120)
    assert errors == {}
    assert sys.executable
