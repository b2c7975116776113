"""PyAV as the decoder that reads everything: find the wanted packet by its timestamp, decode no more than it needs."""

from __future__ import annotations

import contextlib
import io
import math
import os
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.errors import InputError
from clipkit.media.video import PATIENCE, Frame, VideoInfo
from clipkit.media.video_packets import PacketReader, av_error, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from clipkit.media.video import Plan

MAX_PIXELS = 134_217_728
"""Width x height above which a video is refused: four times 8K UHD, 0.4 GB of RGB a frame."""

ATTACHED_PICTURE = 0x400
"""FFmpeg's flag for a cover picture stored as a video track (AV_DISPOSITION_ATTACHED_PIC)."""

SEEKABLE = {"mov", "matroska"}
"""Containers whose index makes a seek land on a keyframe before the time; elsewhere packets are read through."""

NOT_VIDEO = {"image2", "tty", "apng", "hls", "concat", "sdp"}
"""Demuxers that FFmpeg gives to pictures, texts and playlists."""

HALF_A_MILLISECOND = Fraction(1, 2000)
"""Matroska rounds timestamps to milliseconds: a frame this little after the wanted time is on screen."""

SLACK = 1.0
"""Seconds by which a file may end before its header says so, without being called truncated."""


@contextlib.contextmanager
def opened(source: Path | bytes, patience: float = PATIENCE) -> Iterator[PyavVideo]:
    """Open a file or bytes with FFmpeg; `patience` seconds for its first frame.

    Raises:
        InputError: `not_a_video`, `no_video`, `unsupported`, `too_large`, `truncated` or `corrupt`.
    """
    container = _open(source)
    try:
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        yield PyavVideo(container, source, size, patience)
    finally:
        container.close()


