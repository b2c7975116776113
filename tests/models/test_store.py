"""Pulling from a hub on loopback: whole, resumed, checked, offline; and what is done with what was pulled."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from hub_stand_in import COMMIT, Hub, digest, serve

from clipkit.errors import ModelError, ModelUnavailableError, UsageError
from clipkit.models import catalog, download, store
from clipkit.models import hub as hub_module
from clipkit.models.catalog import ModelRef, resolve
from clipkit.models.export import export
from clipkit.models.loader import forget_models, load_clip
from clipkit.models.locate import cached_file, hub_cache, locate, repo_cache
from clipkit.models.weights import file_sha256

REPO = "lab/tiny-clip"
WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture
def hub(tiny_vit, monkeypatch):
    """A hub with one open_clip repository as they are published: weights, two configs, a readme, a picture."""
    monkeypatch.setattr(download, "_PAUSE", 0.01)
    monkeypatch.setattr(download, "CHUNK", 1 << 16)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    forget_models()
    with serve(Hub()) as server:
        server.add(REPO, tiny_vit)
        server.repos[REPO] |= {"README.md": b"# tiny", "config.json": b"{}", "example.png": b"\x89PNG" * 50}
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        yield server


@pytest.fixture
def ref(hub):
    return resolve(f"hf-hub:{REPO}")


@pytest.fixture
def no_sockets(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def nothing_placed():
    snapshots = repo_cache(REPO) / "snapshots"
    return not [path for path in snapshots.rglob("*") if path.name == WEIGHTS] if snapshots.exists() else True


def test_pull_then_load(hub, ref, tiny_vit):
    """After a pull the model loads without the hub, and answers as the directory it was published from."""
    seen = []
    pulled = store.pull(ref, lambda name, done, total: seen.append((name, done, total)))
    assert pulled.weights == repo_cache(REPO) / "snapshots" / COMMIT / WEIGHTS
    assert pulled.weights.read_bytes() == (tiny_vit / WEIGHTS).read_bytes()
    total = len(hub.repos[REPO][WEIGHTS])
    assert seen[-1] == (WEIGHTS, total, total)
    assert [done for name, done, _ in seen if name == WEIGHTS] == sorted(
        done for name, done, _ in seen if name == WEIGHTS
    )
    assert pulled.transferred == sum(len(hub.repos[REPO][n]) for n in (WEIGHTS, "open_clip_config.json", "config.json"))
    assert not [path for path, _ in hub.bodies() if path.endswith((".png", ".md"))]
    hub.repos.clear()
    clip, local = load_clip(ref.id), load_clip(str(tiny_vit))
    np.testing.assert_array_equal(clip.encode_texts(["a cat"]), local.encode_texts(["a cat"]))
    assert clip.id == f"hf-hub:{REPO}"
    assert clip.weights_hash == file_sha256(tiny_vit / WEIGHTS)[:12]


def test_layout_is_the_hubs_own(hub, ref):
    """huggingface_hub and open_clip find what we pulled."""
    from huggingface_hub import try_to_load_from_cache

    pulled = store.pull(ref)
    assert str(pulled.weights) == try_to_load_from_cache(REPO, WEIGHTS, cache_dir=hub_cache())
    blob = pulled.weights.resolve()
    assert blob.name == digest(hub.repos[REPO][WEIGHTS], large=True)
    config = cached_file(REPO, "open_clip_config.json").resolve()
    assert config.name == digest(hub.repos[REPO]["open_clip_config.json"], large=False)


def test_pulling_twice_fetches_once(hub, ref):
    """What is here is not fetched again."""
    store.pull(ref)
    before = len(hub.bodies())
    assert store.pull(ref).transferred == 0
    assert len(hub.bodies()) == before


def test_interrupted_transfer_goes_on(hub, ref):
    """A connection that breaks is resumed within one pull, from the byte where it broke."""
    hub.cuts, hub.cut_after = 2, 300_000
    store.pull(ref)
    ranges = [ranged for path, ranged in hub.bodies() if path.endswith(WEIGHTS)]
    assert ranges == [None, "bytes=300000-", "bytes=600000-"]
    assert all(check.state == "ok" for check in store.verify(ref))


def test_a_later_pull_goes_on(hub, ref, monkeypatch):
    """What an aborted pull left is continued by the next one, in another process too."""
    monkeypatch.setattr(download, "RETRIES", 0)
    hub.cuts, hub.cut_after = 1, 123_456
    with pytest.raises(ModelUnavailableError, match="123456 of .* run the command again"):
        store.pull(ref)
    assert nothing_placed()
    assert not store.is_pulled(ref)
    store.pull(ref)
    assert [ranged for path, ranged in hub.bodies() if path.endswith(WEIGHTS)] == [None, "bytes=123456-"]
    assert load_clip(ref.id).embed_dim == 16
    assert not list(repo_cache(REPO).rglob("*.incomplete"))


def test_server_without_ranges(hub, ref, monkeypatch):
    """Where the server sends the whole file again, the file is whole and right."""
    hub.ignore_ranges, hub.cuts, hub.cut_after = True, 1, 100_000
    store.pull(ref)
    assert all(check.state == "ok" for check in store.verify(ref))


def test_corrupt_body_is_refused(hub, ref):
    """A body that is not what was published is thrown away, and the next pull succeeds."""
    hub.corrupt = {WEIGHTS}
    with pytest.raises(ModelError, match="hash differs"):
        store.pull(ref)
    assert nothing_placed()
    assert not list(repo_cache(REPO).rglob("*.incomplete"))
    hub.corrupt = set()
    store.pull(ref)
    assert store.is_pulled(ref)


def test_corrupt_config_is_refused(hub, ref):
    """Small files are checked too."""
    hub.corrupt = {"open_clip_config.json"}
    with pytest.raises(ModelError, match="hash differs"):
        store.pull(ref)


def test_foreign_leftovers_do_not_harm(hub, ref):
    """A partial file with other bytes, or too many, ends in an error or a clean file, never in wrong weights."""
    data = hub.repos[REPO][WEIGHTS]
    partial = repo_cache(REPO) / "blobs" / f"{digest(data, large=True)}.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"x" * 1000)
    with pytest.raises(ModelError, match="hash differs"):
        store.pull(ref)
    partial.write_bytes(b"x" * (len(data) + 10))
    assert store.pull(ref).weights.read_bytes() == data


def test_busy_server_is_asked_again(hub, ref):
    """Answers that mean "later" are retried; a file that is missing is not."""
    repo = hub_module.read_repo(REPO)
    hub.fail = [503, 429]
    hub_module.fetch(repo, "config.json", lambda _: None)
    del hub.repos[REPO]["README.md"]
    with pytest.raises(ModelUnavailableError, match="has no repository or file"):
        hub_module.fetch(repo, "README.md", lambda _: None)
    assert sum(path.endswith("README.md") for path, _ in hub.bodies()) == 1


def test_token_stays_home(hub, ref, monkeypatch):
    """The hub gets the user's token; the host that it redirects to does not."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serve(Hub()) as cdn:
        cdn.repos = hub.repos
        original = cdn.repos
        hub.redirect_to = cdn.address.replace("127.0.0.1", "localhost")
        cdn.repos = {f"{name}": files for name, files in original.items()}
        store.pull(ref)
        assert {auth for *_, auth in hub.requests} == {"Bearer hf_secret"}
        assert cdn.requests
        assert {auth for *_, auth in cdn.requests} == {None}


