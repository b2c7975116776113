"""A folder of 200 files that break image readers, each with the outcome it must give."""

import io
import os
import random
import socket
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

TOTAL = 200
ORIENTATIONS = range(1, 9)

# What turns an upright picture into the one a camera stores under each EXIF orientation (the inverse of reading it).
_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True, slots=True)
class HostileCase:
    """One file: its name below the folder, and `ok` or the error kinds that are right for it."""

    name: str
    kinds: frozenset[str] = frozenset()
    note: str = ""

    @property
    def ok(self):
        return not self.kinds


def picture(width=48, height=32):
    """An upright picture without any symmetry: a gradient, a red disc top left, a blue bar at the bottom."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    pixels = np.stack([x / width * 180 + 40, y / height * 180 + 40, 120 + 0 * x], -1)
    pixels[(x - width * 0.25) ** 2 + (y - height * 0.3) ** 2 < (height * 0.2) ** 2] = (230, 20, 20)
    pixels[int(height * 0.85) :, : width * 2 // 3] = (20, 20, 230)
    return Image.fromarray(pixels.astype(np.uint8))


def noisy(width=160, height=120, seed=0):
    """A picture whose compressed data is long enough to be cut in many places."""
    rng = np.random.default_rng(seed)
    smooth = np.asarray(picture(width, height), np.int16)
    return Image.fromarray(np.clip(smooth + rng.integers(-40, 40, smooth.shape), 0, 255).astype(np.uint8))


def encoded(image, fmt, **options):
    """The bytes of an image file."""
    stream = io.BytesIO()
    image.save(stream, fmt, **options)
    return stream.getvalue()


def oriented(orientation, fmt="JPEG", image=None):
    """One picture as a camera that was held in `orientation` stores it, with the EXIF tag that says so."""
    image = picture() if image is None else image
    method = _STORED[orientation]
    stored = image if method is None else image.transpose(method)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if fmt == "JPEG" else {"lossless": True} if fmt == "WEBP" else {}
    return encoded(stored, fmt, exif=exif, **options)


def png_chunk(kind, data, *, good_crc=True):
    crc = zlib.crc32(kind + data) ^ (0 if good_crc else 0x5A5A5A5A)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc & 0xFFFFFFFF)


def png(width, height, idat, *, depth=8, colour=2, before=b"", after=b""):
    """A PNG put together by hand, so that it can lie."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + before
        + png_chunk(b"IDAT", idat)
        + after
        + png_chunk(b"IEND", b"")
    )


def _idat(image):
    rows = np.asarray(image.convert("RGB")).reshape(image.height, -1)
    return zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))


def _good_png(**extra):
    image = picture()
    return png(image.width, image.height, _idat(image), **extra)


class _Folder:
    """Collects cases while it writes them."""

    def __init__(self, root):
        self.root = Path(root)
        self.cases = []

    def add(self, name, data, *kinds, note=""):
        (self.root / name).write_bytes(data)
        self.case(name, *kinds, note=note)

    def case(self, name, *kinds, note=""):
        self.cases.append(HostileCase(os.fspath(name), frozenset(kinds), note))


def make_hostile_folder(root):
    """Write the folder and return its 200 cases. What this system cannot make is replaced by further cut files."""
    folder = _Folder(root)
    folder.root.mkdir(parents=True, exist_ok=True)
    _orientations(folder)
    _modes(folder)
    _cut(folder)
    _strangers(folder)
    _bombs(folder)
    _damaged(folder)
    _odd_but_fine(folder)
    _names(folder)
    _not_files(folder)
    data = encoded(noisy(seed=9), "JPEG", quality=92)
    for number in range(TOTAL - len(folder.cases)):
        end = 700 + (len(data) - 1400) * number // TOTAL
        folder.add(f"cut-more-{number:03}.jpg", data[:end], "truncated")
    assert len(folder.cases) == TOTAL, len(folder.cases)
    return folder.cases


