"""What every test shares: a private home for caches and settings, and no way to reach a hub."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def private_home(tmp_path_factory, monkeypatch):
    """Each test has its own cache, config file and hub folder; the user's are never read or written."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("CLIPKIT_CACHE_DIR", str(home / "cache"))
    monkeypatch.setenv("CLIPKIT_CONFIG", str(home / "config.toml"))
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    for name in ("CLIPKIT_MODEL", "CLIPKIT_DEVICE", "CLIPKIT_PRECISION", "CLIPKIT_FORMAT"):
        monkeypatch.delenv(name, raising=False)
    return home
