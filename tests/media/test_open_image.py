"""Any picture to upright RGB: orientation, transparency, depths, colour spaces, limits, and named errors."""

import io
import os
import struct
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hostile import ORIENTATIONS, encoded, noisy, oriented, picture, png, png_chunk
from PIL import Image, ImageFile

from clipkit.errors import InputError
from clipkit.media.image import _draft_scale, open_image
from clipkit.media.paths import Source
from clipkit.media.pixels import by_range


def pixels(image):
    assert image.mode == "RGB"
    return np.asarray(image).astype(np.int16)


def difference(a, b):
    assert a.size == b.size
    return float(np.abs(pixels(a) - pixels(b)).mean())


def kind_of(data, **options):
    with pytest.raises(InputError) as caught:
        open_image(data, **options)
    assert "\n" not in str(caught.value)
    return caught.value.kind


@pytest.mark.parametrize("fmt", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_lossless_orientations_give_the_very_same_pixels(fmt, orientation):
    """The picture does not depend on how the camera was held."""
    image = picture()
    assert np.array_equal(pixels(open_image(oriented(orientation, fmt, image))), pixels(image))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_jpeg_orientations_give_one_picture(orientation):
    """The same within what JPEG loses."""
    assert difference(open_image(oriented(orientation)), picture()) < 3


def test_orientation_is_applied_once():
    """What comes out carries no tag that a later reader could apply again."""
    image = open_image(oriented(6))
    assert image.getexif().get(0x0112, 1) == 1
    assert image.info == {}
    assert not isinstance(image, ImageFile.ImageFile)


def test_orientation_works_with_damaged_and_late_exif():
    """A damaged block means as it is; PNG may carry its block after the pixels."""
    assert open_image(encoded(picture(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")).size == (48, 32)
    exif = Image.Exif()
    exif[0x0112] = 6
    image = picture()
    rows = b"".join(b"\0" + row.tobytes() for row in np.asarray(image))
    late = png(48, 32, __import__("zlib").compress(rows), after=png_chunk(b"eXIf", exif.tobytes()[6:]))
    assert open_image(late).size == (32, 48)


@pytest.mark.parametrize("fmt", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_composited_over_white(fmt):
    """out = alpha * colour + (1 - alpha) * white, worked out per pixel."""
    image = picture().convert("RGBA")
    alpha = np.tile(np.arange(48, dtype=np.uint8) * 5, (32, 1))
    image.putalpha(Image.fromarray(alpha))
    options = {"lossless": True, "exact": True} if fmt == "WEBP" else {}
    a = alpha[..., None] / 255
    expected = a * pixels(picture()) + (1 - a) * 255
    assert np.abs(pixels(open_image(encoded(image, fmt, **options))) - expected).max() <= 1


def test_alpha_in_bands_leaves_no_seam():
    """Pictures taller than a band are composited as one."""
    image = Image.new("RGBA", (3, 1500), (0, 0, 0, 128))
    out = pixels(open_image(encoded(image, "PNG")))
    assert out.shape == (1500, 3, 3)
    assert out.min() == out.max() == 127


def test_transparent_palettes_keys_and_grey_turn_white():
    """A fully transparent pixel shows the white behind it, in every way a file can say so."""
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    grey = Image.new("LA", (4, 4), (7, 0))
    keyed = Image.new("RGB", (4, 4), (1, 2, 3))
    for data in (
        encoded(palette, "PNG", transparency=1),
        encoded(palette, "PNG", transparency=bytes([255, 0])),
        encoded(palette, "GIF", transparency=1),
        encoded(grey, "PNG"),
        encoded(keyed, "PNG", transparency=(1, 2, 3)),
        encoded(Image.new("L", (4, 4), 9), "PNG", transparency=9),
    ):
        assert (pixels(open_image(data)) == 255).all()
    assert (pixels(open_image(encoded(palette, "PNG"))) == [10, 20, 30]).all()


def test_16_bit_is_scaled_and_not_clipped():
    """The upper byte of each sample, for grey in PNG, TIFF and PGM alike."""
    wide = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    expected = np.repeat((wide >> 8).astype(np.int16)[..., None], 3, -1)
    for data in (encoded(Image.fromarray(wide), "PNG"), encoded(Image.fromarray(wide), "TIFF")):
        assert np.array_equal(pixels(open_image(data)), expected)
    pgm = b"P5 8 8 65535\n" + wide.astype(">u2").tobytes()
    assert np.abs(pixels(open_image(pgm)) - expected).max() <= 1


def test_16_bit_colour_keeps_the_upper_byte():
    """A hand-made 16-bit RGB PNG."""
    import zlib

    wide = np.linspace(0, 65535, 4 * 4 * 3).astype(">u2").reshape(4, 4, 3)
    data = png(4, 4, zlib.compress(b"".join(b"\0" + row.tobytes() for row in wide)), depth=16)
    assert np.array_equal(pixels(open_image(data)), (wide >> 8).astype(np.int16))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.4, 255.0], [0, 100, 255]),
        ([0.0, 257.0, 65535.0], [0, 1, 255]),
        ([-10.0, 0.0, 10.0], [0, 128, 255]),
        ([0.0, np.nan, np.inf, 1.0], [0, 0, 0, 255]),
        ([5e9, 5e9], [0, 0]),
        ([np.nan], [0]),
    ],
)
def test_floats_are_read_by_their_range(values, expected):
    """[0, 1], [0, 255], [0, 65535], else stretched; nothing that is not a number survives."""
    assert by_range(np.array([values], np.float32))[0].tolist() == expected


def test_float_and_32_bit_tiffs_open():
    """The rule above, through files."""
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    for data in (
        encoded(Image.fromarray(ramp), "TIFF"),
        encoded(Image.fromarray((ramp * 1e6 - 9).astype(np.int32)), "TIFF"),
    ):
        out = pixels(open_image(data))
        assert out.min() == 0
        assert out.max() == 255
        assert np.abs(out[..., 0] - ramp * 255).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB"])
def test_colour_spaces_come_out_as_the_same_picture(mode):
    """Every mode a TIFF can hold, against Pillow's own conversion of the same pixels back."""
    image = picture()
    stored = image.quantize(64) if mode == "P" else image.convert(mode)
    fmt = "PNG" if mode == "P" else "TIFF"
    tolerance = {"1": 130, "L": 60, "P": 12, "CMYK": 1, "YCbCr": 2, "LAB": 25}[mode]
    out = open_image(encoded(stored, fmt))
    assert difference(out, image) < tolerance
    if mode != "LAB":
        assert difference(out, stored.convert("RGB")) < 1


def test_cmyk_jpegs_with_and_without_adobes_inversion():
    """Pillow writes an Adobe marker and inverted inks; without the marker the same data means the opposite."""
    image = picture()
    adobe = encoded(image.convert("CMYK"), "JPEG", quality=95)
    assert difference(open_image(adobe), image) < 4
    at = adobe.index(b"\xff\xee")
    length = struct.unpack(">H", adobe[at + 2 : at + 4])[0]
    plain = adobe[:at] + adobe[at + 2 + length :]
    assert difference(open_image(plain), Image.open(io.BytesIO(plain)).convert("RGB")) == 0


@pytest.mark.parametrize("fmt", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_is_taken(fmt):
    """An animation is its first picture."""
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    options = {"lossless": True} if fmt == "WEBP" else {}
    data = encoded(first, fmt, save_all=True, append_images=[second], **options)
    assert (pixels(open_image(data)) == [255, 0, 0]).all()


def test_the_size_limit_is_checked_from_the_header(monkeypatch):
    """A picture over the limit is refused before one pixel is decoded, and the message names the flag."""
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    data = encoded(picture(), "PNG")
    with pytest.raises(InputError, match=r"48 x 32 .*--max-pixels 1536") as caught:
        open_image(data, max_pixels=1535)
    assert caught.value.kind == "too_large"
    assert kind_of(png(60000, 60000, b"")) == "too_large"


def test_the_size_limit_is_ours_and_not_pillows(monkeypatch):
    """`--max-pixels` means what it says: Pillow's warning and error limits do not interfere."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert open_image(encoded(picture(), "PNG")).size == (48, 32)
    assert open_image(encoded(picture(), "JPEG")).size == (48, 32)
    assert kind_of(encoded(picture(), "WEBP")) == "too_large"  # libwebp's canvas is Pillow's own affair


def test_pixel_limits_of_pillow_are_left_alone():
    """Another user of Pillow in the same process sees no change."""
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    open_image(encoded(picture(), "JPEG"))
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == before == (Image.MAX_IMAGE_PIXELS, False)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM", "AVIF", "JPEG2000", "QOI", "TIFF"])
def test_a_cut_file_is_named_and_never_half_grey(name):
    """Cut anywhere: either every pixel is as in the whole file, or it is an error, and mostly `truncated`."""
    data = encoded(noisy(64, 48), name)
    whole = pixels(open_image(data))
    kinds = []
    for end in sorted({*range(40, len(data), max(1, len(data) // 60)), len(data) - 1, len(data) - 2, len(data) - 12}):
        try:
            assert np.array_equal(pixels(open_image(data[:end])), whole), end
        except InputError as error:
            kinds.append(error.kind)
    assert len(kinds) >= 40
    assert kinds.count("truncated") >= 0.8 * len(kinds), kinds


def test_a_download_into_a_file_of_full_size_is_cut_too():
    """Zeros in the place of what is missing are told; zeros after a whole picture, as cameras write them, are fine."""
    data = encoded(noisy(), "JPEG", comment=b"a thumbnail's end marker: \xff\xd9")
    assert data.index(b"\xff\xd9") < len(data) // 2
    assert kind_of(data[: len(data) // 2] + bytes(len(data) // 2)) == "truncated"
    whole = pixels(open_image(data))
    assert np.array_equal(pixels(open_image(data + bytes(5000))), whole)
    assert np.array_equal(pixels(open_image(data + b"a film" * 99 + bytes(5000))), whole)


def test_a_progressive_file_of_endless_scans_is_refused():
    """Every scan passes over every block, so thousands of them would take minutes."""
    data = encoded(picture(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    many = data[:-2] + data[last:-2] * 300 + b"\xff\xd9"
    assert kind_of(many) == "unsupported"
    assert open_image(data[:-2] + data[last:-2] * 20 + b"\xff\xd9").size == (48, 32)


def test_files_that_are_not_there_or_not_files(tmp_path):
    """Each has its kind, and a pipe nobody writes to must not hang the run."""
    assert kind_of(tmp_path / "no.png") == "not_found"
    assert kind_of(tmp_path / "no.png" / "deeper.png") == "not_found"
    assert kind_of(tmp_path) == "is_directory"
    assert kind_of(str(tmp_path / "a\0b")) == "not_found"
    assert kind_of(str(tmp_path / ("n" * 300))) == "not_found"
    (tmp_path / "empty.jpg").touch()
    assert kind_of(tmp_path / "empty.jpg") == "empty"
    assert kind_of(Source("-", None, b"")) == "empty"
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        assert kind_of(tmp_path / "pipe.jpg") == "not_a_file"


def test_a_file_without_permission_says_so(tmp_path, monkeypatch):
    """Root may read everything, so the refusal is played."""
    path = tmp_path / "locked.png"
    path.write_bytes(encoded(picture(), "PNG"))

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert kind_of(path) == "permission"


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/fd")
def test_the_shells_process_substitution_works():
    """`<(curl ...)` is a pipe of this process, and may be read."""
    read, write = os.pipe()
    data = encoded(picture(), "PNG")
    os.write(write, data)
    os.close(write)
    try:
        assert open_image(f"/dev/fd/{read}").size == (48, 32)
    finally:
        os.close(read)


def test_a_picture_with_hostile_metadata_opens():
    """A comment that unpacks to 80 MB, or whose checksum is wrong, costs nothing."""
    import zlib

    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in np.asarray(picture())))
    for chunk in (
        png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(8_000_000))),
        png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(8_000_000))),
        png_chunk(b"tEXt", b"a\0b", good_crc=False),
    ):
        assert np.array_equal(pixels(open_image(png(48, 32, rows, before=chunk))), pixels(picture()))


def test_heic_without_its_package_says_which(monkeypatch):
    """The remedy is in the message."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InputError, match="pillow-heif") as caught:
        open_image(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50))
    assert caught.value.kind == "unsupported"


def test_fast_decoding_keeps_twice_the_side_and_nearly_the_picture():
    """Scaled decoding is close to exact decoding once both are resized, and never below the promised size."""
    image = noisy(1600, 1200).resize((1600, 1200), Image.Resampling.BICUBIC)
    data = encoded(image, "JPEG", quality=90)
    exact, fast = open_image(data), open_image(data, decode="fast", min_side=100)
    assert exact.size == (1600, 1200)
    assert fast.size == (400, 300)
    resized = [picture_.resize((133, 100), Image.Resampling.BICUBIC) for picture_ in (exact, fast)]
    assert difference(*resized) < 2
    assert open_image(data, decode="fast", min_side=700).size == (1600, 1200)
    assert open_image(data, decode="fast").size == (1600, 1200)
    assert open_image(encoded(image, "PNG"), decode="fast", min_side=100).size == (1600, 1200)


def test_fast_decoding_turns_pictures_too():
    """Orientation is applied to the smaller picture."""
    data = oriented(6, image=picture(480, 320))
    assert open_image(data, decode="fast", min_side=32).size == (120, 80)


def test_nothing_reaches_stderr(capfd):
    """Neither Python warnings nor the C libraries' own messages, even where the application shows all warnings."""
    cut = encoded(noisy(64, 48), "TIFF", compression="tiff_lzw")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        for data in (
            encoded(picture(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\xff\xff"),
            encoded(picture().quantize(4), "PNG", transparency=bytes([0, 80, 160, 255])),
            cut[: len(cut) // 2],
            cut[:-300] + bytes(300),
            encoded(picture().convert("1"), "TIFF", compression="group4")[:-30] + bytes(range(30)),
            *(cut[:at] + b"\xff\x00\xff" + cut[at + 3 :] for at in range(0, len(cut), 97)),
            b"II*\0\x08\0\0\0" + bytes(range(256)),
            encoded(Image.new("1", (10000, 10000)), "PNG"),
        ):
            try:
                open_image(data)
            except InputError:
                continue
    assert capfd.readouterr().err == ""


def test_many_threads_open_the_same_files():
    """No shared state: eight threads agree with one."""
    files = [oriented(o, f) for o in ORIENTATIONS for f in ("JPEG", "PNG", "WEBP", "TIFF")] * 3
    alone = [pixels(open_image(data)).sum() for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: pixels(open_image(data)).sum(), files))
    assert together == alone


@pytest.mark.parametrize("size", [(1600, 1200), (1599, 1201), (1003, 997), (8000, 300), (4001, 3001), (90, 90)])
@pytest.mark.parametrize("side", [32, 64, 100])
def test_the_draft_scale_keeps_margin_and_geometry(size, side):
    """The scale is as large as the two promises allow: twice the side, and no edge moved by more than 0.1 pixel."""
    scale = _draft_scale(size, side)
    allowed = [
        s
        for s in (1, 2, 4, 8)
        if min(size) / s >= 2 * side and all((-(-length // s) * s - length) / length * side <= 0.1 for length in size)
    ]
    assert scale == max(allowed, default=1)
    image = Image.new("RGB", size)
    fast = open_image(encoded(image, "JPEG"), decode="fast", min_side=side)
    assert fast.size == tuple(-(-length // scale) for length in size)