class PyavVideo:
    """One opened file: what it says of itself (`info`), and its frames by time.

    `lead` is how many seconds after the start of the presentation the video track begins.
    """

    def __init__(self, container: Any, source: Path | bytes, size: int, patience: float) -> None:
        """Choose the video track and read its headers and first frame."""
        self._container, self._source = container, source
        streams = [s for s in container.streams.video if not _disposition(s) & ATTACHED_PICTURE]
        if not streams:
            sound = bool(container.streams.audio)
            raise InputError(
                "no_video", "there is no video track" + (", only sound; see `clipkit audio-classify`" if sound else "")
            )
        stream = self._stream = streams[0]
        if stream.codec_context is None:
            raise InputError("unsupported", "its video codec is unknown here; convert it to H.264 first")
        self._tick: Fraction = stream.time_base
        self._origin, self.lead = self._zero()
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > MAX_PIXELS:
            raise InputError("too_large", f"{width}x{height} pixels a frame; at most {MAX_PIXELS} are accepted")
        if "mov" in container.format.name:
            _check_index(stream, size)
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = min(2, os.cpu_count() or 1)
        name = container.format.name.split(",")[0]
        self._reader = PacketReader(container, stream, seekable=name in SEEKABLE)
        first = self._reader.first(patience)
        self.info = VideoInfo(
            duration=self._duration(),
            rate=float(stream.average_rate or stream.guessed_rate or 0),
            frames=stream.frames or None,
            width=first.width,
            height=first.height,
            rotation=int(getattr(first, "rotation", 0)) % 360,
            codec=stream.codec_context.name,
            pixel_format=first.format.name,
            container=name,
        )

    def frames(self, plan: Plan, patience: float) -> Iterator[Frame]:
        """The frames on screen at the plan's times; see `clipkit.media.video.read_frames`."""
        reader = self._reader
        tolerance = min(0.5, float(HALF_A_MILLISECOND / self._tick))
        converted: tuple[Any, NDArray[np.uint8]] | None = None
        for wanted in plan(self.info):
            frame = reader.at(math.floor((wanted + self._origin) / self._tick + tolerance), patience)
            if reader.ended:
                self._check_end(wanted, reader.end)
            if converted is None or converted[0] is not frame:
                converted = (frame, upright(frame))
            yield Frame(float((stamp(frame) or 0) * self._tick) - self._origin, converted[1])

    def closed_gops(self) -> bool:
        """Whether no frame on screen before a keyframe is stored after it (decord miscounts those that are)."""
        key = None
        for packet in self._packets():
            at = stamp(packet)
            if packet.is_keyframe:
                key = at
            elif at is None or key is None or at < key:
                return False
        return True

    def _check_end(self, wanted: float, end: int) -> None:
        """A time well after the last frame means that the header promised more than the file holds."""
        last = float(end * self._tick) - self._origin
        if min(wanted, self.info.duration) > last + max(SLACK, 0.01 * last):
            raise InputError(
                "truncated",
                f"the header promises {self.info.duration:.1f} s, the data ends after {last:.1f} s; get the whole file",
            )

    def _zero(self) -> tuple[float, float]:
        start = self._stream.start_time
        begin = float(start * self._tick) if start is not None else None
        zero = self._container.start_time
        origin = zero / 1e6 if zero is not None else (begin or 0.0)
        if begin is not None and not 0 <= begin - origin <= 3600:  # a start that contradicts the track's own
            origin = begin
        return origin, (begin - origin if begin is not None else 0.0)

    def _duration(self) -> float:
        """The end of the video track: by its header, by Matroska's tag, by the only track, else by its packets."""
        if self._stream.duration:
            return self.lead + float(self._stream.duration * self._tick)
        if (tagged := _clock(self._stream.metadata.get("DURATION", ""))) > 0:
            return tagged
        if self._container.duration and len(self._container.streams) == 1:
            return float(self._container.duration / 1e6)
        return self._measured()

    def _measured(self) -> float:
        """The end of the last frame in seconds, by reading every packet and decoding none."""
        ends = ((stamp(p) or 0) + (p.duration or 0) for p in self._packets())
        return max(0.0, float(max(ends, default=0) * self._tick) - self._origin)

    def _packets(self) -> Iterator[Any]:
        with contextlib.closing(_open(self._source)) as container, contextlib.suppress(av_error()):
            for packet in container.demux(container.streams[self._stream.index]):
                if packet.size:
                    yield packet


def upright(frame: Any) -> NDArray[np.uint8]:
    """A decoded frame as (H, W, 3) uint8 RGB, its rotation metadata applied."""
    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _open(source: Path | bytes) -> Any:
    import av

    options = {"protocol_whitelist": "file"}  # a playlist must not reach the network
    opened_from = io.BytesIO(source) if isinstance(source, bytes) else os.fspath(source)
    try:
        container = av.open(opened_from, options=options, metadata_errors="replace")
    except av_error() as error:
        raise InputError(
            "not_a_video", f"not a video FFmpeg can open ({_reason(error)}); is it whole, and is it a video?"
        ) from None
    names = set(container.format.name.split(","))
    if names & NOT_VIDEO or container.format.name.endswith("_pipe"):
        container.close()
        raise InputError("not_a_video", "this is a picture or a text, not a video; `clipkit classify` takes pictures")
    return container


def _check_index(stream: Any, size: int) -> None:
    """A header written first (`faststart`) knows where the last frame's bytes lie: see that they are there."""
    entries = getattr(stream, "index_entries", ())  # since PyAV 17
    if len(entries) and (last := entries[len(entries) - 1]).pos + last.size > size:
        raise InputError(
            "truncated",
            f"the file is {size:,} bytes, its index points to byte {last.pos + last.size:,}; get the whole file",
        )


def _disposition(stream: Any) -> int:
    """The track's flags; PyAV before 18 has them as an enumeration of its own, or not at all."""
    flags = getattr(stream, "disposition", 0)
    return int(getattr(flags, "value", flags))


def _clock(text: str) -> float:
    """`00:01:02.500000000` -> 62.5; anything else -> 0."""
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return 0.0


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", "") or type(error).__name__)
