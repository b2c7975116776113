"""Video files -> the frames on screen at given times: by timestamp and never by frame index, whichever decoder reads them."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clipkit.errors import InputError, ModelUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Plan = Callable[["VideoInfo"], Sequence[float]]

Decoder = Literal["auto", "pyav", "decord"]

PATIENCE = 60.0
"""Seconds of decoding without reaching the next wanted frame after which a file is given up."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a file says of its video track. Times are seconds from the start of the file's presentation.

    `rate` is the average in frames a second, `frames` the header's count or None where it has none (WebM),
    `width` and `height` are as stored, before `rotation` (degrees counter-clockwise) is applied.
    """

    duration: float
    rate: float
    frames: int | None
    width: int
    height: int
    rotation: int
    codec: str
    pixel_format: str
    container: str


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame, upright: (H, W, 3) uint8 RGB, and the time in seconds at which it comes on screen."""

    time: float
    pixels: NDArray[np.uint8]


def probe(source: str | os.PathLike[str] | bytes) -> VideoInfo:
    """Read the headers (and one frame, for the rotation).

    Raises:
        InputError: as `read_frames`.
    """
    from clipkit.media import video_pyav

    with video_pyav.opened(_checked(source)) as video:
        return video.info


def read_frames(
    source: str | os.PathLike[str] | bytes,
    plan: Plan,
    *,
    decoder: Decoder = "auto",
    patience: float = PATIENCE,
) -> Iterator[Frame]:
    """The frames on screen at the times a plan asks for, one for each, in the plan's (ascending) order.

    The frame at time t is the last one whose timestamp is not after t; a time before the first frame gives
    the first. Only the frames asked for are converted to RGB. Both decoders give the same pixels (a test).

    Args:
        source: a path, or a file's bytes.
        plan: told what the file is, gives ascending times in seconds (see `clipkit.video.sampling`).
        decoder: `auto` and `pyav` read with PyAV; `decord` with decord where it gives the right frames, and
            with PyAV elsewhere. Measured with decord 0.6.0, PyAV is the faster one (see docs/retrieve-video.md).
        patience: seconds of decoding without reaching the next wanted frame after which the file is given up.

    Raises:
        InputError: with kind `not_found`, `permission`, `is_directory`, `not_a_file`, `unreadable`, `empty`,
            `not_a_video`, `no_video`, `unsupported`, `too_large`, `truncated`, `corrupt` or `timeout`. The
            message does not repeat the file's name.
        ModelUnavailableError: decord is asked for by name and not installed.
    """
    from clipkit.media import video_decord, video_pyav

    checked = _checked(source)
    if decoder == "decord" and not video_decord.installed():
        raise ModelUnavailableError("decord is not installed; `pip install decord`, or use --decoder pyav")
    with video_pyav.opened(checked, patience) as video:
        if decoder == "decord" and isinstance(checked, Path) and video_decord.able(video.info) and video.closed_gops():
            frames = video_decord.frames(checked, plan(video.info), lead=video.lead, patience=patience)
            if frames is not None:
                yield from frames
                return
        yield from video.frames(plan, patience)


def _checked(source: str | os.PathLike[str] | bytes) -> Path | bytes:
    if isinstance(source, bytes):
        if not source:
            raise InputError("empty", "no bytes arrived")
        return source
    path = Path(source)
    try:
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode) and not os.access(path, os.R_OK):
            raise InputError("permission", "permission denied; check the file's rights")
    except FileNotFoundError:
        raise InputError("not_found", "no such file") from None
    except OSError as error:
        raise InputError("unreadable", f"cannot be read: {error.strerror or error}") from None
    if stat.S_ISDIR(status.st_mode):
        raise InputError("is_directory", "this is a folder, not a video")
    if not stat.S_ISREG(status.st_mode):
        raise InputError("not_a_file", "this is no regular file; a video must be seekable")
    if status.st_size == 0:
        raise InputError("empty", "the file is empty (0 bytes)")
    return path