def test_unknown_gated_and_foreign_repositories(hub):
    """Each refusal says what it is and what to do."""
    with pytest.raises(ModelUnavailableError, match="no repository or file lab/none"):
        store.pull(resolve("hf-hub:lab/none"))
    hub.gated = {"lab/secret"}
    with pytest.raises(ModelUnavailableError, match="HF_TOKEN"):
        store.pull(resolve("hf-hub:lab/secret"))
    hub.repos["lab/other"] = {"model.onnx": b"x"}
    with pytest.raises(ModelUnavailableError, match="no open_clip model"):
        store.pull(resolve("hf-hub:lab/other"))
    hub.repos["lab/bare"] = {WEIGHTS: b"x"}
    with pytest.raises(ModelUnavailableError, match=r"open_clip_config\.json"):
        store.pull(resolve("hf-hub:lab/bare"))


def test_unreachable_hub(monkeypatch, hub, ref):
    """No server: one line, exit code 4."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelUnavailableError, match="cannot be reached") as caught:
        store.pull(ref)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "CLIPKIT_OFFLINE"])
def test_offline_opens_no_socket(variable, monkeypatch, hub, ref, no_sockets):
    """Offline, pull and load answer at once with the command to use, and open no socket."""
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ModelUnavailableError, match=f"clipkit models pull hf-hub:{REPO}"):
        store.pull(ref)
    with pytest.raises(ModelUnavailableError, match=f"clipkit models pull hf-hub:{REPO}"):
        load_clip(ref.id)
    assert not hub.requests


def test_only_pull_uses_the_network(hub, ref, no_sockets):
    """Looking, listing, describing, verifying and loading open no socket."""
    list(store.available())
    store.describe(ref)
    for action in (store.verify, store.remove, locate):
        with pytest.raises(ModelUnavailableError):
            action(ref)


def test_full_disk_is_noticed_first(hub, ref, monkeypatch):
    """Too little space is told before the first byte."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1000))
    with pytest.raises(ModelUnavailableError, match="HF_HOME"):
        store.pull(ref)
    assert not [path for path, _ in hub.bodies() if path.endswith(WEIGHTS)]


