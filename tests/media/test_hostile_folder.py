"""The folder of 200 hostile files: exactly one right outcome each, quietly, quickly, in bounded memory."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hostile import ORIENTATIONS, TOTAL, make_hostile_folder

from clipkit.errors import InputError
from clipkit.media.image import open_image
from clipkit.media.paths import expand
from clipkit.media.prefetch import prefetch
from clipkit.results import Failure


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    return folder, make_hostile_folder(folder)


def outcomes(folder):
    for item, value in prefetch(expand([str(folder)]), lambda i: i if isinstance(i, Failure) else open_image(i)):
        if isinstance(item, Failure):
            yield item.path, item
        else:
            yield item.name, Failure(item.name, value.kind, str(value)) if isinstance(value, InputError) else value


def test_every_file_has_exactly_one_right_outcome(hostile):
    """200 files, 200 outcomes, each an RGB image or a failure of the right kind with one line of text."""
    folder, cases = hostile
    assert len(cases) == TOTAL == 200
    expected = {str(folder / case.name): case for case in cases}
    seen = Counter()
    wrong = []
    for name, outcome in outcomes(folder):
        case = expected[name]
        seen[name] += 1
        if isinstance(outcome, Failure):
            assert outcome.message
            assert "\n" not in outcome.message
            if outcome.kind not in case.kinds:
                wrong.append((case, outcome.kind))
        elif not case.ok or outcome.mode != "RGB":
            wrong.append((case, outcome))
    assert not wrong
    assert seen == Counter(expected.keys())


def test_the_eight_orientations_are_one_picture(hostile):
    """PNG to the bit; JPEG's own loss apart."""
    folder, _ = hostile
    pictures = {open_image(folder / f"orientation-{o}.png").tobytes() for o in ORIENTATIONS}
    assert len(pictures) == 1


def test_the_order_is_the_same_every_time(hostile):
    """Sorted by name, so two runs can be compared line by line."""
    folder, _ = hostile
    names = [name for name, _ in outcomes(folder)]
    assert names == [name for name, _ in outcomes(folder)]
    assert names == sorted(names, key=lambda name: Path(name).parts)


PROBE = """
import re, sys
from pathlib import Path
from clipkit.media.image import open_image
from clipkit.media.paths import expand
from clipkit.media.prefetch import prefetch
from clipkit.results import Failure
def megabytes():  # not ru_maxrss: exec hands the parent's peak on to the child
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
before = megabytes()
n = sum(1 for _ in prefetch(expand(sys.argv[1:]), lambda i: i if isinstance(i, Failure) else open_image(i)))
print(n, megabytes() - before, "torch" in sys.modules, "cv2" in sys.modules)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_bombs_stay_small_and_nothing_is_said_on_stderr(hostile):
    """In a process of its own: under 80 MB on top, an empty stderr, no heavy library."""
    folder, _ = hostile
    done = subprocess.run([sys.executable, "-c", PROBE, str(folder)], capture_output=True, text=True, check=True)
    number, megabytes, torch, cv2 = done.stdout.split()
    assert done.stderr == ""
    assert int(number) == TOTAL
    assert float(megabytes) < 80
    assert (torch, cv2) == ("False", "False")
