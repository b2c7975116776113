"""Files that are no use fail in one line and in bounded time."""

import os
import struct
import wave

import numpy as np
import pytest
from PIL import Image
from video_clips import film, steady

from clipkit.errors import InputError
from clipkit.media.video import probe, read_frames
from clipkit.media.video_pyav import MAX_PIXELS

KINDS = {"empty", "not_a_video", "no_video", "unsupported", "too_large", "truncated", "corrupt", "timeout"}


def spread(info, count=12):
    """Segment centres, as the tasks ask for them."""
    return [(i + 0.5) * info.duration / count for i in range(count)]


def kind_of(source):
    """The kind of the error reading `source` gives; its message must be one line."""
    with pytest.raises(InputError) as caught:
        list(read_frames(source, spread))
    assert "\n" not in str(caught.value)
    return caught.value.kind


def outcome_of(path):
    """The number of frames, or the kind of the one-line error."""
    try:
        return len(list(read_frames(path, spread, patience=5)))
    except InputError as error:
        return error.kind if "\n" not in str(error) else str(error)


def patched(path, data, *edits):
    """Write `data` with (marker, offset, bytes) replaced, each marker found once."""
    data = bytearray(data)
    for marker, offset, new in edits:
        assert data.count(marker) == 1
        at = data.index(marker) + offset
        data[at : at + len(new)] = new
    path.write_bytes(data)
    return path


def test_not_files(tmp_path):
    """Missing files, folders, pipes, empty files and no bytes each have their word."""
    assert kind_of(tmp_path / "missing.mp4") == "not_found"
    assert kind_of(tmp_path) == "is_directory"
    (tmp_path / "empty.mp4").touch()
    assert kind_of(tmp_path / "empty.mp4") == "empty"
    assert kind_of(b"") == "empty"
    os.mkfifo(tmp_path / "pipe.mp4")
    assert kind_of(tmp_path / "pipe.mp4") == "not_a_file"


def test_not_videos(tmp_path):
    """Texts, pictures, playlists and noise are no videos."""
    (tmp_path / "note.mp4").write_text("remember the milk\n" * 100)
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.jpg")
    for name in ("note.mp4", "noise.mp4", "list.m3u8", "photo.png", "photo.jpg"):
        # FFmpeg may take noise for sound
        kinds = {"not_a_video", "no_video"} if name == "noise.mp4" else {"not_a_video"}
        assert kind_of(tmp_path / name) in kinds, name
        assert kind_of((tmp_path / name).read_bytes()) in kinds, name


def test_sound_alone_is_pointed_to_its_own_command(tmp_path):
    """A file with sound and no pictures says so and names the command for sounds."""
    with wave.open(str(tmp_path / "song.wav"), "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(bytes(16000))
    with pytest.raises(InputError, match="audio-classify") as caught:
        probe(tmp_path / "song.wav")
    assert caught.value.kind == "no_video"


@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_file_cut_short_is_named_truncated(tmp_path, part):
    """MP4 with its index first, Matroska and WebM cut at any place are told from whole ones."""
    options = {"movflags": "faststart"}
    whole = film(tmp_path / "whole.mp4", steady(150), container_options=options).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: int(len(whole) * part)])
    assert kind_of(tmp_path / "cut.mp4") == "truncated"
    if part < 0.9:  # the end of a Matroska file is its index, which nobody misses
        whole = film(tmp_path / "whole.mkv", steady(150)).read_bytes()
        (tmp_path / "cut.mkv").write_bytes(whole[: int(len(whole) * part)])
        assert kind_of(tmp_path / "cut.mkv") == "truncated"


