"""decord where it is installed and reads a format right; everything else is PyAV's."""

from __future__ import annotations

import importlib.util
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.errors import InputError
from clipkit.media.video import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from clipkit.media.video import VideoInfo

# Measured with decord 0.6.0: equal to PyAV pixel for pixel on these; 10-bit colour differs by up to 34 levels,
# AV1 is not opened, transport streams stop at the first frame, AVI gives wrong timestamps and frames.
CODECS = {"h264", "hevc", "vp8", "vp9", "mpeg4"}
CONTAINERS = {"mov", "matroska"}
PIXEL_FORMATS = {"yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p"}

HALF_A_MILLISECOND = 0.0005
BATCH = 16

_hung = threading.Event()


@cache
def installed() -> bool:
    """Whether decord can be imported (it has wheels for x86-64 Linux and Windows only)."""
    if importlib.util.find_spec("decord") is None:
        return False
    try:
        _decord()
    except (ImportError, OSError, RuntimeError):
        return False
    return True


def able(info: VideoInfo) -> bool:
    """Whether decord is installed and known to read such a file as PyAV does."""
    return (
        info.codec in CODECS
        and info.container in CONTAINERS
        and info.pixel_format in PIXEL_FORMATS
        and info.rotation == 0
        and not _hung.is_set()
        and installed()
    )


def frames(path: Path, times: Sequence[float], *, lead: float, patience: float) -> Iterator[Frame] | None:
    """The frames on screen at ascending times, or None where decord fails on the file and PyAV must answer.

    Args:
        path: the file.
        times: seconds from the start of the presentation.
        lead: seconds from there to the first frame (decord counts from the first frame).
        patience: seconds without an answer after which decord is not asked again in this process (it can
            wait for ever for frames that a header invented).
    """
    wanted = np.asarray(times, np.float64) - lead
    opened = _bounded(lambda: _open(path), patience)
    if opened is None:
        return None
    reader, stamps = opened
    if not len(stamps) or (
        len(wanted) and wanted[-1] > stamps[-1] + 1.0
    ):  # PyAV tells a truncated file from a long frame
        return None
    indices = np.maximum(np.searchsorted(stamps, wanted + HALF_A_MILLISECOND, side="right") - 1, 0)
    # The first batch decides who answers, so that no file is read half by one decoder and half by the other.
    chunks = [indices[i : i + BATCH] for i in range(0, len(indices), BATCH)]
    if not chunks:
        return iter(())
    batch = _bounded(lambda: _batch(reader, chunks[0]), patience)
    return None if batch is None else _rest(reader, stamps, chunks, batch, lead, patience)


def _rest(reader: Any, stamps: Any, chunks: list[Any], batch: Any, lead: float, patience: float) -> Iterator[Frame]:
    for number, chunk in enumerate(chunks):
        pixels = batch if number == 0 else _bounded(lambda indices=chunk: _batch(reader, indices), patience)
        if pixels is None:
            raise InputError("corrupt", "decord stopped within the file; try --decoder pyav")
        for index, image in zip(chunk, pixels, strict=True):
            yield Frame(float(stamps[index]) + lead, image)


def _open(path: Path) -> tuple[Any, Any]:
    reader = _decord().VideoReader(str(path), num_threads=2)
    stamps = reader.get_frame_timestamp(list(range(len(reader))))[:, 0]
    return reader, stamps.astype(np.float64)


def _batch(reader: Any, indices: Any) -> Any:
    return reader.get_batch([int(i) for i in indices]).asnumpy()


def _bounded(work: Any, patience: float) -> Any:
    """What `work` returns, or None where it fails or takes longer than `patience` (the thread is abandoned)."""
    box: list[Any] = []

    def call() -> None:
        try:
            box.append(work())
        except Exception:  # noqa: BLE001  decord raises whatever its C++ side finds; PyAV then says what is wrong
            box.append(None)

    thread = threading.Thread(target=call, daemon=True, name="clipkit-decord")
    thread.start()
    thread.join(patience)
    if not box:
        _hung.set()
        return None
    return box[0]


@cache
def _decord() -> Any:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    return decord
