"""Which moments of a video to look at: times in seconds, so that a variable frame rate shifts nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from clipkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clipkit.media.video import VideoInfo

Method = Literal["fps", "segments", "clip4clip-index"]

MOMENT_FRAMES = 64
"""CLIP4Clip's frames for long videos; enough for a moment to be told from its neighbours."""

SHORT_FRAMES = 8
"""What an index looks at in a clip of less than eight seconds."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """A rule for choosing frames.

    Attributes:
        method: `fps`: one frame each 1/fps seconds from the start, thinned evenly to at most `frames`
            (CLIP4Clip, section 4.1, by time). `segments`: the middles of `frames` equal parts (TSN; ActionCLIP's
            validation sampling). `clip4clip-index`: the CLIP4Clip authors' seek by frame index with OpenCV,
            kept for exact comparison; on a variable frame rate it looks at the wrong times.
        fps: frames a second for `fps` and `clip4clip-index`.
        frames: at most (`segments`: exactly) so many; None, for `fps` only, keeps all.
        least: `fps` looks at a video that is shorter at so many evenly spread times all the same: one frame says
            little of a clip of a second. 1 is the paper's rule.
    """

    method: Method = "fps"
    fps: float = 1.0
    frames: int | None = MOMENT_FRAMES
    least: int = 1

    def __post_init__(self) -> None:
        """Refuse what gives no frame."""
        if not self.fps > 0 or (self.frames is not None and self.frames < 1):
            raise UsageError(f"frames are sampled at more than 0 a second and at least 1 a video, not {self}")
        if self.frames is None and self.method != "fps":
            raise UsageError(f"--sampling {self.method} needs a number of frames")

    @property
    def key(self) -> str:
        """Changes whenever other frames would be chosen."""
        parts = [self.method, str(self.frames or "all")]
        if self.method != "segments":
            parts.append(f"{self.fps:g}fps")
        if self.method == "fps" and self.least > 1:
            parts.append(f"least{self.least}")
        return "-".join(parts)

    def times(self, info: VideoInfo) -> list[float]:
        """Ascending times in seconds for a video; a plan for `read_frames`."""
        if self.method == "segments":
            assert self.frames is not None
            return segment_centres(0.0, info.duration, self.frames, info.rate)
        count = max(1, int(np.ceil(info.duration * self.fps - 1e-6)))
        least = min(self.least, self.frames or self.least)
        if count < least:
            return [k * info.duration / least for k in range(least)]
        return [float(k) / self.fps for k in thinned(count, self.frames)]


def thinned(count: int, most: int | None) -> Sequence[int]:
    """`range(count)`, or `most` of it evenly spread with both ends (CLIP4Clip's `slice_framepos` 2)."""
    if most is None or count <= most:
        return range(count)
    return [int(k) for k in np.linspace(0, count - 1, num=most, dtype=int)]


def segment_centres(start: float, end: float, count: int, rate: float) -> list[float]:
    """The middles of `count` equal parts of [start, end), half a frame early as TSN's frame arithmetic has it.

    For n frames at a constant rate these are the frames `floor(i n/count + (n/count - 1)/2)`; a stretch with
    fewer frames than parts repeats frames, `floor(i n/count)` (TSN, section 3.1; ActionCLIP `_get_val_indices`).
    """
    span = max(0.0, end - start)
    frames = span * rate
    if rate > 0 and round(frames) <= count:
        offset = 0.25 / rate  # inside the frame floor(i n/count), clear of its edges
        return [start + np.floor(i * round(frames) / count + 1e-9) / rate + offset for i in range(count)]
    half = 0.5 / rate if rate > 0 else 0.0
    quarter = 0.5 * half
    # floor() of the authors' frame number, then a quarter frame inside it: no rounding can reach a neighbour.
    if half:
        return [start + np.floor((i + 0.5) * frames / count - 0.5 + 1e-9) / rate + quarter for i in range(count)]
    return [start + (i + 0.5) * span / count for i in range(count)]


def windows(duration: float, window: float, hop: float) -> list[tuple[float, float]]:
    """[start, end) stretches of `window` seconds, `hop` apart, that cover a video; the last is moved to end with it.

    A video shorter than one window is one window of its own length.
    """
    if not window > 0 or not 0 < hop <= window:
        raise UsageError(f"a window needs a positive length and a hop not longer than it, not {window} and {hop}")
    if duration <= window:
        return [(0.0, duration)]
    count = int(np.ceil((duration - window) / hop - 1e-6)) + 1
    starts = [min(k * hop, duration - window) for k in range(count)]
    return [(start, start + window) for start in starts]
