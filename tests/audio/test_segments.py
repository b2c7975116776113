"""Windows that agree become one stretch, and stretches become subtitles."""

import pytest

from clipkit.audio.segments import Segment, merge_windows
from clipkit.errors import UsageError
from clipkit.output.subtitles import Subtitler, subrip, timestamp
from clipkit.results import Failure, Prediction
from clipkit.tasks.audio_classify import AudioClassification


def answers(*rows):
    return [(start, end, None if label is None else Prediction(label, score)) for start, end, label, score in rows]


def test_equal_neighbours_join():
    """Two windows of one label are one segment with their mean score."""
    merged = merge_windows(answers((0, 5, "dog", 0.5), (5, 10, "dog", 0.75), (10, 15, "rain", 0.9)))
    assert merged == [Segment(0, 10, "dog", 0.625), Segment(10, 15, "rain", 0.9)]


def test_overlap_is_shared():
    """Where windows of different labels overlap the border is the middle; nothing overlaps."""
    merged = merge_windows(answers((0, 4, "dog", 1.0), (2, 6, "dog", 1.0), (4, 8, "rain", 1.0)))
    assert [(s.start, s.end) for s in merged] == [(0, 5), (5, 8)]


def test_silence_leaves_a_gap():
    """A window without an answer belongs to no segment, and parts equal labels."""
    merged = merge_windows(answers((0, 5, "dog", 1.0), (5, 10, None, 0), (10, 15, "dog", 1.0)))
    assert [(s.start, s.end) for s in merged] == [(0, 5), (10, 15)]
    merged = merge_windows(answers((0, 4, "dog", 1.0), (2, 6, None, 0), (4, 8, None, 0)))
    assert [(s.start, s.end) for s in merged] == [(0, 2)]
    assert merge_windows(answers((0, 5, None, 0))) == []


def test_timestamps():
    """Hours, minutes, seconds, milliseconds; rounding carries over."""
    assert timestamp(0) == "00:00:00,000"
    assert timestamp(3723.4567) == "01:02:03,457"
    assert timestamp(59.9999) == "00:01:00,000"
    assert timestamp(360_000) == "100:00:00,000"


def test_subrip_text():
    """Numbered from 1, an arrow between the times, a blank line after each."""
    text = subrip([Segment(0, 5, "dog", 1.0), Segment(5, 7.5, "rain", 0.5)])
    assert text == "1\n00:00:00,000 --> 00:00:05,000\ndog\n\n2\n00:00:05,000 --> 00:00:07,500\nrain\n\n"


def outcome(path):
    return AudioClassification(path, "m", "w", 5.0, (), (), (Segment(0, 5, "dog", 1.0),))


def test_folder_gets_a_file_each(tmp_path):
    """Equal stems get a number, whatever their case; failures pass through and write nothing."""
    given = [outcome("a/x.wav"), Failure("bad.wav", "empty", "no"), outcome("b/X.flac"), outcome("-")]
    assert list(Subtitler(tmp_path / "subs").written(iter(given))) == given
    names = sorted(path.name for path in (tmp_path / "subs").iterdir())
    assert names == ["X-2.srt", "stdin.srt", "x.srt"]
    assert (tmp_path / "subs" / "x.srt").read_text().startswith("1\n")


def test_one_file_takes_one_recording(tmp_path):
    """FILE.srt is that file; a second recording is a usage error that says what to name."""
    writer = Subtitler(tmp_path / "night.srt").written(iter([outcome("a.wav"), outcome("b.wav")]))
    next(writer)
    assert (tmp_path / "night.srt").exists()
    with pytest.raises(UsageError, match="name a folder"):
        next(writer)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        Subtitler(tmp_path / "file")
