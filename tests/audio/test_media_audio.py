"""Sound files of every kind come out as the same mono samples, and bad ones as one clear line."""

import os
import tracemalloc

import numpy as np
import pytest
from sound_files import RATE, sweep, tone

from clipkit.errors import InputError
from clipkit.media import audio


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    n = min(len(a), len(b))
    return float(np.corrcoef(a[:n], b[:n])[0, 1])


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_U8", 2e-2),
        ("a.wav", "PCM_16", 1e-4),
        ("a.wav", "PCM_24", 1e-6),
        ("a.wav", "PCM_32", 1e-7),
        ("a.wav", "FLOAT", 0),
        ("a.wav", "DOUBLE", 1e-7),
        ("a.flac", "PCM_24", 1e-6),
        ("a.aiff", "PCM_16", 1e-4),
    ],
)
def test_lossless_formats_return_the_samples(write, name, subtype, tolerance):
    """Each sample width decodes to the written samples, to its own quantisation step."""
    written = sweep(1.0)
    read = audio.load(write(name, written, subtype=subtype), RATE)
    assert read.dtype == np.float32
    assert read.shape == written.shape
    assert np.abs(read - written).max() <= tolerance


@pytest.mark.parametrize("name", ["a.ogg", "a.mp3", "a.opus", "a.m4a", "a.mp4", "a.mkv"])
def test_lossy_formats_agree_with_the_samples(write, name):
    """Compressed files, and the sound of a video, are the same sound in the same place."""
    rate = 48_000
    written = sweep(2.0, rate)
    read = audio.load(write(name, written, rate, picture=name.endswith("mkv")), rate)
    assert abs(len(read) - len(written)) < 0.06 * rate
    assert correlation(read, written) > 0.98


def test_channels_are_averaged(write):
    """Eight channels mix to their mean."""
    channels = np.stack([tone(0.5, hertz=100 * (i + 1), level=0.1 * i) for i in range(8)])
    read = audio.load(write("a.wav", channels, subtype="FLOAT"), RATE)
    np.testing.assert_allclose(read, channels.mean(axis=0), atol=1e-7)


def test_m4a_stereo_is_averaged(write):
    """The FFmpeg path mixes channels as libsndfile's does."""
    one = sweep(2.0, 48_000)
    read = audio.load(write("a.m4a", np.stack([one, np.zeros_like(one)]), 48_000), 48_000)
    assert correlation(read, one) > 0.98
    assert np.std(read) == pytest.approx(np.std(one) / 2, rel=0.05)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_resampled_tone_is_the_tone_at_the_new_rate(write, rate):
    """A 440 Hz tone stays 440 Hz, whatever rate the file has, and keeps its length."""
    read = audio.load(write("a.wav", tone(1.0, rate), rate, subtype="FLOAT"), RATE)
    assert len(read) == RATE
    np.testing.assert_allclose(read[500:-500], tone(1.0)[500:-500], atol=4e-3)


def test_silence_is_silence(write):
    """Digital silence decodes to zeros and has no level."""
    read = audio.load(write("a.wav", np.zeros(RATE)), RATE)
    assert len(read) == RATE
    assert not read.any()
    assert audio.level_db(read) == float("-inf")


def test_level_of_a_full_scale_sine():
    """A sine of amplitude 1 lies at -3.01 dB."""
    assert audio.level_db(tone(1.0, level=1.0)) == pytest.approx(-3.01, abs=0.01)


def test_bytes_are_read_like_files(write):
    """A file's bytes (standard input) give what the file gives, through both decoders."""
    for name in ("a.wav", "a.m4a"):
        path = write(name, sweep(1.0, 48_000), 48_000)
        np.testing.assert_array_equal(audio.load(path.read_bytes(), RATE), audio.load(path, RATE))


def bad_text(path):
    path.write_text("not a sound")


def bad_empty(path):
    path.write_bytes(b"")


def bad_no_samples(path):
    import soundfile

    soundfile.write(path, np.zeros(0), RATE, format="WAV")


def bad_nan(path):
    import soundfile

    soundfile.write(path, np.full(100, np.nan, np.float32), RATE, format="WAV", subtype="FLOAT")


