"""The right frame at the right time, upright, whatever the codec, the container and the frame rate."""

import bisect
import importlib.util

import av
import numpy as np
import pytest
from video_clips import film, number_of, picture, steady, unsteady

from clipkit.errors import InputError, ModelUnavailableError
from clipkit.media import video_decord, video_packets, video_pyav
from clipkit.media.video import probe, read_frames
from clipkit.video.legacy import read_by_index
from clipkit.video.sampling import Sampling

NAMES = [
    "cfr-h264.mp4", "vfr-h264.mp4", "cfr-hevc.mp4", "vfr-hevc.mkv", "cfr-vp9.webm", "vfr-vp9.webm",
    "cfr-av1.mp4", "vfr-av1.webm", "vfr-h264.ts",
]  # fmt: skip

needs_decord = pytest.mark.skipif(importlib.util.find_spec("decord") is None, reason="decord has no wheel here")


def wanted_times(times, count=30, seed=1):
    """Random times, none within a millisecond of a frame change (containers round timestamps)."""
    draws = np.sort(np.random.default_rng(seed).uniform(0, times[-1] + 0.01, 4 * count))
    clear = [float(t) for t in draws if np.abs(np.asarray(times) - t).min() > 2e-3]
    return clear[:: max(1, len(clear) // count)]


def on_screen(times, at):
    """The number of the frame on screen, by the definition."""
    return bisect.bisect_right(times, at) - 1


@pytest.mark.parametrize("name", NAMES)
def test_the_frame_on_screen_is_returned(films, name):
    """Each answer is the frame whose interval holds the wanted time, with its own timestamp to a millisecond."""
    path, times = films(name)
    wanted = wanted_times(times)
    frames = list(read_frames(path, lambda _: wanted))
    assert [number_of(f.pixels) for f in frames] == [on_screen(times, t) for t in wanted]
    np.testing.assert_allclose([f.time for f in frames], [times[on_screen(times, t)] for t in wanted], atol=1.1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_duration_is_right_to_a_frame(films, name):
    """The duration reaches the last frame's time, without a frame count in the header too."""
    path, times = films(name)
    info = probe(path)
    assert abs(info.duration - times[-1]) < 0.2
    assert (info.width, info.height, info.rotation) == (192, 128, 0)


@pytest.mark.parametrize("name", ["cfr-h264.mp4", "vfr-hevc.mkv", "vfr-vp9.webm"])
def test_every_frame_can_be_asked_for(films, name):
    """Asking for each frame's own time gives all frames in order, the decoder's delayed ones too."""
    path, times = films(name)
    frames = list(read_frames(path, lambda _: [t + 0.002 for t in times]))
    assert [number_of(f.pixels) for f in frames] == list(range(len(times)))


def test_times_outside_give_the_first_and_the_last_frame(films):
    """A time before the first frame gives the first, one in the last frame's slack the last."""
    path, times = films("cfr-h264.mp4")
    frames = list(read_frames(path, lambda _: [-3.0, 0.0, times[-1] + 0.5]))
    assert [number_of(f.pixels) for f in frames] == [0, 0, len(times) - 1]


def test_a_repeated_frame_is_converted_once(films):
    """Two times in one long frame share one picture: only sampled frames cost a conversion."""
    path, times = films("vfr-h264.mp4")
    gap = int(np.argmax(np.diff(times)))
    one, two = read_frames(path, lambda _: [times[gap] + 0.1, times[gap + 1] - 0.1])
    assert one.pixels is two.pixels
    assert number_of(one.pixels) == gap


def test_only_the_wanted_frames_are_converted(films, monkeypatch):
    """Of ninety frames three are asked for, twice each: three are turned into RGB."""
    converted = []
    upright = video_pyav.upright
    monkeypatch.setattr(video_pyav, "upright", lambda frame: (converted.append(frame), upright(frame))[1])
    path, times = films("cfr-h264.mp4")
    wanted = [times[k] + d for k in (5, 40, 80) for d in (0.005, 0.02)]
    assert len(list(read_frames(path, lambda _: wanted))) == 6
    assert len(converted) == 3


def test_seeking_gives_the_frames_reading_on_gives(tmp_path, monkeypatch):
    """With seeks and without, by index or by cues, the same frames come."""
    times = steady(700, 10)
    wanted = [0.55, 1.25, 30.05, 31.15, 60.65, 69.85]
    for name in ("long.mp4", "long.mkv"):
        path = film(
            tmp_path / name, times, size=(96, 64), options={"x264-params": "log-level=none:keyint=50:bframes=3"}
        )
        runs = []
        for gap in (2.0, 1e9):
            monkeypatch.setattr(video_packets, "SEEK_SECONDS", gap)
            runs.append([number_of(f.pixels) for f in read_frames(path, lambda _: wanted)])
        assert runs[0] == runs[1] == [on_screen(times, t) for t in wanted]


def test_one_endless_gop_is_read_in_flat_memory(tmp_path, monkeypatch):
    """With a single keyframe the packets are decoded on the way, and no more are held than the bound."""
    monkeypatch.setattr(video_packets, "MAX_QUEUE", 20)
    monkeypatch.setattr(video_packets, "SEEK_SECONDS", 1.0)
    path = film(tmp_path / "one.mp4", steady(200), options={"x264-params": "log-level=none:keyint=infinite:bframes=2"})
    frames = list(read_frames(path, lambda _: [0.05, 5.05, 6.55]))
    assert [number_of(f.pixels) for f in frames] == [1, 151, 196]


@pytest.mark.skipif(not hasattr(av.VideoStream, "set_display_rotation"), reason="this PyAV cannot write rotations")
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_metadata_is_applied(tmp_path, degrees):
    """A phone's rotated film comes upright, as OpenCV (another reader of the same metadata) shows it."""
    import cv2

    path = film(tmp_path / "phone.mp4", steady(6), rotate=degrees)
    (frame,) = read_frames(path, lambda _: [0.01])
    assert probe(path).rotation % 90 == 0
    assert frame.pixels.shape == ((192, 128, 3) if degrees % 180 else (128, 192, 3))
    ok, image = cv2.VideoCapture(str(path)).read()
    assert ok
    assert np.abs(image[..., ::-1].astype(int) - frame.pixels).mean() < 3


def test_bytes_read_as_the_file_reads(films):
    """A film from a pipe (bytes) gives the frames its file gives."""
    path, _ = films("vfr-h264.mp4")
    one = [f.pixels for f in read_frames(path, lambda _: [0.5, 3.0])]
    two = [f.pixels for f in read_frames(path.read_bytes(), lambda _: [0.5, 3.0])]
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_film_with_late_pictures_counts_from_its_sound(tmp_path):
    """Times count from the start of the presentation, so sound that begins first shifts nothing."""
    times = [t + 1.0 for t in steady(40)]
    path = film(tmp_path / "late.mkv", times, sound=2.0)
    frames = list(read_frames(path, lambda _: [0.2, 1.51]))
    assert [number_of(f.pixels) for f in frames] == [0, 15]
    assert frames[0].time == pytest.approx(1.0, abs=0.03)


def test_one_pass_decodes_ten_bit_colour(tmp_path):
    """10-bit film is converted to 8-bit RGB close to what was drawn."""
    path = film(tmp_path / "ten.mp4", steady(5), pixel_format="yuv420p10le", options={"crf": "4"})
    (frame,) = read_frames(path, lambda _: [0.0])
    assert np.abs(frame.pixels.astype(int) - picture(0)).mean() < 6


@needs_decord
@pytest.mark.parametrize(
    ("name", "able"),
    [
        ("cfr-h264.mp4", True),
        ("vfr-h264.mp4", True),
        ("vfr-vp9.webm", True),
        ("cfr-av1.mp4", False),
        ("vfr-h264.ts", False),
    ],
)
def test_decord_gives_pyavs_pixels(films, name, able):
    """On formats decord reads right both decoders agree to the last bit; elsewhere PyAV answers in its place."""
    path, times = films(name)
    assert video_decord.able(probe(path)) is able
    wanted = wanted_times(times, 12)
    ours = list(read_frames(path, lambda _: wanted, decoder="pyav"))
    theirs = list(read_frames(path, lambda _: wanted, decoder="decord"))
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(ours, theirs, strict=True))
    np.testing.assert_allclose([f.time for f in ours], [f.time for f in theirs], atol=1e-3)


@needs_decord
def test_open_gops_are_kept_from_decord(tmp_path):
    """decord is off by the leading frames of an open GOP, so such a film is PyAV's even when decord is asked for."""
    options = {"preset": "medium", "x264-params": "log-level=none:open-gop=1:keyint=20:bframes=3"}
    path = film(tmp_path / "open.mp4", steady(90), options=options)
    wanted = wanted_times(steady(90), 20)
    frames = list(read_frames(path, lambda _: wanted, decoder="decord"))
    assert [number_of(f.pixels) for f in frames] == [on_screen(steady(90), t) for t in wanted]


@needs_decord
def test_a_decord_that_hangs_is_left(films, monkeypatch):
    """Where decord does not return in time PyAV answers, and decord is not asked again."""
    import threading

    path, _ = films("cfr-h264.mp4")
    release = threading.Event()
    monkeypatch.setattr(video_decord, "_open", lambda _: release.wait(20))
    monkeypatch.setattr(video_decord, "_hung", threading.Event())
    frames = list(read_frames(path, lambda _: [1.01], decoder="decord", patience=0.2))
    release.set()
    assert number_of(frames[0].pixels) == 30
    assert not video_decord.able(probe(path))


def test_decord_by_name_where_it_is_missing(films, monkeypatch):
    """Asking for decord without having it says what to install."""
    monkeypatch.setattr(video_decord, "installed", lambda: False)
    with pytest.raises(ModelUnavailableError, match="pip install decord"):
        next(read_frames(films("cfr-h264.mp4")[0], lambda _: [0.0], decoder="decord"))


def test_unsteady_is_unsteady():
    """The variable-rate films really vary: their gaps span two orders of magnitude."""
    gaps = np.diff(unsteady(90))
    assert gaps.max() / gaps.min() > 20


def authors_loop(path):
    """The numbers of the frames that CLIP4Clip's extractor reads at one a second, by its own loop over OpenCV."""
    import cv2

    video = cv2.VideoCapture(str(path))
    fps, count = int(video.get(cv2.CAP_PROP_FPS)), int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    found = []
    for second in range((count + fps - 1) // fps + 1):
        video.set(cv2.CAP_PROP_POS_FRAMES, second * fps)
        ok, image = video.read()
        if not ok:
            break
        found.append(number_of(image))
    return found


@pytest.mark.parametrize("name", ["cfr-h264.mp4", "vfr-h264.mp4", "cfr-hevc.mp4"])
def test_the_legacy_seek_is_the_authors(films, name):
    """`clip4clip-index` gives what the authors' loop gives, right or wrong; at a constant rate that is one a second."""
    path, _ = films(name)
    sampling = Sampling("clip4clip-index", frames=12)
    found = [number_of(f.pixels) for f in read_by_index(path, sampling.times, sampling)]
    assert found == authors_loop(path)[:12]
    by_time = [number_of(f.pixels) for f in read_frames(path, Sampling(frames=12).times)]
    if name.startswith("cfr"):
        assert found == by_time == [0, 30, 60]
    else:
        assert found != by_time


def test_the_legacy_seek_needs_a_file(films):
    """Bytes are refused with a reason; a file that is no video has the same words as elsewhere."""
    sampling = Sampling("clip4clip-index", frames=12)
    with pytest.raises(InputError, match="files only"):
        list(read_by_index(b"x", sampling.times, sampling))
    with pytest.raises(InputError, match="no such file"):
        list(read_by_index(films("cfr-h264.mp4")[0].with_name("none.mp4"), sampling.times, sampling))