def test_verify_reads_the_bytes(hub, ref):
    """A bit that flipped on disk is found; the remedy is named."""
    store.pull(ref)
    assert {check.state for check in store.verify(ref)} == {"ok"}
    blob = cached_file(REPO, WEIGHTS).resolve()
    data = bytearray(blob.read_bytes())
    data[-5] ^= 4
    blob.write_bytes(data)
    checks = {check.path.name: check for check in store.verify(ref)}
    assert checks[WEIGHTS].state == "damaged"
    assert "pull the model again" in checks[WEIGHTS].detail
    assert checks["open_clip_config.json"].state == "ok"


def test_without_links(hub, ref, monkeypatch):
    """Where the system allows no links the files lie in the snapshot, are found, verified, and not fetched again."""

    def refuse(*_args, **_kwargs):
        raise OSError("no links here")

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    pulled = store.pull(ref)
    assert not pulled.weights.is_symlink()
    assert {check.state for check in store.verify(ref)} == {"ok"}
    before = len(hub.bodies())
    store.pull(ref)
    assert len(hub.bodies()) == before
    pulled.weights.write_bytes(b"x" * pulled.weights.stat().st_size)
    assert "damaged" in {check.state for check in store.verify(ref)}


def test_remove(hub, ref):
    """Removing deletes the repository and its graphs, and nothing else."""
    store.pull(ref)
    hub.repos["lab/second"] = hub.repos[REPO]
    store.pull(resolve("hf-hub:lab/second"))
    graphs = export(ref)
    gone = store.remove(ref)
    assert graphs in gone
    assert not repo_cache(REPO).exists()
    assert not graphs.exists()
    assert store.is_pulled(resolve("hf-hub:lab/second"))
    with pytest.raises(ModelUnavailableError, match="not on this machine"):
        store.remove(ref)


def test_own_and_builtin_models_are_not_removed(tiny_vit):
    """The user's directory and the package's model stay."""
    for name in ("builtin", str(tiny_vit)):
        with pytest.raises(UsageError):
            store.remove(resolve(name))
        with pytest.raises(UsageError):
            store.pull(resolve(name))
    assert (tiny_vit / WEIGHTS).is_file()


def test_listing_and_description(hub, ref, tiny_vit):
    """Hub models appear once they are whole; a description has the files and the hash, or the reason."""
    assert not store.describe(ref)["pulled"]
    assert "models pull" in store.describe(ref)["why"]
    assert ref.id not in {r.id for r, _ in store.available()}
    store.pull(ref)
    assert (ref, True) in list(store.available())
    facts = store.describe(ref)
    assert facts["pulled"]
    assert facts["weights"] == file_sha256(tiny_vit / WEIGHTS)[:12]
    assert (facts["embed_dim"], facts["image_size"], facts["graphs"]) == (16, 32, None)
    json.dumps(facts)
    export(ref)
    assert store.describe(ref)["graphs"]


