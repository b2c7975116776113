"""One build for each key, whoever asks; devices and precisions are chosen or refused in words."""

import threading
import time

import pytest

from clipkit import settings
from clipkit.errors import ModelUnavailableError, UsageError
from clipkit.models import device, loader
from clipkit.models.loader import forget_models, load_clip


@pytest.fixture(autouse=True)
def fresh_loader():
    forget_models()
    yield
    forget_models()


@pytest.fixture
def builds(monkeypatch):
    """Count builds, slowly, so that threads have the time to collide."""
    counted = []

    def build(ref, key):
        counted.append(key)
        time.sleep(0.05)
        return object()

    monkeypatch.setattr(loader, "_build", build)
    return counted


def test_one_build_for_many_threads(builds, tiny_vit):
    """Threads that ask for one model at once, under any of its names, share one build and one object."""
    names = [str(tiny_vit), f"local-dir:{tiny_vit}", f"{tiny_vit}/"]
    found, start = [], threading.Barrier(12)

    def ask(name):
        start.wait()
        found.append(load_clip(name))

    threads = [threading.Thread(target=ask, args=(names[i % 3],)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert len({id(clip) for clip in found}) == 1


def test_one_build_for_many_tasks(builds, tiny_vit, tiny_resnet, monkeypatch):
    """Different callers share; another model, engine or precision is another build."""
    monkeypatch.setenv("CLIPKIT_MODEL", str(tiny_vit))
    first = load_clip()
    assert load_clip(str(tiny_vit), device="auto", precision="auto") is first
    assert load_clip(str(tiny_vit), "cpu", "fp32", "torch") is first
    assert len(builds) == 1
    load_clip(str(tiny_resnet))
    load_clip(precision="bf16")
    assert len(builds) == 3


def test_different_models_build_at_the_same_time(monkeypatch, tiny_vit, tiny_resnet):
    """A slow model does not hold up another one."""
    meet = threading.Barrier(2, timeout=20)
    monkeypatch.setattr(loader, "_build", lambda *_: meet.wait())
    threads = [threading.Thread(target=load_clip, args=(str(name),)) for name in (tiny_vit, tiny_resnet)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not meet.broken


def test_a_failed_build_is_tried_again(builds, tiny_vit, monkeypatch):
    """An error is not kept: after the cause is gone, the next call builds."""
    working = loader._build
    monkeypatch.setattr(loader, "_build", lambda *_: (_ for _ in ()).throw(OSError("gone")))
    with pytest.raises(OSError, match="gone"):
        load_clip(str(tiny_vit))
    monkeypatch.setattr(loader, "_build", working)
    load_clip(str(tiny_vit))
    assert len(builds) == 1


def test_settings_are_used(builds, tiny_vit, tiny_resnet, monkeypatch):
    """An argument beats the variable, which beats the config file."""
    settings.save_setting("model", str(tiny_resnet))
    load_clip()
    monkeypatch.setenv("CLIPKIT_MODEL", str(tiny_vit))
    load_clip()
    load_clip(str(tiny_resnet))
    assert [key[0].rpartition("/")[2] for key in builds] == ["resnet", "vit"]


def test_what_is_not_pulled_names_the_command():
    """A known model that is not here exits with 4 and names `pull`; nothing is fetched."""
    with pytest.raises(ModelUnavailableError, match="clipkit models pull ViT-B-32/openai") as caught:
        load_clip("vit-b/32")
    assert caught.value.exit_code == 4
    with pytest.raises(ModelUnavailableError, match="clipkit models pull hf-hub:some/repo"):
        load_clip("hf-hub:some/repo")


def test_no_socket_is_ever_opened(monkeypatch, tiny_vit):
    """Loading, or failing to, opens no socket even when the network is there."""
    import socket

    def refuse(*_args, **_kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(ModelUnavailableError):
        load_clip("ViT-B-16-SigLIP2")
    assert load_clip(str(tiny_vit)).embed_dim == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "gpu"}, "no such device: 'gpu'"),
        ({"device": "cuda:x"}, "no such device"),
        ({"precision": "int4"}, "no such precision: 'int4'"),
        ({"engine": "jax"}, "no such engine: 'jax'"),
        ({"name": "ViT-B-23"}, "did you mean"),
    ],
)
def test_nonsense_is_refused(arguments, message, tiny_vit):
    """Unknown devices, precisions, engines and names are usage errors."""
    with pytest.raises(UsageError, match=message):
        load_clip(**{"name": str(tiny_vit), **arguments})


def test_cuda_without_cuda(monkeypatch):
    """`--device cuda` on a machine without says so and names the remedy, and torch is not asked."""
    monkeypatch.setattr(device, "cuda_may_exist", lambda: False)
    monkeypatch.setattr(device, "_cuda_count", lambda: pytest.fail("torch was asked"))
    with pytest.raises(UsageError, match=r"no CUDA device is present; use --device cpu"):
        device.resolve_device("cuda")


def test_cpu_only_torch_beside_a_gpu(monkeypatch):
    """A GPU that torch cannot use is told apart from no GPU."""
    import torch

    monkeypatch.setattr(device, "cuda_may_exist", lambda: True)
    monkeypatch.setattr(device, "_cuda_count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(UsageError, match="CPU-only build"):
        device.resolve_device("cuda:1")
    assert device.resolve_device("auto") == "cpu"


def test_auto_order(monkeypatch):
    """auto is cuda, then mps, then cpu; for the built-in model mps is passed over."""
    state = {"cuda": 2, "mps": True}
    monkeypatch.setattr(device, "cuda_may_exist", lambda: bool(state["cuda"]))
    monkeypatch.setattr(device, "mps_may_exist", lambda: state["mps"])
    monkeypatch.setattr(device, "_cuda_count", lambda: state["cuda"])
    monkeypatch.setattr(device, "_mps_works", lambda: state["mps"])
    assert device.resolve_device() == "cuda"
    assert device.resolve_device("cuda:1") == "cuda:1"
    with pytest.raises(UsageError, match="2 CUDA device"):
        device.resolve_device("cuda:2")
    state["cuda"] = 0
    assert device.resolve_device() == "mps"
    assert device.resolve_device(small=True) == "cpu"
    state["mps"] = False
    assert device.resolve_device() == "cpu"
    with pytest.raises(UsageError, match="Metal"):
        device.resolve_device("mps")


@pytest.mark.parametrize(("visible", "expected"), [("", False), ("-1", False), ("0", True)])
def test_hidden_gpus_are_not_there(visible, expected, monkeypatch, tmp_path):
    """CUDA_VISIBLE_DEVICES hides devices from `auto` before torch is imported."""
    monkeypatch.setattr(device, "_GPU_TRACES", (str(tmp_path),))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device.cuda_may_exist() is expected


def test_automatic_precision():
    """fp32 on the CPU; fp16 on cuda for towers that keep their norms in fp32; what is asked for is kept."""
    assert device.resolve_precision("auto", "cpu") == "fp32"
    assert device.resolve_precision("auto", "mps") == "fp32"
    assert device.resolve_precision("auto", "cuda") == "fp16"
    assert device.resolve_precision("fp32", "cuda") == "fp32"
    assert device.resolve_precision("bf16", "cpu") == "bf16"
