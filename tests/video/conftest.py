"""Films made once for the whole folder."""

import logging

import pytest
from video_clips import film, steady, unsteady

logging.getLogger("libav").setLevel(logging.CRITICAL)

FILMS = {
    "cfr-h264.mp4": ("libx264", steady(90)),
    "vfr-h264.mp4": ("libx264", unsteady(90)),
    "cfr-hevc.mp4": ("libx265", steady(90)),
    "vfr-hevc.mkv": ("libx265", unsteady(90)),
    "cfr-vp9.webm": ("libvpx-vp9", steady(90)),
    "vfr-vp9.webm": ("libvpx-vp9", unsteady(90)),
    "cfr-av1.mp4": ("libsvtav1", steady(90)),
    "vfr-av1.webm": ("libsvtav1", unsteady(90)),
    "vfr-h264.ts": ("libx264", unsteady(90)),
}


@pytest.fixture(scope="session")
def films(tmp_path_factory):
    """A function: the name of one of FILMS -> its path and true timestamps, encoded when first asked for."""
    folder = tmp_path_factory.mktemp("films")
    made = {}

    def get(name):
        if name not in made:
            codec, times = FILMS[name]
            made[name] = film(folder / name, times, codec), times
        return made[name]

    return get