def test_pair_of_the_registry(hub, tiny_vit, monkeypatch):
    """A pair is pulled from its mirror (safetensors before pickles) and loads with the architecture's own config."""
    import open_clip

    config = json.loads((tiny_vit / "open_clip_config.json").read_text())["model_cfg"]
    path = tiny_vit.parent / "Tiny-Pair.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    pair = ModelRef("pretrained", "Tiny-Pair/lab", "Tiny-Pair", "lab", repo="lab/mirror", file="pytorch_model.bin")
    monkeypatch.setattr(catalog, "resolve", lambda _: pair)
    weights = hub.repos[REPO][WEIGHTS]
    hub.repos["lab/mirror"] = {"pytorch_model.bin": b"old pickle", "pytorch_model.safetensors": weights}
    assert store.pull(pair).weights.name == "pytorch_model.safetensors"
    assert not any(path.endswith(".bin") for path, _ in hub.bodies())
    clip = load_clip("Tiny-Pair/lab")
    np.testing.assert_allclose(clip.encode_texts(["a"]), load_clip_of(tiny_vit).encode_texts(["a"]), atol=1e-6)


def load_clip_of(directory):
    from clipkit.models.torch_engine import load_torch

    return load_torch(locate(ModelRef("local", "x", directory=directory)), "cpu", "auto")


def test_second_repositories_come_along(hub, tiny_vit):
    """A text tower's tokenizer repository is pulled with the model, and without it the model does not count as here."""
    files = dict(hub.repos[REPO])
    config = json.loads(files["open_clip_config.json"])
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "lab/words"
    files["open_clip_config.json"] = json.dumps(config).encode()
    hub.repos["lab/worded"] = files
    hub.repos["lab/words"] = {
        "tokenizer.json": b"{}",
        "tokenizer_config.json": b"{}",
        "model.safetensors": b"large" * 100,
    }
    worded = resolve("hf-hub:lab/worded")
    store.pull(worded)
    assert locate(worded).tokenizer == cached_file("lab/words", "tokenizer.json").parent
    assert not any("words" in path and path.endswith(".safetensors") for path, _ in hub.bodies())
    assert {check.state for check in store.verify(worded)} == {"ok"}
    shutil.rmtree(repo_cache("lab/words"))
    assert not store.is_pulled(worded)


def test_interrupt_leaves_nothing_half_placed(hub, ref, tmp_path):
    """Ctrl-C in the middle of a transfer: no snapshot entry, and the next pull goes on from there."""
    hub.repos[REPO][WEIGHTS] += bytes(3_000_000)
    code = (
        "import signal, os\n"
        "from clipkit.models import download, store\n"
        "from clipkit.models.catalog import resolve\n"
        "download.CHUNK = 1 << 16\n"
        "def stop(name, done, total):\n"
        "    if name.endswith('.safetensors') and done > 1_000_000: os.kill(os.getpid(), signal.SIGINT)\n"
        f"store.pull(resolve({ref.id!r}), stop)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, env=os.environ, timeout=60
    )
    assert done.returncode in {-signal.SIGINT, 130, 1}
    assert "KeyboardInterrupt" in done.stderr
    assert nothing_placed()
    store.pull(ref)
    resumed = [ranged for path, ranged in hub.bodies() if path.endswith(WEIGHTS)]
    assert resumed[0] is None
    assert int(resumed[-1].removeprefix("bytes=").rstrip("-")) > 1_000_000
    assert store.verify(ref)


def test_two_processes_at_once(hub, ref):
    """Two pulls of one model at the same time end with one good copy."""
    code = (
        f"from clipkit.models import store; from clipkit.models.catalog import resolve; store.pull(resolve({ref.id!r}))"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], env=os.environ) for _ in range(2)]
    deadline = time.monotonic() + 60
    assert [process.wait(timeout=deadline - time.monotonic()) for process in both] == [0, 0]
    assert {check.state for check in store.verify(ref)} == {"ok"}
    assert sum(path.endswith(WEIGHTS) for path, _ in hub.bodies()) == 1
