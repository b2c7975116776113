"""The video commands from the command line: what they print, write, remember and how they exit."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from test_video_index import clip, colour_films, coloured  # noqa: F401 (a fixture)
from typer.testing import CliRunner

from clipkit.cli.app import app
from clipkit.models import loader


@pytest.fixture
def model(monkeypatch):
    """The fake model in the place of any other."""
    fake = clip()
    monkeypatch.setattr(loader, "load_clip", lambda *_, **__: fake)
    return fake


def command(*args):
    """Run clipkit in this process: exit code, records on stdout, everything on stderr."""
    done = CliRunner().invoke(app, [str(a) for a in args])
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return done.exit_code, [json.loads(line) for line in lines], done.output


def test_retrieve_ranks_and_a_second_search_encodes_no_frame(colour_films, model):  # noqa: F811
    """Records come best first; the broken file is told and makes exit code 3; the index is used again."""
    code, records, _ = command("retrieve-video", "red", colour_films, "-k", 2)
    assert code == 3
    assert records[0]["error"]["kind"] == "not_a_video"
    assert [r["rank"] for r in records[1:]] == [1, 2]
    assert records[1]["path"].endswith("red.mp4")
    assert records[1]["query"] == "red"
    seen = model.images_encoded
    assert seen
    assert command("retrieve-video", "green", colour_films)[1][1]["path"].endswith("green.mp4")
    assert model.images_encoded == seen


def test_the_whole_index_answers_without_paths(colour_films, model, tmp_path):  # noqa: F811
    """After `index`, a search needs no path; the index can be put anywhere."""
    place = tmp_path / "index"
    code, records, _ = command("index", colour_films, "--index", place)
    assert code == 3
    assert sum(r.get("status") == "new" for r in records) == 6
    code, records, _ = command("retrieve-video", "blue", "--index", place, "-k", 1)
    assert code == 0
    assert records[0]["path"] == str(colour_films / "blue.mp4")
    code, records, _ = command("index", "stats", "--index", place)
    assert code == 0
    assert (records[0]["videos"], records[0]["failures"], records[0]["model"]) == (6, 1, "fake")


def test_a_picture_moments_and_a_sheet(colour_films, model, tmp_path):  # noqa: F811
    """--by-image, --moments and --thumbnails go together."""
    Image.new("RGB", (40, 30), (230, 230, 40)).save(tmp_path / "sun.png")
    sheet = tmp_path / "sheet.png"
    args = ["--by-image", tmp_path / "sun.png", colour_films / "blue-yellow-blue.mp4", "--moments", "--fps", 4]
    code, records, _ = command("retrieve-video", *args, "--thumbnails", sheet, "-k", 1)
    assert code == 0
    assert records[0]["query"] == str(tmp_path / "sun.png")
    assert 0.3 < records[0]["start"] < records[0]["end"] < 1.2
    assert np.asarray(Image.open(sheet)).shape[2] == 3


def test_a_table_has_a_line_an_answer(colour_films, model):  # noqa: F811
    """For people: one header, then the answers, best first."""
    _, _, text = command("retrieve-video", "red", colour_films / "red.mp4", colour_films / "blue.mp4", "-f", "table")
    lines = text.splitlines()
    assert lines[0].split() == ["path", "rank", "score", "start", "end"]
    assert len(lines) == 3
    assert "red.mp4" in lines[1]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["retrieve-video"], "say it in words"),
        (["retrieve-video", "a cat"], "holds no videos for fake"),
        (["retrieve-video", "."], "say what to look for first"),
        (["retrieve-video", "x", ".", "--frames", "5", "--fps", "0"], "more than 0 a second"),
        (["retrieve-video", "x", ".", "--checkpoint", "none.bin"], "no such checkpoint"),
        (["retrieve-video", "x", ".", "--checkpoint", "none.bin", "-m", "ViT-B-32"], "brings its own model"),
        (["retrieve-video", "x", ".", "--thumbnails", "sheet.gif"], "PNG or JPEG"),
        (["classify-video", "--labels", "a,b"], "no videos given"),
        (["classify-video", "x.mp4"], "no labels"),
        (["classify-video", "x.mp4", "-l", "a,b", "--hop", "1"], "--hop needs --window"),
        (["classify-video", "x.mp4", "-l", "a,b", "--srt", "x.srt"], "--srt needs --window"),
        (["classify-video", "x.mp4", "-l", "a,b", "--window", "1", "--hop", "2"], "longer than --window"),
        (["index"], "no videos given"),
        (["index", "stats", "--index", "nowhere"], "no index in nowhere"),
        (["bench", "retrieve-video", "none.csv"], "no such file"),
    ],
)
def test_usage_errors_say_what_to_do(args, message, model, tmp_path, monkeypatch):
    """Each mistake is exit code 2 and one line with the remedy."""
    monkeypatch.chdir(tmp_path)
    code, _, text = command(*args)
    assert code == 2
    assert message in " ".join(text.split())


def test_classify_windows_as_records_and_subtitles(model, tmp_path):
    """A timeline in one record, and the same as an .srt file."""
    path = coloured(tmp_path / "a.mp4", "red", "red", "blue", "blue")
    args = ["-l", "red,green,blue", "--templates", "{}", "--window", 0.5, "--srt", tmp_path / "a.srt"]
    code, records, _ = command("classify-video", path, *args)
    assert code == 0
    assert [w["predictions"][0]["label"] for w in records[0]["windows"]] == ["red", "red", "blue", "blue"]
    assert [s["label"] for s in records[0]["segments"]] == ["red", "blue"]
    text = (tmp_path / "a.srt").read_text()
    assert text.startswith("1\n00:00:00,000 --> 00:00:01,000\nred\n\n2\n00:00:01,000 --> ")


def test_bench_prints_both_directions(colour_films, model, tmp_path):  # noqa: F811
    """The benchmark's record has text to video at the top and video to text beside it."""
    lines = [f"{colour_films / name}.mp4,{name}" for name in ("red", "green", "blue")]
    (tmp_path / "c.csv").write_text("video,caption\n" + "\n".join(lines) + "\n")
    code, records, _ = command("bench", "retrieve-video", tmp_path / "c.csv")
    assert code == 0
    assert records[0]["r1"] == records[0]["video_to_text"]["r1"] == 1.0


def test_a_folder_without_videos_is_not_success(model, tmp_path):
    """Nothing found is exit code 1."""
    assert command("retrieve-video", "red", tmp_path)[0] == 1


def test_embedding_tasks_need_no_torch():
    """Frames, pooling, index, search and classification import neither torch nor OpenCV."""
    code = (
        "import sys, clipkit.tasks.retrieve_video, clipkit.tasks.index_videos, clipkit.tasks.classify_video\n"
        "import clipkit.tasks.bench_retrieve_video, clipkit.media.video_pyav, clipkit.video.sheet, clipkit.video.legacy\n"
        "print(sorted({'torch', 'cv2', 'open_clip', 'decord', 'torchvision'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
