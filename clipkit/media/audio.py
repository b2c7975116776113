"""Sound files and the sound of videos as mono float32 at the rate a model wants, whole or in windows, in flat memory.

libsndfile reads WAV, FLAC, OGG, AIFF and their kin; everything else (MP3, m4a, the audio track of a video) goes to FFmpeg through
PyAV.
"""

from __future__ import annotations

import contextlib
import io
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipkit.errors import InputError
from clipkit.media.resample import resample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

CHUNK_SECONDS = 8
SNDFILE_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"fLaC", b"OggS", b".snd", b"caff")
"""How the files begin that go to libsndfile. The rest does not: its MP3 decoder writes to stderr on its own."""

FFMPEG_MAGIC = (b"ID3", b"\x1aE\xdf\xa3")
"""How others begin that are sounds or videos for sure (so does `ftyp` at the fifth byte)."""

MIN_RATE, MAX_RATE = 100, 1_536_000
"""Rates outside come from damaged headers, and would ask for absurd filters."""


@dataclass(frozen=True, slots=True)
class AudioWindow:
    """A stretch of a recording: `samples` (T,) float32 mono, and where it lies, in seconds."""

    start: float
    end: float
    samples: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Stream:
    """An opened decoder: its sample rate, and mono chunks at that rate."""

    rate: int
    chunks: Iterator[NDArray[np.float32]]


def stream(source: str | Path | bytes, rate: int) -> Iterator[NDArray[np.float32]]:
    """Decode, mix to mono (the mean of the channels) and resample, a few seconds at a time.

    Args:
        source: a path, or a file's bytes.
        rate: the wanted sample rate in Hz.

    Yields:
        (T,) float32 chunks in file order, about [-1, 1] (a float file may go beyond).

    Raises:
        InputError: `not_found`, `is_directory`, `not_a_file`, `permission`, `unreadable`, `not_audio` (nothing decodes),
            `no_audio` (pictures only), `empty` (no samples) or `corrupt` (damaged on the way).
    """
    with contextlib.ExitStack() as stack:
        opened = _open(source, stack)
        if not MIN_RATE <= opened.rate <= MAX_RATE:
            raise InputError("corrupt", f"a sample rate of {opened.rate} Hz cannot be right; export the file again")
        seen = False
        for chunk in resample(_checked(opened.chunks), opened.rate, rate):
            seen = True
            yield chunk
        if not seen:
            raise InputError("empty", "there is no sound in it (0 samples)")


def load(source: str | Path | bytes, rate: int) -> NDArray[np.float32]:
    """The whole recording, (T,) float32 mono at `rate` Hz. For long files prefer `windows`.

    Raises:
        InputError: see `stream`.
    """
    return np.concatenate(list(stream(source, rate)))


def windows(
    source: str | Path | bytes,
    rate: int,
    seconds: float,
    hop: float,
) -> Iterator[AudioWindow]:
    """Windows of `seconds`, one every `hop` seconds, holding no more than a window and a chunk in memory.

    A recording shorter than one window gives one window of its own length. Where the windows do not end with the
    recording, a last one is laid flush with the end, so every sample is heard once at least (for `hop <= seconds`) and
    every window of a longer recording is full. A rest under a hundredth of a window, such as a codec's padding, gets none.

    Raises:
        InputError: see `stream`.
    """
    length, step = max(1, round(seconds * rate)), max(1, round(hop * rate))
    held = np.zeros(0, np.float32)
    origin = 0  # the place of held[0] in the recording
    start = 0  # where the next window begins
    for chunk in stream(source, rate):
        held = np.concatenate([held, chunk])
        while start + length <= origin + len(held):
            at = start - origin
            yield AudioWindow(start / rate, (start + length) / rate, held[at : at + length].copy())
            start += step
        # keep a window's length for the last one, and whatever the next one needs
        drop = min(start, origin + len(held) - length) - origin
        if drop > 0:
            held, origin = held[drop:], origin + drop
    total = origin + len(held)
    covered = start - step + length if start else 0
    if start < total and total - covered > (length // 100 if covered else 0):
        begin = max(0, total - length)
        yield AudioWindow(begin / rate, total / rate, held[begin - origin :].copy())


def level_db(samples: NDArray[np.float32]) -> float:
    """The root-mean-square level in dB of full scale; -inf for digital silence."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return 10.0 * float(np.log10(power)) if power > 0 else float("-inf")


def _open(source: str | Path | bytes, stack: contextlib.ExitStack) -> _Stream:
    """Try libsndfile, then FFmpeg."""
    if isinstance(source, bytes):
        if not source:
            raise InputError("empty", "no bytes arrived")
        prefix = source[:12]
    else:
        prefix = _look_at(Path(source))
    if prefix.startswith(SNDFILE_MAGIC) and (opened := _open_sndfile(source, stack)):
        return opened
    from clipkit.media.audio_ffmpeg import open_ffmpeg

    known = prefix.startswith((*SNDFILE_MAGIC, *FFMPEG_MAGIC)) or prefix[4:8] == b"ftyp"
    return _Stream(*open_ffmpeg(source, stack, known=known))


def _look_at(path: Path) -> bytes:
    """The first twelve bytes; says plainly what the decoders would only hint at."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InputError("is_directory", "this is a folder, not a sound file")
        if not stat.S_ISREG(mode):
            raise InputError("not_a_file", "not a regular file (a pipe, socket or device); use `-` to read stdin")
        with path.open("rb") as opened:
            prefix = opened.read(12)
        if not prefix:
            raise InputError("empty", "the file is empty (0 bytes)")
    except (FileNotFoundError, ValueError) as error:
        raise InputError("not_found", "no such file") from error
    except PermissionError as error:
        raise InputError("permission", "no permission to read it") from error
    except OSError as error:
        raise InputError("unreadable", f"cannot be read: {error.strerror or error}") from error
    return prefix


def _open_sndfile(source: str | Path | bytes, stack: contextlib.ExitStack) -> _Stream | None:
    """None where libsndfile does not know the format."""
    import soundfile

    try:
        handle = io.BytesIO(source) if isinstance(source, bytes) else str(source)
        file = stack.enter_context(soundfile.SoundFile(handle))
    except (soundfile.LibsndfileError, TypeError):
        return None

    def chunks() -> Iterator[NDArray[np.float32]]:
        while len(block := file.read(CHUNK_SECONDS * file.samplerate, dtype="float32", always_2d=True)):
            yield block.mean(axis=1, dtype=np.float32)

    return _Stream(file.samplerate, chunks())


def _checked(chunks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Turn a decoder's errors, and samples that are not numbers, into one clear line."""
    import av
    import soundfile

    try:
        for chunk in chunks:
            if not np.isfinite(chunk).all():
                raise InputError("corrupt", "it holds samples that are not numbers; export the file again")
            yield chunk
    except (soundfile.LibsndfileError, av.FFmpegError, RuntimeError) as error:
        raise InputError("corrupt", f"damaged or cut off ({error}); copy or export the file again") from error
