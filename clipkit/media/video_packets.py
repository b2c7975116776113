"""Decode as little as one frame needs: read packets, drop all before the wanted one's keyframe, decode the rest."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from clipkit.errors import InputError

if TYPE_CHECKING:
    from fractions import Fraction

SEEK_SECONDS = 10.0
"""A gap to the next wanted frame from which a seek is tried; below it reading on is as quick."""

MAX_QUEUE = 1000
"""Packets held undecoded in the hope of a later keyframe; more only cost memory."""


class PacketReader:
    """The frame on screen at ascending times of one video track, by presentation timestamp (pts, in ticks).

    Packets come in decoding order. One whose pts is not after the wanted time is a candidate; once the
    decoding timestamp (dts <= pts) has passed the wanted time no candidate can follow, so the latest one is
    the frame on screen, at a constant frame rate or not. What precedes the last keyframe not after the
    wanted time is dropped undecoded, and frames that no other frame refers to are skipped on the way.

    After `at`, `ended` says whether the file ended before the wanted time, and `end` (ticks) where.
    """

    def __init__(self, container: Any, stream: Any, *, seekable: bool) -> None:
        """Start where the container stands: at its beginning."""
        self.ended = False
        self.end = 0
        self._container, self._stream = container, stream
        self._tick: Fraction = stream.time_base
        self._gap = round(SEEK_SECONDS / self._tick) if seekable else None
        self._packets = container.demux(stream)
        self._queue: list[Any] = []  # read and not decoded
        self._known: list[int] = []  # stamps of packets read since the last keyframe and not yet answered
        self._ahead: list[Any] = []  # decoded and not yet answered, by stamp
        self._last: Any = None  # the last answer
        self._passed: int | None = None  # packets yet to come are not on screen before this
        self._flush = self._drained = False

    def first(self, patience: float) -> Any:
        """The first frame that can be decoded; it stays available to `at`.

        Raises:
            InputError: `corrupt` where there is none, `timeout`.
        """
        deadline = time.monotonic() + patience
        while not self._ahead:
            if not self._step():
                raise InputError("corrupt", "it holds no frame that can be decoded; is the file whole?")
            _check(deadline, patience)
        return self._ahead[0]

    def at(self, wanted: int, patience: float) -> Any:
        """The decoded frame on screen at `wanted` (ticks); the first frame where that is before it.

        Raises:
            InputError: `corrupt` where nothing can be decoded, `timeout` where that takes more than `patience` seconds.
        """
        deadline = time.monotonic() + patience
        if self._gap is not None and self._passed is not None and wanted - self._passed > self._gap and not self.ended:
            self._seek(wanted)
        self._read_past(wanted, deadline, patience)
        target = max((s for s in self._known if s <= wanted), default=None)
        if target is None:
            if self._last is not None:
                return self._last
            target = min(self._known, default=0)
        self._last = self._decoded(target, deadline, patience)
        self._known = [s for s in self._known if s > target]
        return self._last

    def _decoded(self, target: int, deadline: float, patience: float) -> Any:
        best = self._last
        while True:
            while self._ahead and (stamp(self._ahead[0]) or 0) <= target:
                best = self._ahead.pop(0)
            if (best is not None and stamp(best) == target) or self._ahead or not self._step(target):
                break
            _check(deadline, patience)
        if best is None and self._ahead:  # damaged before it: the nearest frame there is
            best = self._ahead[0]
        if best is None:
            raise InputError("corrupt", "it holds no frame that can be decoded; is the file whole?")
        return best

    def _read_past(self, wanted: int, deadline: float, patience: float) -> None:
        while not self.ended and (self._passed is None or self._passed <= wanted):
            packet = self._next()
            if packet is None:
                return
            at = stamp(packet)
            if packet.is_keyframe and at is not None and at <= wanted:
                self._queue, self._known, self._ahead = [], [], []
                self._flush = True
            self._keep(packet)
            if packet.dts is not None:
                self._passed = packet.dts
            elif packet.is_keyframe and at is not None and at > wanted:
                self._passed = at
            while len(self._queue) > MAX_QUEUE:
                self._feed(self._queue.pop(0))
                while len(self._ahead) > 1 and (stamp(self._ahead[1]) or 0) <= wanted:
                    self._ahead.pop(0)
            _check(deadline, patience)

    def _step(self, target: int | None = None) -> bool:
        """Give the decoder one packet more, or at the file's end its last word; False when it has none."""
        if not self._queue and not self.ended and (packet := self._next()) is not None:
            self._keep(packet)
        if self._queue:
            packet = self._queue.pop(0)
            at = stamp(packet)
            self._feed(packet, spare=target is not None and at is not None and at < target)
            return True
        if self._drained:
            return False
        self._feed(None)
        self._drained = True
        return True

    def _feed(self, packet: Any | None, *, spare: bool = False) -> None:
        """Decode one packet; `spare`: its frame is not wanted, so skip it where no other frame needs it."""
        context = self._stream.codec_context
        if self._flush:
            context.flush_buffers()
            self._flush = False
        context.skip_frame = "NONREF" if spare else "DEFAULT"
        try:
            frames = context.decode(packet)
        except av_error():
            return  # one damaged packet; `corrupt` is told where no frame comes at all
        self._ahead += [f for f in frames if stamp(f) is not None]

    def _next(self) -> Any | None:
        try:
            packet = next(self._packets)
        except (StopIteration, av_error()):
            self.ended = True
            return None
        if not packet.size:  # PyAV's flush packet closes the stream
            self.ended = True
            return None
        return packet

    def _keep(self, packet: Any) -> None:
        self._queue.append(packet)
        at = stamp(packet)
        if at is not None and not packet.is_discard:
            self._known.append(at)
            self.end = max(self.end, at + (packet.duration or 0))

    def _seek(self, wanted: int) -> None:
        """Jump to the last keyframe a second or more before `wanted`; never again where that brought nothing."""
        before = self._passed
        try:
            self._container.seek(wanted - round(1 / self._tick), stream=self._stream, backward=True)
        except av_error():
            self._gap = None
            return
        self._packets = self._container.demux(self._stream)
        self._queue, self._known, self._ahead, self._flush, self._passed = [], [], [], True, None
        packet = self._next()
        at = None if packet is None else stamp(packet)
        if packet is None or at is None or at > wanted:  # an index that lies: go through the whole file instead
            self._gap, self.ended = None, False
            self._container.seek(self._stream.start_time or 0, stream=self._stream, backward=True)
            self._packets = self._container.demux(self._stream)
            return
        self._keep(packet)
        self._passed = packet.dts
        if before is not None and at <= before:
            self._gap = None


def stamp(item: Any) -> int | None:
    """A packet's or frame's presentation timestamp in ticks; AVI knows only the decoding timestamp."""
    value: int | None = item.pts if item.pts is not None else item.dts
    return value


def av_error() -> type[Exception]:
    """FFmpeg's errors, without importing PyAV before it is needed."""
    import av

    return av.FFmpegError  # type: ignore[no-any-return]


def _check(deadline: float, patience: float) -> None:
    if time.monotonic() > deadline:
        raise InputError(
            "timeout", f"no wanted frame within {patience:.0f} s of decoding; convert it to H.264 in MP4 first"
        )
