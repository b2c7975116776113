"""`clipkit audio-classify` from the command line, with the built-in tower, offline and without torch."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from sound_files import tone
from typer.testing import CliRunner

from clipkit.cli.app import app


def clipkit(*args, stdin=None):
    return CliRunner().invoke(app, ["audio-classify", *map(str, args)], input=stdin)


def noise(seconds, rate=16_000):
    return 0.1 * np.random.default_rng(0).standard_normal(round(seconds * rate))


def test_records_of_good_and_bad_files(write, tmp_path):
    """JSONL in a pipe: one record a file in order, failures in their place, exit code 3; all failing is 1, none 0."""
    good, bad = write("a.wav", noise(2)), tmp_path / "b.wav"
    bad.write_text("no")
    result = clipkit(good, bad, "--labels", "dog,rain")
    assert result.exit_code == 3
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert first["task"] == second["task"] == "audio-classify"
    assert first["model"] == "builtin"
    assert {p["label"] for p in first["predictions"]} == {"dog", "rain"}
    assert second["error"]["kind"] == "not_audio"
    assert clipkit(bad, "--labels", "dog,rain").exit_code == 1
    assert clipkit(good, "--labels", "dog,rain").exit_code == 0


def test_formats_answer_alike(write):
    """WAV, FLAC, OGG and M4A of the same sound: the same best label, FLAC's scores equal but for rounding, lossy ones near.

    White noise is the worst a lossy codec can be given; probabilities move by up to a tenth.
    """
    sound = np.concatenate([noise(1.5, 44_100), tone(1.5, 44_100, hertz=700)])
    paths = [write(name, sound, 44_100) for name in ("a.wav", "a.flac", "a.ogg", "a.m4a")]
    result = clipkit(*paths, "--labels", "esc50", "--top-k", "0")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    scores = [{p["label"]: p["score"] for p in record["predictions"]} for record in records]
    assert len({max(s, key=s.get) for s in scores}) == 1
    assert all(len(s) == 50 for s in scores)
    assert all(abs(scores[1][label] - scores[0][label]) < 1e-3 for label in scores[0])
    assert all(abs(s[label] - scores[0][label]) < 0.2 for s in scores for label in s)


def test_windows_as_csv(write):
    """One row a window with its times; --hop and --srt ask for windows too."""
    path = write("a.wav", noise(6))
    result = clipkit(path, "--labels", "dog,rain", "--window", "2", "--top-k", "1", "--format", "csv")
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert [(float(r["start"]), float(r["end"])) for r in rows] == [(0, 2), (2, 4), (4, 6)]
    assert all(r["rank"] == "1" and r["label"] in {"dog", "rain"} for r in rows)


def test_subtitles_are_written(write, tmp_path):
    """--srt writes the file besides the records."""
    srt = tmp_path / "out.srt"
    result = clipkit(write("a.wav", noise(6)), "--labels", "dog,rain", "--srt", srt)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["segments"]
    assert srt.read_text().startswith("1\n00:00:00,000 --> ")


def test_table_and_stdin(write):
    """A table names file and label; `-` reads a file's bytes."""
    path = write("a.wav", noise(1))
    result = clipkit(path, "--labels", "dog,rain", "--format", "table")
    assert "rain" in result.stdout
    result = clipkit("-", "--labels", "dog,rain", stdin=path.read_bytes())
    assert json.loads(result.stdout)["path"] == "-"


def test_pictures_are_ranked(write, tmp_path):
    """--images puts pictures in the labels' place, with the built-in image tower."""
    from PIL import Image

    for name in ("red", "blue"):
        Image.new("RGB", (96, 96), name).save(tmp_path / f"{name}.png")
    result = clipkit(write("a.wav", noise(1)), "--images", tmp_path / "red.png", "--images", tmp_path / "blue.png")
    labels = [p["label"] for p in json.loads(result.stdout)["predictions"]]
    assert sorted(labels) == [str(tmp_path / "blue.png"), str(tmp_path / "red.png")]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ((), 2, "no recordings given"),
        (("a.wav",), 2, "no labels given"),
        (("a.wav", "--labels", "x", "--images", "y"), 2, "--images takes the labels' place"),
        (("a.wav", "--labels", "x", "--weights", "w"), 2, "--weights goes with"),
        (("a.wav", "--labels", "x", "--method", "audioclip"), 4, "AudioCLIP-Full-Training.pt"),
        (("a.wav", "--labels", "x", "--method", "clap", "--weights", "no/such"), 4, "hf download no/such"),
    ],
)
def test_usage_errors_say_what_to_do(args, code, words):
    """Each wrong call ends with its exit code and one line."""
    result = clipkit(*args)
    assert result.exit_code == code
    assert words in result.stderr
    assert result.stdout == ""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_no_torch_and_little_memory(write, tmp_path):
    """The offline path imports neither torch nor torchaudio nor transformers, and an hour stays under 500 MB."""
    import soundfile

    path = tmp_path / "hour.flac"
    block = (3000 * np.random.default_rng(0).standard_normal(8_000 * 60)).astype(np.int16)
    with soundfile.SoundFile(path, "w", 8_000, 1) as file:
        for _ in range(60):
            file.write(block)
    code = (
        "import re, sys\n"
        "from clipkit.cli.app import app\n"
        f"try: app(['audio-classify', {str(path)!r}, '--labels', 'dog,rain', '--window', '10'], standalone_mode=False)\n"
        "except BaseException as e: assert getattr(e, 'exit_code', 0) == 0, e\n"
        "heavy = {'torch', 'torchaudio', 'transformers', 'open_clip'} & set(sys.modules)\n"
        "peak = int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "print(sorted(heavy), peak // 1024, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(json.loads(done.stdout)["windows"]) == 360
    heavy, megabytes = done.stderr.split()[-2:]
    assert heavy == "[]"
    assert int(megabytes) < 500
