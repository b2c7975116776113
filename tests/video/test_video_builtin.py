"""With the built-in model, from the command line: a film of a cat is found by words, and no torch is loaded for it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from video_clips import film, steady

ROOT = Path(__file__).parents[2]
CODE = """
import json, sys
sys.argv = ["clipkit", *json.loads(sys.argv[1])]
from clipkit.__main__ import main
try:
    main()
finally:
    print(json.dumps(sorted({"torch", "cv2", "open_clip"} & set(sys.modules))), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A cat photograph zoomed into, a blue gradient, and a film of first one and then the other."""
    folder = tmp_path_factory.mktemp("clips")
    photo = Image.open(ROOT / "docs" / "images" / "cat.jpg").convert("RGB")
    width, height = photo.size
    zoom = [
        np.asarray(photo.resize((192, 128), Image.Resampling.BICUBIC, (k, k, width - k, height - k))) for k in range(30)
    ]
    slope = np.linspace(60, 250, 128)[:, None]
    plain = [
        np.stack(np.broadcast_arrays(40 + k, 0.6 * slope, slope), -1).repeat(192, 1).astype(np.uint8) for k in range(30)
    ]
    for name, shown in (("cat", zoom), ("sky", plain), ("both", plain + zoom)):
        film(folder / f"{name}.mp4", steady(len(shown), 5), draw=lambda n, *_, shown=shown: shown[n])
    return folder


def clipkit(*args):
    """Run the command in a process of its own: records, and which heavy libraries it loaded."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps([str(a) for a in args])], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], json.loads(done.stderr.splitlines()[-1])


def test_a_cat_is_found_and_where_it_is(clips):
    """The film of the cat is rank 1 and the sky last; in the film of both the moment is the cat's half."""
    records, loaded = clipkit("retrieve-video", "a cat", clips)
    assert [Path(r["path"]).name for r in records] == ["cat.mp4", "both.mp4", "sky.mp4"]
    assert records[1]["start"] == pytest.approx(6.0, abs=0.75)
    assert records[1]["end"] == pytest.approx(12.0, abs=0.75)
    assert loaded == []


def test_a_cat_is_named(clips):
    """classify-video says cat for the cat's film, without torch."""
    records, loaded = clipkit("classify-video", clips / "cat.mp4", "--labels", "cat,airplane,sailing boat")
    assert records[0]["predictions"][0]["label"] == "cat"
    assert loaded == []
