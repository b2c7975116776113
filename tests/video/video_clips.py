"""Test films: every frame carries its own number as a bar code, so that a decoded frame says which one it is."""

from fractions import Fraction

import av
import numpy as np

BITS = 12
FAST = {
    "libx264": {"preset": "ultrafast", "x264-params": "log-level=none:bframes=2:keyint=24:b-adapt=0"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:bframes=2:keyint=24:b-adapt=0"},
    "libvpx-vp9": {"cpu-used": "8", "deadline": "realtime", "g": "24"},
    "libsvtav1": {"preset": "12", "svtav1-params": "keyint=24"},
}


def picture(number, width=192, height=128):
    """A gradient with `number` written as BITS black or white blocks over the lower third."""
    yy, xx = np.mgrid[:height, :width]
    image = np.stack([xx * 255 // width, yy * 255 // height, np.full_like(xx, number * 7 % 256)], -1).astype(np.uint8)
    block = width // BITS
    for bit in range(BITS):
        image[height - height // 3 :, bit * block : (bit + 1) * block] = 255 * (number >> bit & 1)
    return image


def number_of(pixels):
    """The number a decoded frame carries."""
    height, width = pixels.shape[:2]
    block = width // BITS
    row = height - height // 6
    return sum(
        1 << bit
        for bit in range(BITS)
        if pixels[row, bit * block + block // 4 : (bit + 1) * block - block // 4].mean() > 127
    )


def film(
    path, times, codec="libx264", *, size=(192, 128), tick=Fraction(1, 90000), rotate=0, pixel_format="yuv420p",
    options=None, container=None, sound=0.0, draw=picture, container_options=None,
):  # fmt: skip
    """Encode frames 0, 1, ... shown at `times` (seconds), with `sound` seconds of silence beside them."""
    with av.open(str(path), "w", format=container, options=container_options or {}) as out:
        stream = out.add_stream(codec, rate=30, options=FAST.get(codec, {}) | (options or {}))
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        stream.time_base = stream.codec_context.time_base = tick
        if rotate:
            stream.set_display_rotation(rotate)
        audio = out.add_stream("aac" if "webm" not in str(path) else "libopus", rate=48000) if sound else None
        for number, at in enumerate(times):
            frame = av.VideoFrame.from_ndarray(draw(number, *size), format="rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base = round(at / tick), tick
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if audio is not None:
            step = audio.codec_context.frame_size or 960
            for start in range(0, int(sound * 48000), step):
                silence = av.AudioFrame.from_ndarray(np.zeros((2, step), np.float32), format="fltp", layout="stereo")
                silence.sample_rate, silence.pts, silence.time_base = 48000, start, Fraction(1, 48000)
                out.mux(audio.encode(silence))
            out.mux(audio.encode())
    return path


def steady(count, rate=30):
    """Timestamps at a constant frame rate."""
    return [number / rate for number in range(count)]


def unsteady(count, seed=0):
    """Timestamps whose gaps range from 1/60 s to 1.5 s, as screen recordings have them."""
    gaps = np.random.default_rng(seed).choice([1 / 60, 1 / 30, 0.1, 0.4, 1.5], count, p=[0.3, 0.4, 0.2, 0.07, 0.03])
    return [float(t) for t in np.cumsum(gaps) - gaps[0]]
