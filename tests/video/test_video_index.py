"""The index keeps what was embedded, survives anything, and forgets what is gone."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support.fake import FakeClip
from video_clips import film, steady

from clipkit.errors import OutputError, UsageError
from clipkit.media.paths import Source, expand
from clipkit.results import Failure
from clipkit.tasks.index_stats import run_stats
from clipkit.tasks.index_videos import IndexOptions, prune, run
from clipkit.video.frames import VideoOptions
from clipkit.video.index import FILE, Identity, VideoIndex
from clipkit.video.matrix import MOST_PARTS, frame_matrix
from clipkit.video.pooling import mean_pool, unit
from clipkit.video.sampling import Sampling

COLOURS = {(220, 30, 30): "red", (30, 200, 30): "green", (30, 30, 220): "blue", (230, 230, 40): "yellow"}
OPTIONS = IndexOptions(VideoOptions(Sampling(fps=4.0), workers=0))


def clip():
    """A model that knows four colours."""
    fake = FakeClip()
    fake.colours = dict(COLOURS)
    return fake


def plain(*names):
    """A drawing function: the film shows one colour after the other, ten frames each."""
    wanted = [next(rgb for rgb, word in COLOURS.items() if word == name) for name in names]

    def draw(number, width, height):
        return np.full((height, width, 3), wanted[min(number // 10, len(wanted) - 1)], np.uint8)

    return draw


def coloured(path, *names):
    """A film of half a second of each colour."""
    return film(path, steady(10 * len(names), 20), size=(64, 48), draw=plain(*names))


@pytest.fixture(scope="session")
def colour_films(tmp_path_factory):
    """Six films and one file that is none."""
    folder = tmp_path_factory.mktemp("colours")
    for names in (["red"], ["green"], ["blue"], ["red", "green"], ["blue", "yellow", "blue"], ["yellow"]):
        coloured(folder / f"{'-'.join(names)}.mp4", *names)
    (folder / "broken.mp4").write_bytes(b"no film" * 100)
    return folder


@pytest.fixture
def folder(colour_films, tmp_path):
    """A private copy of the films, their times kept."""
    return Path(shutil.copytree(colour_films, tmp_path / "films"))


def indexed(folder, place, model=None, options=OPTIONS):
    """Index a folder; status or failure kind by file name."""
    with VideoIndex(place) as index:
        outcomes = list(run(expand([str(folder)], extensions=frozenset({".mp4"})), options, model or clip(), index))
        prune(index, [str(folder)])
    return {Path(o.path).name: o.kind if isinstance(o, Failure) else o.status for o in outcomes}


def contents(place):
    """Everything an index holds, by file name, free of row ids."""
    with sqlite3.connect(place / FILE) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = db.execute(
            "SELECT s.key, v.path, v.size, v.sample, v.kind, v.duration, v.times, v.frames, v.vector "
            "FROM video v JOIN space s ON s.id = v.space"
        ).fetchall()
    return {(row[0], Path(os.fsdecode(row[1])).name): row[2:] for row in rows}


def test_only_what_is_new_is_embedded(folder, tmp_path):
    """A second run embeds nothing, changed and new files are embedded, a broken file is remembered."""
    first = indexed(folder, tmp_path / "i")
    assert set(first.values()) == {"new", "not_a_video"}
    again = clip()
    assert set(indexed(folder, tmp_path / "i", again).values()) == {"known", "not_a_video"}
    assert again.images_encoded == 0
    coloured(folder / "red.mp4", "blue", "red")
    coloured(folder / "extra.mp4", "green", "yellow")
    third = indexed(folder, tmp_path / "i")
    assert [name for name, status in third.items() if status == "new"] == ["extra.mp4", "red.mp4"]


def test_a_broken_file_is_not_decoded_again_until_it_changes(folder, tmp_path, monkeypatch):
    """Its failure comes from the index; the file's repair makes it new."""
    indexed(folder, tmp_path / "i")
    monkeypatch.setattr("clipkit.video.frames.read_frames", lambda *_, **__: pytest.fail("decoded again"))
    assert indexed(folder, tmp_path / "i")["broken.mp4"] == "not_a_video"
    monkeypatch.undo()
    coloured(folder / "broken.mp4", "red", "blue", "green")
    assert indexed(folder, tmp_path / "i")["broken.mp4"] == "new"


