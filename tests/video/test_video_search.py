"""Words and pictures find the right video and the right moment in it."""

import json
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from support.fake import FakeClip
from test_video_index import OPTIONS, clip, colour_films, synthetic  # noqa: F401 (a fixture)

from clipkit.errors import InputError
from clipkit.media.paths import expand
from clipkit.tasks import retrieve_video as task
from clipkit.tasks.index_videos import open_space, run
from clipkit.video.index import VideoIndex
from clipkit.video.moments import all_moments, best_moment, maximal_runs, scan, stands_out
from clipkit.video.pooling import unit
from clipkit.video.sheet import contact_sheet


@pytest.fixture
def searched(colour_films, tmp_path):  # noqa: F811
    """A function: query, options -> hits over the six films."""
    model = clip()
    index = VideoIndex(tmp_path / "i")
    list(run(expand([str(colour_films)], extensions=frozenset({".mp4"})), OPTIONS, model, index))
    space = open_space(index, OPTIONS, model)

    def search(text, names=None, **options):
        query = task.text_query(text, model) if isinstance(text, str) else task.image_query(text, model)
        return list(task.run(query, task.RetrieveOptions(**options), model, index, space, names=names))

    yield search
    index.__exit__()


def test_the_named_colour_is_found_first(searched):
    """Each film of one colour is rank 1 for that colour, with a cosine of one."""
    for word in ("red", "green", "yellow"):
        best = searched(word)[0]
        assert best.path.endswith(f"/{word}.mp4")
        assert best.rank == 1
        assert best.score == pytest.approx(1.0, abs=1e-4)


def test_scores_fall_and_top_k_holds(searched):
    """Ranks count from 1, scores fall, and no more than top_k answers come."""
    hits = searched("blue", top_k=4)
    assert [h.rank for h in hits] == [1, 2, 3, 4]
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    assert len(searched("blue", top_k=50)) == 6


def test_the_moment_is_where_the_colour_is(searched):
    """Yellow between blue: the best moment is the yellow half second, to half the sampling step."""
    hit = next(h for h in searched("yellow") if h.path.endswith("blue-yellow-blue.mp4"))
    assert hit.start == pytest.approx(0.5, abs=0.126)
    assert hit.end == pytest.approx(1.0, abs=0.126)


def test_moments_rank_stretches_of_any_video(searched):
    """Asked for moments, every blue stretch is listed by itself, two of them in one film."""
    hits = searched("blue", moments=True, top_k=3)
    assert sorted(h.path.rsplit("/", 1)[1] for h in hits) == ["blue-yellow-blue.mp4"] * 2 + ["blue.mp4"]
    assert all(h.score == pytest.approx(1.0, abs=1e-3) for h in hits)


@pytest.mark.parametrize("word", ["blue", "red", "yellow"])
def test_fewer_moments_are_the_first_of_all(searched, word):
    """Looking no further than the answers need changes none of them."""
    every = searched(word, moments=True, top_k=100)
    assert len(every) >= 6
    for k in range(1, len(every)):
        assert searched(word, moments=True, top_k=k) == every[:k]


def test_only_the_named_videos_answer(searched, colour_films):  # noqa: F811
    """Names narrow the search and are what records call the files."""
    names = {str(colour_films / "red.mp4").encode(): "my red", str(colour_films / "blue.mp4").encode(): "my blue"}
    assert [h.path for h in searched("blue", names=names)] == ["my blue", "my red"]
    assert [h.path for h in searched("blue", names=names, moments=True)] == ["my blue", "my red"]


