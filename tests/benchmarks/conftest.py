"""Benchmarks report ratios measured side by side in one run; nothing here asserts on time.

Run with `pytest tests/benchmarks --benchmark-disable-gc -s` on a quiet machine.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def private_home(tmp_path_factory, monkeypatch):
    """Caches and settings of the benchmark's own."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("CLIPKIT_CACHE_DIR", str(home / "cache"))
    monkeypatch.setenv("CLIPKIT_CONFIG", str(home / "config.toml"))
    return home


@pytest.fixture
def side_by_side(record_property, capsys):
    """Time callables in turn, several rounds, and report each one's median as a ratio to the last (the reference)."""

    def compare(title, rounds=5, **calls):
        seconds = {name: [] for name in calls}
        for round_number in range(rounds + 1):
            for name, call in calls.items():
                started = time.perf_counter()
                call()
                if round_number:  # the first round warms caches
                    seconds[name].append(time.perf_counter() - started)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        *_, reference = medians
        with capsys.disabled():
            print(f"\n{title}")
            for name, median in medians.items():
                ratio = medians[reference] / median
                print(f"  {name:28} {median * 1000:10.1f} ms   {1 / ratio:7.3f} x the time of {reference}")
        for name, median in medians.items():
            record_property(f"{title}: {name}", median)
        return medians

    return compare


def process(*args, env=None):
    """A callable that runs a Python process to its end."""
    command = [sys.executable, *args]

    def call():
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT, env=env)

    return call
