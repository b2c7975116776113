"""Random damage to small valid images never gives anything but an RGB image or an InputError."""

import io

import pytest
from hostile import encoded, noisy, oriented, picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from clipkit.errors import InputError
from clipkit.media.image import open_image

SMALL = noisy(40, 30)
SEEDS = {
    "jpeg": oriented(6),
    "progressive": encoded(SMALL, "JPEG", progressive=True),
    "cmyk": encoded(SMALL.convert("CMYK"), "JPEG"),
    "png": encoded(SMALL, "PNG"),
    "palette": encoded(picture().quantize(16), "PNG", transparency=bytes(16)),
    "gif": encoded(SMALL, "GIF", save_all=True, append_images=[picture(40, 30)]),
    "webp": encoded(SMALL, "WEBP"),
    "lossless": encoded(SMALL.convert("RGBA"), "WEBP", lossless=True),
    "tiff": encoded(SMALL, "TIFF"),
    "lzw": encoded(SMALL, "TIFF", compression="tiff_lzw"),
    "fax": encoded(SMALL.convert("1"), "TIFF", compression="group4"),
    "tiff-jpeg": encoded(SMALL, "TIFF", compression="jpeg"),
    "bmp": encoded(SMALL, "BMP"),
    "ico": encoded(SMALL, "ICO"),
    "ppm": encoded(SMALL, "PPM"),
    "plain": b"P3 4 4 255\n" + b" ".join(b"%d" % n for n in range(48)),
    "jp2": encoded(SMALL, "JPEG2000"),
    "avif": encoded(SMALL, "AVIF"),
    "qoi": encoded(SMALL, "QOI"),
}


@pytest.mark.parametrize("name", SEEDS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=12),
    head=st.lists(st.tuples(st.integers(0, 120), st.sampled_from([0, 1, 127, 128, 254, 255])), max_size=4),
    cut=st.floats(0.02, 1),
    insert=st.binary(max_size=8),
    at=st.floats(0, 1),
)
def test_damage_gives_an_image_or_an_input_error(name, flips, head, cut, insert, at):
    """Bytes changed anywhere and more often in the headers, bytes inserted, the end cut off."""
    data = bytearray(SEEDS[name])
    for where, value in flips:
        data[int(where * len(data))] = value
    for index, value in head:
        data[min(index, len(data) - 1)] = value
    place = int(at * len(data))
    data[place:place] = insert
    try:
        image = open_image(bytes(data[: max(1, int(cut * len(data)))]), max_pixels=4_000_000)
    except InputError as error:
        assert error.kind in {"truncated", "corrupt", "not_an_image", "unsupported", "too_large"}  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert image.mode == "RGB"
        assert 0 < image.width * image.height <= 4_000_000
        assert len(image.tobytes()) == 3 * image.width * image.height


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300))
def test_random_bytes_are_never_more_than_an_input_error(data):
    """Nothing but images and input errors, whatever the bytes."""
    try:
        assert open_image(data).mode == "RGB"
    except InputError as error:
        assert str(error)  # noqa: PT017


def test_the_seeds_are_valid():
    """Otherwise the tests above would prove nothing."""
    for data in SEEDS.values():
        assert open_image(data).mode == "RGB"
        Image.open(io.BytesIO(data)).load()
