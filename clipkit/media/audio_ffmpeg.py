"""The sound of whatever FFmpeg can open (m4a, MP3, videos), through PyAV, a few seconds at a time."""

from __future__ import annotations

import io
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.errors import InputError

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

CHUNK_SECONDS = 8
BROKEN_SHARE = 0.1
"""Of a stream's packets, how many may be damaged; a cut MP3 often has one bad at either end."""


def open_ffmpeg(
    source: str | Path | bytes, stack: contextlib.ExitStack, *, known: bool
) -> tuple[int, Iterator[NDArray[np.float32]]]:
    """The first audio track: its sample rate, and (T,) float32 chunks, the mean of the channels.

    Args:
        source: a path, or a file's bytes.
        stack: closes the file.
        known: the file begins like a sound file, so what cannot be opened is damaged and no stranger.

    Raises:
        InputError: `not_audio`, `corrupt` or `no_audio`. A stream that is damaged on the way raises PyAV's errors.
    """
    import av

    stranger = InputError("not_audio", "not a sound or video file that can be decoded; convert it to WAV")
    if known:
        stranger = InputError("corrupt", "damaged or cut off at its beginning; copy or export the file again")
    # a playlist or a session description must reach neither the network nor, from stdin, other files
    allowed = {"protocol_whitelist": "none" if isinstance(source, bytes) else "file"}
    handle = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    try:
        container = stack.enter_context(av.open(handle, options=allowed, metadata_errors="ignore"))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise stranger from error
    if not container.streams.audio:
        if container.streams.video:
            raise InputError("no_audio", "it has pictures but no audio track; give a file with sound")
        raise stranger
    track = container.streams.audio[0]
    if track.codec_context is None or not track.rate or not track.layout.nb_channels:
        raise stranger
    # only the sample format changes here, and whatever a stream changes midway comes back to how it began
    to_float = av.AudioResampler(format="fltp", layout=track.layout, rate=track.rate)
    return int(track.rate), _chunks(_frames(container, track), to_float, int(track.rate))


def _frames(container: Any, track: Any) -> Iterator[Any]:
    """Decoded frames; a few damaged packets are passed over, many raise the first one's error at the end."""
    import av

    good = 0
    errors: list[av.InvalidDataError] = []
    for packet in container.demux(track):
        try:
            yield from packet.decode()
            good += 1
        except av.InvalidDataError as error:
            errors.append(error)
    if len(errors) > max(2, BROKEN_SHARE * good):
        raise errors[0]


def _chunks(frames: Iterator[Any], to_float: Any, rate: int) -> Iterator[NDArray[np.float32]]:
    held: list[NDArray[np.float32]] = []
    count = 0
    for frame in itertools.chain(frames, [None]):  # None empties the converter
        for part in to_float.resample(frame):
            held.append(part.to_ndarray().mean(axis=0, dtype=np.float32))
            count += len(held[-1])
        if count >= CHUNK_SECONDS * rate:
            yield np.concatenate(held)
            held, count = [], 0
    if held:
        yield np.concatenate(held)
