"""`clipkit classify` as users run it: a subprocess, the built-in model, real files and streams."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hostile import make_hostile_folder
from PIL import Image

ROOT = Path(__file__).parents[2]
CAT = ROOT / "docs" / "images" / "cat.jpg"


def clipkit(*args, cwd=None, **kwargs):
    """Run the command and wait."""
    return subprocess.run(
        [sys.executable, "-m", "clipkit", *map(str, args)], capture_output=True, check=False, cwd=cwd or ROOT, **kwargs
    )


def records(done):
    """The JSON records on stdout."""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_readme_command_answers_cat():
    """The first command of the README is right, and stdout holds records only."""
    done = clipkit("classify", "docs/images/cat.jpg", "--labels", "cat,dog")
    assert done.returncode == 0
    (record,) = records(done)
    assert record["predictions"][0]["label"] == "cat"
    assert record["model"] == "builtin"
    assert done.stderr == b""


def test_no_torch_in_the_process(tmp_path):
    """The built-in model on a CPU answers without torch, open_clip or transformers, without and with the cache."""
    code = (
        "import sys; sys.argv = ['clipkit', 'classify', 'docs/images/cat.jpg', '--labels', 'cat,dog']\n"
        "from clipkit.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "loaded = {'torch', 'open_clip', 'torchvision', 'transformers', 'cv2'} & set(sys.modules)\n"
        "sys.exit(repr(loaded) if loaded else 0)\n"
    )
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            check=False,
            cwd=ROOT,
            env=os.environ | {"CLIPKIT_DEVICE": "cpu"},
        )
        assert done.returncode == 0, done.stderr


def test_hostile_folder_gives_one_outcome_each(tmp_path):
    """200 hostile files: exactly one record each, exit code 3, no traceback, nothing on stderr."""
    cases = make_hostile_folder(tmp_path / "files")
    done = clipkit("classify", tmp_path / "files", "--labels", "cat,dog", timeout=120)
    assert done.returncode == 3
    assert done.stderr == b""
    got = {}
    for record in records(done):
        assert record["path"] not in got
        got[record["path"]] = record.get("error", {}).get("kind", "ok")
    assert len(got) == len(cases) >= 200


def test_eight_orientations_one_answer(tmp_path):
    """The EXIF orientation is honoured: all eight ways to store one picture score alike."""
    photo = Image.open(CAT)
    turns = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    for orientation, turn in turns.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = photo if turn is None else photo.transpose(turn)
        stored.save(tmp_path / f"{orientation}.png", exif=exif)
    answers = [r["predictions"] for r in records(clipkit("classify", tmp_path, "--labels", "cat,dog"))]
    assert len(answers) == 8
    assert all(answer == answers[0] for answer in answers)


def test_input_forms_agree(tmp_path):
    """A path, a folder, a glob, stdin, and a NUL-separated list give the same predictions."""
    shutil.copy(CAT, tmp_path / "a b\nc.jpg")
    plain = records(clipkit("classify", CAT, "-l", "cat,dog"))[0]["predictions"]
    forms = [
        clipkit("classify", tmp_path, "-l", "cat,dog"),
        clipkit("classify", "*.jpg", "-l", "cat,dog", cwd=tmp_path),
        clipkit("classify", "-", "-l", "cat,dog", input=CAT.read_bytes()),
        clipkit("classify", "--files-from", "-", "-0", "-l", "cat,dog", input=bytes(tmp_path / "a b\nc.jpg")),
    ]
    for done in forms:
        assert done.returncode == 0, done.stderr
        assert [r["predictions"] for r in records(done)] == [plain]


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        (["classify", "docs/images/cat.jpg"], 2, "--labels"),
        (["classify", "--labels", "cat,dog"], 2, "no pictures"),
        (["classify", "nowhere.jpg", "-l", "cat,dog"], 1, ""),
        (["classify", "docs/images/cat.jpg", "-l", "a,b", "-m", "ViT-B-32x"], 2, "ViT-B-32"),
        (["classify", "docs/images/cat.jpg", "-l", "a,b", "-m", "ViT-B-32"], 4, "clipkit models pull"),
        (["classify", "docs/images/cat.jpg", "-l", "a,b", "-t", "imagnet"], 2, "imagenet"),
        (["classify", "docs/images/cat.jpg", "-l", "a,b", "-f", "yaml"], 2, "jsonl"),
        (["classify", "docs/images/cat.jpg", "-l", "a,b", "-o", "/dev/null/x.csv"], 1, "/dev/null"),
        (["classify", "docs/images/cat.jpg", "-l", "a,b", "--multi-label", "--score", "softmax"], 2, "--multi-label"),
        (["classify", "docs/images/cat.jpg", "-l", "a,b", "--move"], 2, "--sort-into"),
    ],
)
def test_exit_codes_and_messages(args, code, word):
    """Each way to go wrong has its exit code and one helpful line, never a traceback."""
    done = clipkit(*args)
    assert done.returncode == code
    assert word in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_batch_sizes_agree(tmp_path):
    """Batches of 1 and 64 give the same scores to 1e-5, in input order."""
    photo = Image.open(CAT)
    for i in range(70):
        photo.crop((i, i, 300 + i, 200 + i)).save(tmp_path / f"{i:03}.png")
    one, many = (records(clipkit("classify", tmp_path, "-l", "cat,dog,bird", "--batch-size", n)) for n in (1, 64))
    assert [r["path"] for r in one] == [r["path"] for r in many] == sorted(r["path"] for r in one)
    for a, b in zip(one, many, strict=True):
        scores_a, scores_b = ({p["label"]: p["score"] for p in r["predictions"]} for r in (a, b))
        assert scores_a == pytest.approx(scores_b, abs=1e-5)


def endless(*args):
    """The command over a list of files that never ends: its stdin stays open."""
    return subprocess.Popen(
        [sys.executable, "-m", "clipkit", "classify", "--files-from", "-", "-l", "cat,dog", "--batch-size", "1", *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_interrupt_gives_130_and_whole_records():
    """Ctrl-C in the middle: exit 130, every line on stdout is a whole record, one word on stderr."""
    process = endless()
    process.stdin.write(f"{CAT}\n".encode() * 300)
    process.stdin.flush()
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    lines = (first + rest).splitlines(keepends=True)
    assert all(line.endswith(b"\n") and json.loads(line)["predictions"] for line in lines)
    assert errors.decode().strip() == "clipkit: interrupted"


@pytest.mark.skipif(sys.platform == "win32", reason="pipes")
def test_closed_pipe_is_quiet():
    """`| head -1`: the reader leaves, the command ends with 0 and says nothing."""
    process = endless()
    process.stdin.write(f"{CAT}\n".encode() * 400)
    process.stdin.close()
    assert json.loads(process.stdout.readline())
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=60) == 0
    assert errors == b""


def test_interrupted_file_output_leaves_the_old_file(tmp_path):
    """`-o FILE` is whole or not at all."""
    target = tmp_path / "answers.jsonl"
    target.write_text("old")
    process = endless("-o", str(target))
    process.stdin.write(f"{CAT}\n".encode() * 5)
    process.stdin.flush()
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["answers.jsonl"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the kernel's own count of the peak")
def test_memory_is_flat(tmp_path):
    """Ten times the pictures take no more than a tenth more memory."""
    names = tmp_path / "names"
    peaks = []
    code = (
        "import re, sys\n"
        "sys.argv = ['clipkit', 'classify', '--files-from', sys.argv[1], '-l', 'cat,dog', '-o', sys.argv[2]]\n"
        "from clipkit.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as e: assert not e.code\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
    )
    photo = tmp_path / "small.jpg"
    Image.open(CAT).resize((96, 64)).save(photo)
    for count in (500, 5000):
        names.write_text(f"{photo}\n" * count)
        done = subprocess.run(
            [sys.executable, "-c", code, str(names), str(tmp_path / "out.jsonl")],
            capture_output=True,
            check=True,
            cwd=ROOT,
        )
        peaks.append(int(done.stdout.split()[-1]))
        assert (tmp_path / "out.jsonl").read_bytes().count(b"\n") == count
    assert peaks[1] <= 1.1 * peaks[0]


def test_sort_into_copies_and_never_overwrites(tmp_path):
    """Files land in their label's folder; a second, different file of that name gets another; originals stay."""
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
    shutil.copy(CAT, tmp_path / "x" / "cat.jpg")
    Image.open(CAT).crop((0, 0, 400, 300)).save(tmp_path / "y" / "cat.jpg")
    out = tmp_path / "sorted"
    for _ in range(2):
        done = clipkit("classify", tmp_path / "x", tmp_path / "y", "-l", "cat,dog", "--sort-into", out)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "x" / "cat.jpg").exists()
    assert len(list(out.rglob("*.jpg"))) == 2
    assert (out / "cat" / "cat.jpg").exists()
