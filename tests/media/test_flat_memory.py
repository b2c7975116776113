"""Memory does not grow with the number of inputs."""

import subprocess
import sys

import pytest
from hostile import encoded, noisy

PROBE = """
import re, sys
from pathlib import Path
from clipkit.media.image import open_image
from clipkit.media.paths import count, expand
from clipkit.media.prefetch import prefetch
n = sum(image.size == (160, 120) for _, image in prefetch(expand(sys.argv[1:]), open_image, workers=2))
assert count(sys.argv[1:]) in (n, None)
# Not ru_maxrss: exec hands the parent's peak on to the child, which hides the child's own.
print(n, re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_five_thousand_pictures_take_the_memory_of_five_hundred(tmp_path):
    """Peak resident memory of a process of its own, within 5 %."""
    data = encoded(noisy(), "JPEG")
    peaks = []
    for number in (500, 5000):
        folder = tmp_path / str(number)
        for n in range(number):
            if n % 500 == 0:
                (folder / f"part-{n:04}").mkdir(parents=True)
            (folder / f"part-{n - n % 500:04}" / f"{n:04}.jpg").write_bytes(data)
        done = subprocess.run([sys.executable, "-c", PROBE, str(folder)], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        found, peak = map(int, done.stdout.split())
        assert found == number
        peaks.append(peak)
    assert peaks[1] < 1.05 * peaks[0], peaks
