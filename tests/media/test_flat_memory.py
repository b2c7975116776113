"""Memory does not grow with the number of inputs."""

import subprocess
import sys

import pytest
from hostile import encoded, noisy

PROBE = """
import resource, sys
from clipkit.media.image import open_image
from clipkit.media.paths import count, expand
from clipkit.media.prefetch import prefetch
n = sum(image.size == (160, 120) for _, image in prefetch(expand(sys.argv[1:]), open_image, workers=2))
assert count(sys.argv[1:]) in (n, None)
print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss in kilobytes")
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