def _orientations(folder):
    for orientation in ORIENTATIONS:
        folder.add(f"orientation-{orientation}.jpg", oriented(orientation))
        folder.add(f"orientation-{orientation}.png", oriented(orientation, "PNG"))
    exif = Image.Exif()
    exif[0x0112] = 9
    folder.add("orientation-9.jpg", encoded(picture(), "JPEG", exif=exif), note="no such orientation: as it is")
    folder.add("exif-garbage.jpg", encoded(picture(), "JPEG", exif=b"Exif\0\0" + bytes(range(200))))
    folder.add("exif-cut.jpg", encoded(picture(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"))


def _modes(folder):
    image = picture()
    wide = np.asarray(image.convert("L"), np.uint16) * 257
    for name, data in {
        "grey.jpg": encoded(image.convert("L"), "JPEG"),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG"),
        "cmyk.tif": encoded(image.convert("CMYK"), "TIFF"),
        "ycbcr.tif": encoded(image.convert("YCbCr"), "TIFF"),
        "lab.tif": encoded(image.convert("LAB"), "TIFF"),
        "one-bit.png": encoded(image.convert("1"), "PNG"),
        "one-bit.tif": encoded(image.convert("1"), "TIFF", compression="group4"),
        "palette.png": encoded(image.quantize(16), "PNG"),
        "palette-transparent.png": encoded(image.quantize(16), "PNG", transparency=3),
        "palette-alpha.png": encoded(image.quantize(4), "PNG", transparency=bytes([0, 80, 160, 255])),
        "grey-alpha.png": encoded(image.convert("LA"), "PNG"),
        "alpha.png": encoded(image.convert("RGBA"), "PNG"),
        "alpha.webp": encoded(image.convert("RGBA"), "WEBP"),
        "alpha.tif": encoded(image.convert("RGBA"), "TIFF"),
        "colour-key.png": encoded(image, "PNG", transparency=(230, 20, 20)),
        "16-bit.png": encoded(Image.fromarray(wide), "PNG"),
        "16-bit.tif": encoded(Image.fromarray(wide), "TIFF"),
        "16-bit.pgm": b"P5 48 32 65535\n" + wide.byteswap().tobytes(),
        "32-bit.tif": encoded(Image.fromarray(wide.astype(np.int32) * 900), "TIFF"),
        "float.tif": encoded(Image.fromarray((wide / 65535).astype(np.float32)), "TIFF"),
        "float-nan.tif": encoded(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"),
        "animated.gif": encoded(image, "GIF", save_all=True, append_images=[image.rotate(90)] * 3),
        "animated.webp": encoded(image, "WEBP", save_all=True, append_images=[image.rotate(90)] * 3),
        "animated.png": encoded(image, "PNG", save_all=True, append_images=[image.rotate(90)] * 3),
        "pages.tif": encoded(image, "TIFF", save_all=True, append_images=[image.rotate(90)]),
        "lzw.tif": encoded(image, "TIFF", compression="tiff_lzw"),
        "jpeg-inside.tif": encoded(image, "TIFF", compression="jpeg"),
        "progressive.jpg": encoded(image, "JPEG", progressive=True),
        "interlaced.gif": encoded(image, "GIF", interlace=1),
        "plain.bmp": encoded(image, "BMP"),
        "plain.ico": encoded(image, "ICO"),
        "plain.tga": encoded(image, "TGA"),
        "plain.qoi": encoded(image, "QOI"),
        "plain.jp2": encoded(image, "JPEG2000"),
        "plain.avif": encoded(image, "AVIF"),
        "plain.pfm": b"Pf 4 4 -1.0\n" + np.linspace(0, 1, 16, dtype="<f4").tobytes(),
        "one-pixel.png": encoded(image.resize((1, 1)), "PNG"),
        "one-row.jpg": encoded(image.resize((4000, 1)), "JPEG"),
        "one-column.png": encoded(image.resize((1, 4000)), "PNG"),
    }.items():
        folder.add(name, data)


def _cut(folder):
    """Every container cut in its pixel data; none of them may come out as a picture with a grey part."""
    image = noisy()
    containers = {
        "jpg": encoded(image, "JPEG", quality=90),
        "progressive.jpg": encoded(image, "JPEG", quality=90, progressive=True),
        "png": encoded(image, "PNG"),
        "webp": encoded(image, "WEBP", quality=90),
        "lossless.webp": encoded(image, "WEBP", lossless=True),
        "gif": encoded(image, "GIF"),
        "bmp": encoded(image, "BMP"),
        "ppm": encoded(image, "PPM"),
        "avif": encoded(image, "AVIF"),
    }
    for ending, data in containers.items():
        for percent in (25, 60, 95):
            folder.add(f"cut-{percent}.{ending}", data[: len(data) * percent // 100], "truncated")
    for name, options in {
        "raw": {},
        "lzw": {"compression": "tiff_lzw"},
        "deflate": {"compression": "tiff_deflate"},
    }.items():
        data = encoded(image, "TIFF", **options)
        for percent in (30, 60, 90):
            folder.add(f"cut-{percent}-{name}.tif", data[: len(data) * percent // 100], "truncated", "corrupt")
    for ending, data in containers.items():
        if ending in {"jpg", "png", "webp", "gif"}:
            folder.add(f"cut-2-bytes.{ending}", data[:2], "not_an_image")
        folder.add(f"cut-24-bytes.{ending}", data[:24], "truncated", "corrupt", "not_an_image")


def _strangers(folder):
    image = encoded(picture(), "PNG")
    for name, data, kind in (
        ("zero-bytes.jpg", b"", "empty"),
        ("zero-bytes.png", b"", "empty"),
        ("one-byte.png", b"\x89", "not_an_image"),
        ("zeros.jpg", bytes(4096), "not_an_image"),
        ("noise.jpg", random.Random(4).randbytes(4096), "not_an_image"),
        ("text.png", b"This is not a picture.\n" * 20, "not_an_image"),
        ("text-utf16.png", "not a picture".encode("utf-16"), "not_an_image"),
        ("page.jpg", b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "not_an_image"),
        ("pointer.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "not_an_image"),
        ("record.png", b'{"error": "forbidden"}', "not_an_image"),
        ("drawing.png", b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"></svg>', "unsupported"),
        ("document.jpg", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "unsupported"),
        ("postscript.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "unsupported"),
        ("film.jpg", b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41" + bytes(200), "not_an_image"),
        ("matroska.png", b"\x1aE\xdf\xa3" + bytes(200), "not_an_image"),
        ("sound.jpg", b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), "not_an_image"),
        ("archive.jpg", b"PK\x03\x04" + bytes(200), "not_an_image"),
        ("program.png", b"\x7fELF\x02\x01\x01" + bytes(200), "not_an_image"),
        ("phone.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), "unsupported"),
        ("next-generation.jpg", b"\xff\x0a" + bytes(200), "unsupported"),
    ):
        kinds = [kind, "corrupt", "truncated"] if name == "phone.jpg" else [kind]  # where pillow-heif is installed
        folder.add(name, data, *kinds)
    folder.add("wrong-suffix.jpg", image, note="a PNG named .jpg is a picture")
    folder.add("wrong-suffix.heic", image)
    folder.add("UPPER.PNG", image)


def _bombs(folder):
    folder.add("bomb-header.png", png(60000, 60000, zlib.compress(bytes(1000))), "too_large")
    folder.add("bomb-negative.png", png(0xFFFFFFFF, 0xFFFFFFFF, b""), "too_large", "corrupt")
    folder.add("bomb-real.png", encoded(Image.new("1", (20000, 20000)), "PNG"), "too_large")
    folder.add("bomb-thin.png", png(2_000_000_000, 1, zlib.compress(bytes(100))), "too_large")
    folder.add(
        "bomb.gif",
        b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6) + b";",
        "too_large",
        "corrupt",
    )
    frame = b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x4c\x01\0;"
    folder.add(
        "bomb-frame.gif", b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0x80, 0, 0) + bytes(6) + frame, "too_large", "corrupt"
    )
    folder.add(
        "bomb.bmp",
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0),
        "too_large",
    )
    folder.add("bomb.ppm", b"P6 60000 60000 255\n" + bytes(64), "too_large")
    tags = [
        (256, 4, 60000),
        (257, 4, 60000),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, 60000),
        (279, 4, 10),
    ]
    ifd = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", t, k, 1, v) for t, k, v in tags) + bytes(4)
    folder.add("bomb.tif", b"II*\0\x08\0\0\0" + ifd, "too_large")
    folder.add("bomb.qoi", b"qoif" + struct.pack(">IIBB", 60000, 60000, 4, 0) + bytes(16), "too_large")
    folder.add(
        "bomb.psd", b"8BPS\0\x01" + bytes(6) + struct.pack(">HIIHH", 3, 60000, 60000, 8, 3) + bytes(16), "too_large"
    )
    jpeg = bytearray(encoded(picture(), "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65000, 65000)
    folder.add("bomb.jpg", bytes(jpeg), "too_large")
    webp = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\xff\0" * 2
    folder.add(
        "bomb.webp", b"RIFF" + struct.pack("<I", 4 + len(webp)) + b"WEBP" + webp, "too_large", "corrupt", "truncated"
    )
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000), 9))
    folder.add("bomb-text.png", _good_png(before=text), note="the picture is fine, its comment is a bomb")
    profile = png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(80_000_000), 9))
    folder.add("bomb-profile.png", _good_png(before=profile))


def _damaged(folder):
    image = picture()
    rows = _idat(image)
    folder.add("bad-zlib.png", png(48, 32, b"x\x9c" + bytes(500)), "corrupt")
    folder.add("short-data.png", png(48, 32, zlib.compress(bytes(300))), "corrupt", "truncated")
    folder.add("no-data.png", png(48, 32, b""), "corrupt", "truncated")
    folder.add("zero-size.png", png(0, 32, rows), "corrupt")
    folder.add("odd-depth.png", png(48, 32, rows, depth=7), "corrupt", "unsupported")
    header = bytearray(_good_png())
    header[29] ^= 0xFF
    folder.add("bad-header-crc.png", bytes(header), "corrupt")
    jpeg = encoded(noisy(), "JPEG", quality=90)
    folder.add("no-tables.jpg", jpeg[:2] + jpeg[jpeg.index(b"\xff\xc0") :], "corrupt", "truncated")
    folder.add(
        "markers-only.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff\xd9", "corrupt", "truncated"
    )
    folder.add(
        "strange-tags.tif", b"II*\0\x08\0\0\0" + b"\xff\xff" + os.urandom(64), "corrupt", "truncated", "unsupported"
    )
    folder.add("loop.tif", b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "corrupt", "truncated", "unsupported")
    folder.add("lies.ico", b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0\x20\0\xff\xff\0\0\x16\0\0\0", "corrupt", "truncated")


def _odd_but_fine(folder):
    image = picture()
    jpeg = encoded(image, "JPEG")
    folder.add("garbage-after.jpg", jpeg + os.urandom(5000))
    folder.add("garbage-after.png", encoded(image, "PNG") + b"more" * 100)
    folder.add("giant-profile.jpg", encoded(image, "JPEG", icc_profile=bytes(300_000)))
    folder.add("giant-comment.jpg", encoded(image, "JPEG", comment=b"x" * 65000))
    folder.add("bad-text-crc.png", _good_png(before=png_chunk(b"tEXt", b"a\0b", good_crc=False)))
    folder.add("chunk-after.png", _good_png(after=png_chunk(b"tEXt", b"a\0b")))
    folder.add("two-in-one.jpg", jpeg + jpeg)


def _names(folder):
    data = encoded(picture(), "PNG")
    for name in (
        "ünïcödé.png",
        "cafe\u0301 combining.png",
        "猫.png",
        "\U0001f600.png",
        "right\u202eto-left.png",
        "-leading-dash.png",
        "--labels=x.png",
        "two  spaces.png",
        "percent%20.png",
        "#hash.png",
        "semi;colon&and.png",
        "$HOME.png",
        "it's.png",
        "[brackets].png",
        "comma,comma.png",
        "a" * 251 + ".png",
        "trailing.dots...png",
    ):
        folder.add(name, data)
    for name in (
        "new\nline.png",
        "car\rriage.png",
        "tab\tbed.png",
        "\x1b[31mred.png",
        'quo"ted.png',
        "back\\slash.png",
        "sta*r?.png",
        os.fsdecode(b"latin-\xe9.png"),
    ):
        try:
            folder.add(name, data)
        except OSError:  # this file system does not take the name
            continue


def _not_files(folder):
    root = folder.root
    data = encoded(picture(), "PNG")
    (root / "empty-folder.jpg").mkdir()
    folder.case("empty-folder.jpg", "is_directory")
    (root / "full-folder.jpg").mkdir()
    folder.add(f"full-folder.jpg{os.sep}inside.png", data)
    (root / "locked.png").write_bytes(data)
    (root / "locked.png").chmod(0)
    locked = not os.access(root / "locked.png", os.R_OK)
    folder.case("locked.png", *(["permission"] if locked else []), note="root reads it all the same")
    try:
        for name, target in (
            ("dangling.jpg", "nowhere"),
            ("loop-link.jpg", "loop-link.jpg"),
        ):
            (root / name).symlink_to(target)
            folder.case(name, "not_found")
        (root / "folder-link.jpg").symlink_to("full-folder.jpg")
        folder.case("folder-link.jpg", "is_directory")
        (root / "good-link.png").symlink_to("UPPER.PNG")
        folder.case("good-link.png")
        for device in ("/dev/null", "/dev/zero"):
            if Path(device).exists():
                (root / f"device-{Path(device).name}.jpg").symlink_to(device)
                folder.case(f"device-{Path(device).name}.jpg", "not_a_file")
    except OSError:  # links need a privilege on Windows
        pass
    if hasattr(os, "mkfifo"):
        os.mkfifo(root / "pipe.jpg")
        folder.case("pipe.jpg", "not_a_file")
    if hasattr(socket, "AF_UNIX"):
        _socket(folder)


def _socket(folder):
    here = Path.cwd()
    try:
        os.chdir(folder.root)  # a socket's address is short; its folder's may be long
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket.jpg")
        folder.case("socket.jpg", "not_a_file")
    except OSError:
        pass
    finally:
        os.chdir(here)