def bad_video(path):
    import av

    with av.open(str(path), "w", format="matroska") as container:
        track = container.add_stream("mpeg4", rate=5)
        track.width, track.height, track.pix_fmt = 32, 32, "yuv420p"
        container.mux(track.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(track.encode(None))


def bad_picture(path):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(path, format="PNG")


def bad_flac(path):
    import soundfile

    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 5 * RATE), RATE, format="FLAC")
    path.write_bytes(path.read_bytes()[:60_000])


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (bad_text, "not_audio"),
        (bad_empty, "empty"),
        (bad_no_samples, "empty"),
        (bad_nan, "corrupt"),
        (bad_video, "no_audio"),
        (bad_picture, "no_audio"),
        (bad_flac, "corrupt"),
        (lambda path: None, "not_found"),
        (lambda path: path.mkdir(), "is_directory"),
    ],
)
def test_bad_files_are_one_line(tmp_path, make, kind):
    """Each bad file raises InputError of its kind, in one line (the record beside it names the file)."""
    path = tmp_path / "bad.wav"
    make(path)
    with pytest.raises(InputError) as caught:
        audio.load(path, RATE)
    assert caught.value.kind == kind
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{}'\n",
        "<html><body>404</body></html>",
        "1\n00:00:01,000 --> 00:00:02,000\nhi\n",
    ],
)
def test_texts_are_no_sounds(write, tmp_path, text):
    """Playlists, session descriptions, pages and subtitles open no socket and no other file, as files and as bytes."""
    path = tmp_path / "list.wav"
    path.write_text(text.replace("{}", str(write("real.wav", tone(1.0)))))
    for source in (path, path.read_bytes()):
        with pytest.raises(InputError) as caught:
            audio.load(source, RATE)
        assert caught.value.kind == "not_audio"


def test_a_known_beginning_is_damage(tmp_path):
    """A file that begins as OGG, WAV or M4A and cannot be opened is damaged, not a stranger."""
    path = tmp_path / "a.ogg"
    for start in (b"OggS", b"RIFF", b"fLaC", b"ID3", b"\0\0\0 ftypM4A "):
        path.write_bytes(start + bytes(200))
        with pytest.raises(InputError, match="damaged") as caught:
            audio.load(path, RATE)
        assert caught.value.kind == "corrupt"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_are_refused(tmp_path):
    """A named pipe would wait for ever; it is told at once."""
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(InputError, match="stdin") as caught:
        audio.load(tmp_path / "pipe.wav", RATE)
    assert caught.value.kind == "not_a_file"


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.m4a", "a.mkv"])
def test_damage_is_an_input_error_at_worst(write, name):
    """Cut anywhere, or with bytes changed: the sound as far as it goes, or one InputError; nothing else."""
    whole = write(name, sweep(1.0, 44_100), 44_100, picture=name == "a.mkv").read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(12):
        data = bytearray(whole[: rng.integers(1, len(whole))] if trial % 2 else whole)
        for place in rng.integers(0, len(data), 20 if trial % 3 else 0):
            data[place] = rng.integers(256)
        try:
            samples = audio.load(bytes(data), RATE)
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert np.isfinite(samples).all()


def spans(path, seconds, hop):
    return [(round(w.start, 4), round(w.end, 4), len(w.samples)) for w in audio.windows(path, RATE, seconds, hop)]


def test_windows_cover_the_recording(write):
    """Windows start every hop; the last lies flush with the end; a short file is one short window."""
    assert spans(write("a.wav", sweep(10.0)), 4, 4) == [(0, 4, 64_000), (4, 8, 64_000), (6, 10, 64_000)]
    assert spans(write("b.wav", sweep(8.0)), 4, 2) == [(0, 4, 64_000), (2, 6, 64_000), (4, 8, 64_000)]
    assert spans(write("c.wav", sweep(1.5)), 4, 2) == [(0, 1.5, 24_000)]
    assert spans(write("d.wav", sweep(4.0)), 4, 4) == [(0, 4, 64_000)]
    assert len(spans(write("f.wav", sweep(4.03)), 4, 4)) == 1
    assert len(spans(write("g.wav", sweep(4.05)), 4, 4)) == 2
    assert spans(write("e.wav", sweep(10.0)), 1, 4) == [(0, 1, 16_000), (4, 5, 16_000), (8, 9, 16_000)]


@pytest.mark.parametrize(("seconds", "hop"), [(3.0, 1.0), (2.0, 2.0), (1.0, 2.5), (30.0, 1.0), (9.5, 7.0)])
def test_windows_are_slices_of_the_whole(write, seconds, hop):
    """Each window is exactly the whole recording between its start and end."""
    path = write("a.wav", sweep(21.3), subtype="FLOAT")
    whole = audio.load(path, RATE)
    for window in audio.windows(path, RATE, seconds, hop):
        np.testing.assert_array_equal(window.samples, whole[round(window.start * RATE) : round(window.end * RATE)])


def test_long_files_take_no_more_memory(write):
    """Reading ten minutes in windows keeps no more in memory than reading one (the chunk decides)."""

    def peak(path) -> int:
        tracemalloc.start()
        assert sum(1 for _ in audio.windows(path, RATE, 5, 5)) > 5
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    short = write("short.wav", np.zeros(8_000 * 60), 8_000)
    long = write("long.wav", np.zeros(8_000 * 600), 8_000)
    peak(short)  # imports
    assert peak(long) < 1.2 * peak(short)