def test_a_picture_finds_its_video(searched, tmp_path):
    """A green picture finds the green film; a broken picture says which it is."""
    Image.new("RGB", (40, 30), (30, 200, 30)).save(tmp_path / "lawn.png")
    assert searched(tmp_path / "lawn.png")[0].path.endswith("/green.mp4")
    (tmp_path / "bad.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"bad\.png"):
        searched(tmp_path / "bad.png")


def test_records_and_rows_say_the_same(searched):
    """A hit's JSON has the common header, the query, rank, score and times; its row the same numbers."""
    (hit,) = searched("red", top_k=1)
    record = json.loads(json.dumps(hit.record()))
    assert list(record) == ["schema", "task", "path", "model", "weights", "query", "rank", "score", "start", "end"]
    assert next(hit.rows()) == (record["path"], 1, record["score"], record["start"], record["end"])


def test_the_search_is_the_brute_force_answer(tmp_path):
    """Two thousand random videos: ranks and scores are those of a loop over all of them."""
    index, space, data = synthetic(tmp_path, 2000, dim=16, seed=3)
    query = task.Query("q", np.random.default_rng(9).standard_normal(16).astype(np.float32))
    with index:
        hits = list(task.run(query, task.RetrieveOptions(top_k=20), FakeClip(), index, space))
    means = np.stack([unit(video).mean(axis=0) for video in data])
    scores = [float(m @ query.embedding / np.linalg.norm(m) / np.linalg.norm(query.embedding)) for m in means]
    order = sorted(range(2000), key=lambda i: -scores[i])[:20]
    assert [h.path for h in hits] == [f"/films/{i:05d}.mp4" for i in order]
    np.testing.assert_allclose([h.score for h in hits], [scores[i] for i in order], atol=1e-5)


def test_equal_scores_keep_the_order_of_paths(tmp_path):
    """Ties are broken by path, so that answers do not change from run to run."""
    index, space, _ = synthetic(tmp_path, 12, frames=1, dim=4)
    query = task.Query("q", np.zeros(4, np.float32))
    with index:
        hits = list(task.run(query, task.RetrieveOptions(), FakeClip(), index, space))
    assert [h.path for h in hits] == [f"/films/{i:05d}.mp4" for i in range(10)]


def test_the_sheet_shows_each_answer(searched, tmp_path):
    """Three pictures a row in the colour looked for; a video that is gone leaves grey."""
    hits = searched("green", top_k=2)
    gone = task.VideoHit(str(tmp_path / "gone.mp4"), "m", "w", "green", 3, 0.1, 0.0, 1.0)
    sheet = contact_sheet([*hits, gone], "green " * 90)
    pixels = np.asarray(sheet).astype(int)
    green = (np.abs(pixels - (30, 200, 30)).sum(axis=-1) < 40).sum()
    assert green > 3 * 180 * 140
    assert (pixels == 128).all(axis=-1).sum() >= 3 * 256 * 144


def slow_scan(scores):
    """|t| of every interval against the rest, as its definition says; the largest."""
    count, best = len(scores), 0.0
    for first in range(count):
        for last in range(first + 1, count + 1):
            inside, outside = scores[first:last], np.concatenate([scores[:first], scores[last:]])
            if not len(outside):
                continue
            rest = ((inside - inside.mean()) ** 2).sum() + ((outside - outside.mean()) ** 2).sum()
            spread = np.sqrt(rest / (count - 2)) * np.sqrt(1 / len(inside) + 1 / len(outside))
            best = max(best, abs(inside.mean() - outside.mean()) / spread)
    return best


@pytest.mark.parametrize("seed", range(12))
def test_the_scan_is_the_best_interval_by_brute_force(seed):
    """The interval maximises |t| over all intervals; the moment is the whole video where it is too small."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(5, 40))
    scores = rng.normal(0, 0.02, count).astype(np.float32)
    first = int(rng.integers(0, count - 2))
    length = int(rng.integers(1, 6))
    scores[first : first + length] += rng.choice([0.0, 0.05, 0.2])
    found, *_ = scan(scores)
    assert found == pytest.approx(slow_scan(scores.astype(np.float64)), rel=1e-4)
    moment = best_moment(scores, np.arange(count, dtype=np.float64), float(count))
    assert (moment.start == 0 and moment.end == count) == (not stands_out(found, count, count))


@pytest.mark.parametrize(
    ("free", "tail", "t"),
    [(5, 0.0005, 6.869), (10, 0.0005, 4.587), (10, 0.005, 3.169), (30, 0.0005, 3.646), (120, 0.005, 2.617)],
)
def test_what_stands_out_is_students_t(free, tail, t, monkeypatch):
    """For a single interval the border is the tabulated quantile of Student's t, to three in a hundred."""
    monkeypatch.setattr("clipkit.video.moments.CHANCE", 4 * tail)  # two units: two intervals, two tails
    assert stands_out(1.03 * t, free + 2, 2)
    assert not stands_out(0.97 * t, free + 2, 2)


def test_noise_has_no_moments():
    """Scores that only scatter are one moment, the whole video, in all but a few of many videos."""
    rng = np.random.default_rng(5)
    whole = 0
    for count in (6, 12, 30, 64) * 50:
        moment = best_moment(rng.normal(0.1, 0.02, count).astype(np.float32), np.arange(count) + 0.5, float(count))
        whole += (moment.start, moment.end) == (0.0, count)
    assert whole >= 196


def test_moments_are_whole_shots_where_shots_stand_out():
    """A shot with a peak in it is the moment to the frame in most of twenty videos; without shots in few."""
    times = np.arange(40) + 0.5
    exact = [0, 0]
    for seed in range(20):
        scores = np.random.default_rng(seed).normal(0, 0.02, 40).astype(np.float32)
        scores[10:20] += 0.025
        scores[13:17] += 0.04
        for k, borders in enumerate((None, np.asarray([0, 10, 20, 30, 40]))):
            moment = best_moment(scores, times, 40.0, borders)
            exact[k] += (moment.start, moment.end) == (10.0, 20.0)
    assert exact[1] >= 15
    assert exact[0] <= 5


def test_a_moment_within_one_shot_is_still_found():
    """Where one shot is all there is, or its peak is far above the rest, frames decide."""
    rng = np.random.default_rng(4)
    scores = rng.normal(0, 0.02, 60).astype(np.float32)
    scores[30:36] += 0.3
    times = np.arange(60) + 0.5
    for borders in ([0, 60], [0, 20, 60], [0, 10, 20, 50, 60]):
        moment = best_moment(scores, times, 60.0, np.asarray(borders))
        assert (moment.start, moment.end) == (30.0, 36.0)


def test_a_planted_moment_is_found():
    """A stretch three scatters above the rest is found to a frame, its score the mean of its frames."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        scores = rng.normal(0.1, 0.01, 50).astype(np.float32)
        first, length = int(rng.integers(0, 40)), int(rng.integers(4, 10))
        scores[first : first + length] += 0.05
        moment = best_moment(scores, np.arange(50) + 0.5, 50.0)
        assert moment.start == pytest.approx(first, abs=1)
        assert moment.end == pytest.approx(first + length, abs=1)
        inside = scores[round(moment.start) : round(moment.end)]
        assert moment.score == pytest.approx(inside.mean(), abs=1e-6)


def test_an_even_video_is_its_own_moment():
    """One frame, few frames or equal scores: the whole video."""
    for count in (1, 2, 3, 30):
        moment = best_moment(np.full(count, 0.3, np.float32), np.arange(count, dtype=np.float64), count + 0.5)
        assert (moment.start, moment.end) == (0.0, count + 0.5)


def test_a_long_recording_is_scanned_too():
    """Ten thousand frames: the stretch is found to the averaging step, in a moment."""
    scores = np.random.default_rng(0).normal(0.1, 0.02, 10_000).astype(np.float32)
    scores[6000:6300] += 0.1
    moment = best_moment(scores, np.arange(10_000, dtype=np.float64), 10_000.0)
    assert moment.start == pytest.approx(6000, abs=6)
    assert moment.end == pytest.approx(6300, abs=6)


def test_maximal_runs_by_definition():
    """Each run's proper prefixes and suffixes are positive, runs are disjoint, and the best sum is among them."""
    rng = np.random.default_rng(4)
    for _ in range(60):
        values = rng.integers(-5, 6, 25).astype(np.float32)
        runs = maximal_runs(values)
        for a, b in runs:
            assert all(values[a:k].sum() > 0 for k in range(a + 1, b + 1))
            assert all(values[k:b].sum() > 0 for k in range(a, b))
        assert all(p[1] <= q[0] for p, q in pairwise(runs))
        best = max((values[a:b].sum() for a in range(25) for b in range(a + 1, 26)), default=0)
        assert max((values[a:b].sum() for a, b in runs), default=0) == max(best, 0)
    assert maximal_runs(np.array([4, -5, 3, -3, 1, 2, -2, 2, -2, 1, 5], np.float32)) == [(0, 1), (2, 3), (4, 11)]


def test_a_weak_frame_does_not_cut_a_moment():
    """A dip of one frame inside a strong stretch leaves it one moment."""
    scores = np.full(40, 0.1, np.float32)
    scores[10:20] = 0.3
    scores[15] = 0.15
    scores[30:33] = 0.3
    found = all_moments(scores, np.arange(40, dtype=np.float64), 40.0)
    assert sorted((m.start, m.end) for m in found) == [(9.5, 19.5), (29.5, 32.5)]


def test_the_best_of_three_levels_is_the_moment():
    """A scene that scores lowest does not make the moment of all others: the best scene alone is it."""
    rng = np.random.default_rng(2)
    levels = np.repeat([-0.04, 0.07, 0.02, 0.02], 12)
    scores = (levels + rng.normal(0, 0.005, 48)).astype(np.float32)
    moment = best_moment(scores, np.arange(48) + 0.5, 48.0)
    assert (moment.start, moment.end) == (12.0, 24.0)


def test_a_slope_is_split_once():
    """Scores that rise evenly give one stretch at the better end, not the last frame alone."""
    moment = best_moment(np.linspace(0, 0.2, 60, dtype=np.float32), np.arange(60) + 0.5, 60.0)
    assert moment.end == 60.0
    assert 20.0 <= moment.start <= 40.0
