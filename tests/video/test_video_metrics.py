"""Retrieval metrics: strict ranks both ways, and the benchmark that reports them."""

import json

import numpy as np
import pytest
from test_video_index import clip, colour_films, coloured  # noqa: F401 (a fixture)

from clipkit.errors import UsageError
from clipkit.results import Failure
from clipkit.tasks.bench_retrieve_video import BenchRetrieveOptions, read_captioned, run
from clipkit.video.metrics import RetrievalMetrics, text_to_video_ranks, video_to_text_ranks


def test_ranks_by_loops():
    """Both directions agree with counting, several captions a video included."""
    rng = np.random.default_rng(0)
    similarity = np.round(rng.standard_normal((30, 9)), 1).astype(np.float32)  # rounding makes ties
    owner = np.concatenate([np.arange(9), rng.integers(0, 9, 21)])
    for t, rank in enumerate(text_to_video_ranks(similarity, owner)):
        others = [v for v in range(9) if v != owner[t]]
        assert rank == 1 + sum(similarity[t, v] >= similarity[t, owner[t]] for v in others)
    for v, rank in enumerate(video_to_text_ranks(similarity, owner)):
        best = max(similarity[t, v] for t in range(30) if owner[t] == v)
        assert rank == 1 + sum(similarity[t, v] >= best for t in range(30) if owner[t] != v)


def test_a_constant_model_gets_no_credit():
    """Where everything scores alike the right answer is last, not first."""
    ranks = text_to_video_ranks(np.ones((7, 7), np.float32), np.arange(7))
    assert ranks.tolist() == [7] * 7
    assert RetrievalMetrics.of(ranks).r5 == 0.0


def test_metrics_of_known_ranks():
    """Shares within 1, 5 and 10, the median and the mean of 1-based ranks."""
    found = RetrievalMetrics.of(np.array([1, 2, 5, 11]))
    assert found == RetrievalMetrics(0.25, 0.75, 0.75, 3.5, 4.75)


def test_the_benchmark_finds_colours(colour_films, tmp_path):  # noqa: F811
    """Perfect captions give R@1 of one in both directions; a broken video is a failure and does not count."""
    rows = [
        ("red.mp4", "red"),
        ("green", "green"),
        ("yellow.mp4", "yellow"),
        ("broken.mp4", "blue"),
        ("red.mp4", "red"),
    ]
    (colour_films / "captions.csv").write_text("video,caption\n" + "\n".join(map(",".join, rows)) + "\n")
    failure, scores = run(read_captioned(colour_films / "captions.csv"), BenchRetrieveOptions(), clip())
    assert isinstance(failure, Failure)
    record = json.loads(json.dumps(scores.record()))
    assert (record["count"], record["captions"]) == (3, 4)
    assert (record["r1"], record["mdr"], record["video_to_text"]["r1"]) == (1.0, 1.0, 1.0)
    assert [row[1] for row in scores.rows()] == ["text to video", "video to text"]
    (colour_films / "captions.csv").unlink()


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "columns"), ("path,label\na,b\n", "columns"), ("video,caption\n", "no lines"), (None, "no such file")],
)
def test_csv_files_that_are_no_use(tmp_path, text, message):
    """Each says what is wrong."""
    if text is not None:
        (tmp_path / "c.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_captioned(tmp_path / "c.csv")
