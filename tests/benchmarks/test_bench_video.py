"""Video: decoding twelve frames of a minute, and searching many videos' embeddings."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "video"))

from support.fake import FakeClip
from video_clips import film, steady

from clipkit.media.video import read_frames
from clipkit.tasks import retrieve_video as task
from clipkit.video.index import Identity, VideoIndex
from clipkit.video.matrix import frame_matrix
from clipkit.video.pooling import mean_pool, unit


@pytest.fixture(scope="module")
def minute(tmp_path_factory):
    """A noisy 640x360 film of 60 s at 30 frames a second with a keyframe each 250 frames."""
    noise = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)

    def draw(number, width, height):
        return noise[number % 300 : number % 300 + height, number % 600 : number % 600 + width] // 4

    options = {"preset": "veryfast", "x264-params": "log-level=none:keyint=250"}
    return film(
        tmp_path_factory.mktemp("film") / "minute.mp4", steady(1800), size=(640, 360), draw=draw, options=options
    )


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_twelve_frames_of_a_minute(benchmark, minute, decoder):
    """The promise is half a second on two cores."""
    if decoder == "decord":
        pytest.importorskip("decord")
    plan = [5 * k + 2.5 for k in range(12)]
    assert len(benchmark(lambda: list(read_frames(minute, lambda _: plan, decoder=decoder)))) == 12


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Ten thousand videos of twelve 512-d frames."""
    rng = np.random.default_rng(0)
    index = VideoIndex(tmp_path_factory.mktemp("index"))
    space = index.space("m", "w", "s", "meanP")
    for number in range(10_000):
        frames = rng.standard_normal((12, 512), dtype=np.float32)
        identity = Identity(f"/films/{number:05d}.mp4".encode(), 1, 1, b"x")
        index.put(space, identity, duration=12.0, times=np.arange(12.0), frames=frames, vector=mean_pool(frames))
    return index, space, task.Query("q", rng.standard_normal(512).astype(np.float32))


def test_search_ten_thousand_videos(benchmark, many):
    """From the open index to ten answers with their moments, loading included."""
    index, space, query = many
    hits = benchmark(lambda: list(task.run(query, task.RetrieveOptions(), FakeClip(), index, space)))
    assert len(hits) == 10


def test_scan_every_frame(benchmark, many):
    """The product with 120,000 memory-mapped frames."""
    index, space, query = many
    frame_matrix(index, space)
    best = benchmark(lambda: frame_matrix(index, space).best_of_videos(unit(query.embedding)))
    assert len(best) == 10_000
