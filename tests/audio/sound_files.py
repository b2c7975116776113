"""Small sound files made on the spot: no recording is kept in the repository."""

from fractions import Fraction

import numpy as np

RATE = 16_000


def tone(seconds: float, rate: int = RATE, hertz: float = 440.0, level: float = 0.5) -> np.ndarray:
    """A sine of `seconds`, float32."""
    t = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hertz * t)).astype(np.float32)


def sweep(seconds: float, rate: int = RATE, level: float = 0.5) -> np.ndarray:
    """A tone that rises from 100 Hz to 3 kHz: every stretch of it differs from every other."""
    t = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * (100 * t + (2900 / (2 * seconds)) * t**2))).astype(np.float32)


def encode(path, samples: np.ndarray, rate: int, codec: str, *, picture: bool = False) -> None:
    """Write (T,) or (C, T) float samples through FFmpeg; `picture` adds a small video track."""
    import av

    samples = np.atleast_2d(samples).astype(np.float32)
    layout = {1: "mono", 2: "stereo"}[len(samples)]
    with av.open(str(path), "w") as container:
        track = container.add_stream(codec, rate=rate, layout=layout)
        video = None
        if picture:
            video = container.add_stream("mpeg4", rate=5)
            video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
            for _ in range(int(samples.shape[1] / rate * 5)):
                frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
                container.mux(video.encode(frame))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(track.encode(frame))
        container.mux(track.encode(None))
        if video is not None:
            container.mux(video.encode(None))