def test_renamed_files_keep_their_work_and_removed_ones_are_dropped(folder, tmp_path):
    """A rename (even of a folder) embeds nothing; a deleted file leaves the index."""
    indexed(folder, tmp_path / "i")
    (folder / "sub").mkdir()
    (folder / "red.mp4").rename(folder / "sub" / "scarlet.mp4")
    (folder / "green.mp4").unlink()
    model = clip()
    found = indexed(folder, tmp_path / "i", model)
    assert found["scarlet.mp4"] == "renamed"
    assert model.images_encoded == 0
    names = {name for _, name in contents(tmp_path / "i")}
    assert "scarlet.mp4" in names
    assert not names & {"red.mp4", "green.mp4"}


def test_an_unplugged_folder_is_not_forgotten(folder, tmp_path):
    """Where the named folder itself is gone nothing is dropped: a disk that is not mounted loses no work."""
    indexed(folder, tmp_path / "i")
    folder.rename(tmp_path / "away")
    with VideoIndex(tmp_path / "i") as index:
        assert prune(index, [str(folder)]) == 0
    (tmp_path / "away").rename(folder)
    assert set(indexed(folder, tmp_path / "i").values()) == {"known", "not_a_video"}


def test_models_samplings_and_heads_never_mix(folder, tmp_path):
    """Other weights or other sampling embed anew, beside what is there."""
    indexed(folder, tmp_path / "i")
    other = clip()
    other.weights_hash = "f" * 12
    assert indexed(folder, tmp_path / "i", other)["red.mp4"] == "new"
    denser = IndexOptions(VideoOptions(Sampling(fps=8.0), workers=0))
    assert indexed(folder, tmp_path / "i", options=denser)["red.mp4"] == "new"
    with VideoIndex(tmp_path / "i") as index:
        stats = list(run_stats(index))
    assert [s.space.videos for s in stats] == [6, 6, 6]
    assert [s.space.failures for s in stats] == [1, 1, 1]
    assert stats[0].record()["bytes"] > 0


def test_what_is_kept_is_what_the_model_said(folder, tmp_path):
    """Frames come back as float16 of the embeddings, the vector as their meanP, the times as decoded."""
    indexed(folder, tmp_path / "i")
    model = clip()
    with VideoIndex(tmp_path / "i") as index:
        space = index.space(model.id, model.weights_hash, OPTIONS.video.sampling.key, "meanP")
        ids, paths, vectors = index.vectors(space)
        row = [Path(os.fsdecode(p)).name for p in paths].index("blue-yellow-blue.mp4")
        duration, times, frames = index.frames(ids[row])
    expected = np.stack([model.vector(word) for word in ["blue", "blue", "yellow", "yellow", "blue", "blue"]])
    np.testing.assert_allclose(frames, expected, atol=2e-3)
    np.testing.assert_allclose(vectors[row], mean_pool(expected), atol=1e-6)
    np.testing.assert_allclose(times, [0, 0.25, 0.5, 0.75, 1.0, 1.25], atol=1e-3)
    assert duration == pytest.approx(1.5, abs=0.06)


def test_threads_change_nothing(folder, tmp_path):
    """Decoding ahead in threads fills the same index as decoding in the calling thread."""
    indexed(folder, tmp_path / "one")
    indexed(folder, tmp_path / "two", options=IndexOptions(VideoOptions(Sampling(fps=4.0), workers=3)))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


WORKER = """
import sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}, {here!r}]
from test_video_index import OPTIONS, clip
from clipkit.media.paths import expand
from clipkit.tasks.index_videos import prune, run
from clipkit.video.index import VideoIndex
from clipkit.video.matrix import frame_matrix
folder, place = sys.argv[1:]
model = clip()
with VideoIndex(Path(place)) as index:
    for outcome in run(expand([folder], extensions=frozenset([".mp4"])), OPTIONS, model, index):
        print(outcome.path, flush=True)
    prune(index, [folder])
    frame_matrix(index, index.space(model.id, model.weights_hash, OPTIONS.video.sampling.key, "meanP"))
print("done", flush=True)
"""


def worker(folder, place):
    """A process of its own that indexes a folder and says what it has done, line by line."""
    here = Path(__file__).parent
    code = WORKER.format(tests=str(here.parent), here=str(here))
    return subprocess.Popen([sys.executable, "-c", code, str(folder), str(place)], stdout=subprocess.PIPE, text=True)