def test_an_mp4_that_lost_its_index_is_no_video(tmp_path):
    """A download that stopped before the index at the end cannot be opened, and says so."""
    whole = film(tmp_path / "whole.mp4", steady(60)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    assert kind_of(tmp_path / "cut.mp4") == "not_a_video"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_a_header_that_promises_years_ends_soon(tmp_path, suffix):
    """A Matroska header that promises eleven years fails in one line that names both durations."""
    codec = "libx264" if suffix == "mkv" else "libvpx-vp9"
    data = film(tmp_path / f"a.{suffix}", steady(60), codec).read_bytes()
    edits = [(b"\x44\x89\x88", 3, struct.pack(">d", 1e12)), (b"00:00:02.000000000", 0, b"99999:00:02.000000")]
    endless = patched(tmp_path / f"endless.{suffix}", data, *edits)
    assert kind_of(endless) == "truncated"
    with pytest.raises(InputError, match=r"promises 359996402\.0 s, the data ends after 2\.0 s"):
        list(read_frames(endless, spread))


@pytest.mark.timeout(20)
def test_an_index_that_promises_frames_ends_soon(tmp_path):
    """MP4 indices that invent frames fail at once; a duration they contradict is not believed."""
    data = film(tmp_path / "a.mp4", steady(60)).read_bytes()
    for count in (10**6, 2**31 - 1):
        invented = struct.pack(">I", count)
        assert kind_of(patched(tmp_path / "a1.mp4", data, (b"stsz", 12, invented))) in {"corrupt", "not_a_video"}
        sizes = (b"stsz", 8, struct.pack(">II", 100, count))
        assert kind_of(patched(tmp_path / "a2.mp4", data, (b"stts", 12, invented), sizes)) in {"corrupt", "truncated"}
    days = struct.pack(">I", 90_000 * 40_000)
    lying = patched(tmp_path / "a3.mp4", data, (b"mdhd", 20, days), (b"mvhd", 20, days), (b"tkhd", 24, days))
    assert probe(lying).duration == pytest.approx(2.0, abs=0.1)
    assert len(list(read_frames(lying, spread))) == 12


def test_damage_inside_is_survived(tmp_path):
    """A film with a damaged stretch still gives a frame for every time, and no traceback."""
    data = bytearray(film(tmp_path / "a.ts", steady(120)).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = np.random.default_rng(1).bytes(4000)
    (tmp_path / "scratched.ts").write_bytes(data)
    assert len(list(read_frames(tmp_path / "scratched.ts", spread))) == 12


def test_an_mp4_without_frames_is_named(tmp_path):
    """A film whose data is all zeros has no frame to decode."""
    data = bytearray(film(tmp_path / "a.mp4", steady(30)).read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    data[start:end] = bytes(end - start)
    (tmp_path / "zero.mp4").write_bytes(data)
    assert kind_of(tmp_path / "zero.mp4") == "corrupt"


def test_patience_is_bounded(tmp_path):
    """A file that takes longer than allowed is given up with its own kind."""
    path = film(tmp_path / "slow.mp4", steady(400), options={"x264-params": "log-level=none:keyint=infinite"})
    with pytest.raises(InputError) as caught:
        list(read_frames(path, lambda info: [info.duration - 0.1], patience=0.0))
    assert caught.value.kind == "timeout"


def test_absurd_sizes_are_refused():
    """The cap on pixels leaves room for 8K and none for a header's fantasy."""
    assert 7680 * 4320 < MAX_PIXELS < 65535 * 65535


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["cfr-h264.mp4", "vfr-hevc.mkv", "vfr-vp9.webm", "vfr-h264.ts", "cfr-av1.mp4"])
def test_any_damage_gives_frames_or_one_line(films, tmp_path, name):
    """Cut, overwritten and bit-flipped files give twelve frames or one of the known kinds, never anything else."""
    whole = films(name)[0].read_bytes()
    rng = np.random.default_rng(len(whole))
    for number in range(16):
        data = bytearray(whole)
        at = int(rng.integers(0, len(data)))
        if number % 4 == 0:
            del data[at:]
        elif number % 4 == 1:
            for place in rng.integers(0, len(data), 20):
                data[place] ^= 1 << int(rng.integers(0, 8))
        elif number % 4 == 2:
            data[at : at + 1500] = rng.bytes(len(data[at : at + 1500]))
        else:
            data[at % 2000 : at % 2000 + 8] = b"\xff" * 8
        path = tmp_path / f"{number}{films(name)[0].suffix}"
        path.write_bytes(data)
        assert outcome_of(path) in {12} | KINDS
