"""Fixtures for model tests: tiny models, private caches, code in a fresh interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))


@pytest.fixture(scope="session")
def tiny_vit(tmp_path_factory):
    from tiny import make_tiny_clip

    return make_tiny_clip(tmp_path_factory.mktemp("tiny") / "vit", "vit")


@pytest.fixture(scope="session")
def tiny_resnet(tmp_path_factory):
    from tiny import make_tiny_clip

    return make_tiny_clip(tmp_path_factory.mktemp("tiny") / "resnet", "resnet")


@pytest.fixture(autouse=True)
def private_places(tmp_path, monkeypatch):
    """No test sees the user's configuration, caches or models, nor a model that another test built."""
    monkeypatch.setenv("CLIPKIT_CONFIG", str(tmp_path / "private" / "config.toml"))
    monkeypatch.setenv("CLIPKIT_CACHE_DIR", str(tmp_path / "private" / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "private" / "hf"))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("CLIPKIT_OFFLINE", "CLIPKIT_MODEL", "CLIPKIT_DEVICE", "CLIPKIT_PRECISION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def isolated():
    """Run code in a fresh interpreter and return what it printed."""

    def run(code, **env):
        done = subprocess.run(
            [sys.executable, "-c", code], check=False, capture_output=True, text=True, env={**os.environ, **env}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