def test_kill_nine_at_any_point_costs_nothing_but_the_file_at_hand(folder, tmp_path):
    """Killed again and again, then run to its end, the index is that of an uninterrupted run."""
    for number in range(8):
        shutil.copy(folder / "red-green.mp4", folder / f"copy{number}.mp4")
    indexed(folder, tmp_path / "whole")
    rng = np.random.default_rng(5)
    cut_short = 0
    for after in (1, 2, 4, 6, 9):
        process = worker(folder, tmp_path / "killed")
        for _ in range(after):
            process.stdout.readline()
        time.sleep(float(rng.uniform(0, 0.01)))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        held = len(contents(tmp_path / "killed"))
        assert held >= 1
        cut_short += held < 15
    assert cut_short
    process = worker(folder, tmp_path / "killed")
    assert process.communicate()[0].splitlines()[-1] == "done"
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


WRITER = """
import sys
sys.path[:0] = [{tests!r}, {here!r}]
from pathlib import Path
from test_video_index import synthetic
print("go", flush=True)
synthetic(Path(sys.argv[1]), 20000, frames=12, dim=64)
"""


def test_kill_nine_in_the_middle_of_writing(tmp_path):
    """A writer that does nothing but write is killed: what is there is sound, whole, and in order."""
    here = Path(__file__).parent
    code = WRITER.format(tests=str(here.parent), here=str(here))
    held = []
    for number in range(3):
        place = tmp_path / str(number)
        process = subprocess.Popen([sys.executable, "-c", code, str(place)], stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        while not (place / f"{FILE}-wal").exists() or (place / f"{FILE}-wal").stat().st_size < 200_000 * (number + 1):
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        rows = contents(place)
        assert sorted(name for _, name in rows) == [f"{i:05d}.mp4" for i in range(len(rows))]
        assert all(len(row[5]) == 12 * 64 * 2 and len(row[6]) == 64 * 4 for row in rows.values())
        held.append(len(rows))
    assert min(held) > 10


def test_two_processes_on_one_index_agree(folder, tmp_path):
    """Two indexers at once leave a sound index with every file in it once."""
    processes = [worker(folder, tmp_path / "shared") for _ in range(2)]
    assert [p.communicate()[0].splitlines()[-1] for p in processes] == ["done", "done"]
    indexed(folder, tmp_path / "alone")
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")


def synthetic(place, videos, frames=3, dim=16, seed=0):
    """An index of random embeddings, without any film."""
    rng = np.random.default_rng(seed)
    data = rng.standard_normal((videos, frames, dim)).astype(np.float32)
    index = VideoIndex(place)
    space = index.space("fake", "0" * 12, "s", "meanP")
    for number, embeddings in enumerate(data):
        identity = Identity(f"/films/{number:05d}.mp4".encode(), 1, 1, b"x")
        times = np.arange(frames, dtype=np.float64)
        index.put(space, identity, duration=frames, times=times, frames=embeddings, vector=mean_pool(embeddings))
    return index, space, data


def added(index, space, data, first):
    """Put further random videos into a synthetic index."""
    for number, embeddings in enumerate(data, first):
        identity = Identity(f"/films/{number:05d}.mp4".encode(), 1, 1, b"x")
        times = np.arange(len(embeddings), dtype=np.float64)
        vector = mean_pool(embeddings)
        index.put(space, identity, duration=3.0, times=times, frames=embeddings, vector=vector)


def best_by_loop(index, space, query):
    """The best frame of each video of an index by going through its rows."""
    return {i: float((unit(index.frames(i)[2]) @ query).max()) for i in index.vectors(space)[0]}


def test_the_matrix_follows_the_index(tmp_path):
    """All frames are held; new videos are appended, dropped ones passed over, and many parts become one again."""
    index, space, data = synthetic(tmp_path, 40)
    query = unit(np.ones(16, np.float32))
    rng = np.random.default_rng(1)
    with index:
        first = frame_matrix(index, space)
        np.testing.assert_allclose(first.parts[0].frames, unit(data.reshape(-1, 16)), atol=1e-3)
        names = sorted(p.name for p in tmp_path.glob("frames-*"))
        for step in range(12):
            matrix = frame_matrix(index, space)
            found, expected = matrix.best_of_videos(query), best_by_loop(index, space, query)
            assert found.keys() == expected.keys()
            np.testing.assert_allclose([found[i] for i in expected], list(expected.values()), atol=1e-5)
            if step == 0:
                assert sorted(p.name for p in tmp_path.glob("frames-*")) == names
            if step == 1:
                assert names[0] in {p.name for p in tmp_path.glob("frames-*")}  # the large part is not rewritten
            assert len(list(tmp_path.glob("frames-*"))) <= MOST_PARTS
            added(index, space, rng.standard_normal((2, 3, 16)).astype(np.float32), 100 * step + 100)
            index.drop([f"/films/{step:05d}.mp4".encode()])
        np.testing.assert_allclose(first.parts[0].frames[21], unit(data[7, 0]), atol=1e-3)  # an open one stays readable


def test_a_matrix_of_forgotten_videos_is_rewritten(tmp_path):
    """Where most of a matrix is of videos that are gone, it gives their space back."""
    index, space, _ = synthetic(tmp_path, 40)
    with index:
        frame_matrix(index, space)
        index.drop([f"/films/{i:05d}.mp4".encode() for i in range(30)])
        matrix = frame_matrix(index, space)
        assert [len(part.ids) for part in matrix.parts] == [10]
        index.drop(index.paths())
        assert frame_matrix(index, space).best_of_videos(unit(np.ones(16, np.float32))) == {}
        assert not list(tmp_path.glob("frames-*"))


def test_a_row_id_is_never_used_again(tmp_path):
    """Dropping the newest video and adding another gives another id: a matrix never takes one for the other."""
    index, space, data = synthetic(tmp_path, 3)
    with index:
        before = index.vectors(space)[0]
        index.drop([b"/films/00002.mp4"])
        added(index, space, data[:1], 9)
        assert max(index.vectors(space)[0]) > max(before)


def test_what_a_killed_writer_left_is_swept(tmp_path):
    """A half-written matrix an hour old is removed; a fresh one, perhaps being written, stays."""
    index, space, _ = synthetic(tmp_path, 2)
    for name, age in (("old", 4000), ("new", 10)):
        (tmp_path / f".frames-{name}").mkdir()
        os.utime(tmp_path / f".frames-{name}", (time.time() - age,) * 2)
    with index:
        frame_matrix(index, space)
    assert [p.name for p in tmp_path.glob(".frames-*")] == [".frames-new"]


def test_an_empty_index_searches_to_nothing(tmp_path):
    """No videos: no vectors, an empty matrix, no error."""
    with VideoIndex(tmp_path) as index:
        space = index.space("fake", "0" * 12, "s", "meanP")
        assert index.vectors(space)[0] == []
        assert frame_matrix(index, space).best_of_videos(np.ones(4, np.float32)) == {}


def test_names_that_are_no_text_are_kept(tmp_path):
    """A file name of any bytes goes in and comes out."""
    name = tmp_path / os.fsdecode(b"caf\xe9 \xff.mp4")
    coloured(tmp_path / "a.mp4", "red").rename(name)
    with VideoIndex(tmp_path / "i") as index:
        (outcome,) = run([Source(str(name), name)], OPTIONS, clip(), index)
        assert outcome.status == "new"
        assert index.paths() == [os.fsencode(name)]


def test_unusable_index_folders_are_named(tmp_path):
    """A file in the folder's place, a damaged database and a newer one each say what to do."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot use the index folder"):
        VideoIndex(tmp_path / "file")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / FILE).write_bytes(b"this is no database at all" * 100)
    with pytest.raises(OutputError, match="damaged"):
        VideoIndex(tmp_path / "bad")
    VideoIndex(tmp_path / "new").__exit__()
    with sqlite3.connect(tmp_path / "new" / FILE) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(OutputError, match="version 99"):
        VideoIndex(tmp_path / "new")


def test_stdin_is_not_indexed_and_missing_files_are_told(tmp_path):
    """What has no place on disk cannot be kept; a missing file is a failure that is not remembered."""
    with VideoIndex(tmp_path / "i") as index:
        sources = [Source("-", None, b"abc"), Source("gone.mp4", tmp_path / "gone.mp4")]
        assert [o.kind for o in run(sources, OPTIONS, clip(), index)] == ["not_a_file", "not_found"]
        assert index.paths() == []


def test_more_frames_than_positions_is_a_usage_error(tmp_path):
    """A head with 12 positions refuses an index of 64 frames before anything is decoded."""

    class Short:
        name, max_frames = "seqTransf", 12

    with VideoIndex(tmp_path / "i") as index, pytest.raises(UsageError, match="at most so many"):
        list(run([], IndexOptions(head=Short()), clip(), index))
