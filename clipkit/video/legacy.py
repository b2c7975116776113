"""CLIP4Clip's own frame seek, for exact comparison with published numbers: by index, through OpenCV."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.errors import InputError
from clipkit.media.video import Frame, probe
from clipkit.video.sampling import thinned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from clipkit.media.video import Plan
    from clipkit.video.sampling import Sampling


def read_by_index(source: Path | bytes, plan: Plan, sampling: Sampling) -> Iterator[Frame]:
    """The frames `RawVideoExtractorCV2` of the CLIP4Clip code reads, at the times it believes they have.

    With `fps` truncated to an integer, second s starts at frame `s * fps` whatever the timestamps say, so on a
    variable frame rate the pictures are from elsewhere (up to 11 s in a minute, measured).

    Raises:
        InputError: as `read_frames`; bytes are not supported, OpenCV needs a file.
    """
    if isinstance(source, bytes):
        raise InputError("unsupported", "--sampling clip4clip-index reads files only, not stdin")
    plan(probe(source))  # the same checks and the same words for files that are no use
    import cv2

    video = cv2.VideoCapture(os.fspath(source))
    try:
        fps, count = int(video.get(cv2.CAP_PROP_FPS)), int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        if fps < 1 or count < 1:
            raise InputError("unsupported", "OpenCV finds no frame rate or frame count here; use --sampling fps")
        per_second = max(1, int(sampling.fps))
        offsets = np.arange(0, fps, max(1, fps // per_second))[:per_second]
        wanted = _readable(video, fps, count, offsets)
        keep = thinned(len(wanted), sampling.frames)
        if not keep:
            raise InputError("corrupt", "OpenCV decodes no frame; use --sampling fps")
        for number in keep:
            index = wanted[number]
            video.set(cv2.CAP_PROP_POS_FRAMES, index)
            ok, image = video.read()
            if not ok:
                raise InputError("corrupt", f"OpenCV cannot decode frame {index}; use --sampling fps")
            yield Frame(index / fps, np.ascontiguousarray(image[..., ::-1]))
    finally:
        video.release()


def _readable(video: Any, fps: int, count: int, offsets: NDArray[np.int64]) -> list[int]:
    """The frame numbers the authors' loop reaches: second by second until a read fails, wherever that is."""
    import cv2

    seconds = (count + fps - 1) // fps
    reached: list[int] = []
    for second in range(seconds + 1):
        for offset in offsets.tolist():
            video.set(cv2.CAP_PROP_POS_FRAMES, second * fps + offset)
            if not video.grab():
                return reached
            reached.append(second * fps + offset)
    return reached
