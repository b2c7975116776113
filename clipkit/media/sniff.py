"""What a file is by its first bytes: which decoder to use, or what to tell the person who named it."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX_BYTES = 512
_SHORTEST = 12


@dataclass(frozen=True, slots=True)
class Decoder:
    """A Pillow decoder, imported when it is first needed: `name` for people, the plugin's module and class."""

    name: str
    module: str
    cls: str

    def load(self) -> Callable[..., Any]:
        """The plugin's image class; called with `(fp, filename)` it reads the header only."""
        return getattr(importlib.import_module(f"PIL.{self.module}"), self.cls)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Stranger:
    """Something that is no raster image clipkit reads: the error kind and one sentence with the remedy."""

    kind: str
    message: str


JPEG = Decoder("JPEG", "JpegImagePlugin", "JpegImageFile")
PNG = Decoder("PNG", "PngImagePlugin", "PngImageFile")
GIF = Decoder("GIF", "GifImagePlugin", "GifImageFile")
WEBP = Decoder("WebP", "WebPImagePlugin", "WebPImageFile")
TIFF = Decoder("TIFF", "TiffImagePlugin", "TiffImageFile")
BMP = Decoder("BMP", "BmpImagePlugin", "BmpImageFile")
ICO = Decoder("ICO", "IcoImagePlugin", "IcoImageFile")
PNM = Decoder("PNM", "PpmImagePlugin", "PpmImageFile")
JPEG2000 = Decoder("JPEG 2000", "Jpeg2KImagePlugin", "Jpeg2KImageFile")
AVIF = Decoder("AVIF", "AvifImagePlugin", "AvifImageFile")
PSD = Decoder("PSD", "PsdImagePlugin", "PsdImageFile")
QOI = Decoder("QOI", "QoiImagePlugin", "QoiImageFile")
TGA = Decoder("TGA", "TgaImagePlugin", "TgaImageFile")
HEIF = Decoder("HEIC", "", "")  # not in Pillow itself; `clipkit.media.image` asks pillow-heif

# In the order of how often they are met. A pattern is matched at byte 0, and compiled when it is first needed:
# compiling all of them would be a good part of a command's start.
_DECODERS: tuple[tuple[bytes, Decoder], ...] = (
    (rb"\xff\xd8\xff", JPEG),
    (rb"\x89PNG\r\n\x1a\n", PNG),
    (rb"RIFF....WEBP", WEBP),
    (rb"GIF8[79]a", GIF),
    (rb"II[*+]\0|MM\0[*+]", TIFF),
    (rb"BM.{12}[\x0c-\x80]\0\0\0", BMP),
    (rb"....ftyp(?:avif|avis)", AVIF),
    (rb"....ftyp(?:heic|heix|heim|heis|hevc|hevx)", HEIF),
    (rb"....ftyp(?:mif1|msf1).{4,64}?(?:avif|avis)", AVIF),
    (rb"....ftyp(?:mif1|msf1)", HEIF),
    (rb"\0\0\x01\0[\x01-\xff]\0", ICO),
    (rb"P[1-6fF]\s", PNM),
    (rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n", JPEG2000),
    (rb"8BPS\0\x01", PSD),
    (rb"qoif", QOI),
)

_VIDEO = Stranger("not_an_image", "this is a video; `clipkit classify-video` takes videos, or extract a frame first")
_AUDIO = Stranger("not_an_image", "this is a sound file; `clipkit audio-classify` takes sounds")
_ARCHIVE = Stranger("not_an_image", "this is an archive; unpack it first")
_STRANGERS: tuple[tuple[bytes, Stranger], ...] = (
    (
        rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml.{0,400}|<!--.{0,400}|<!DOCTYPE svg.{0,200})?<svg[\s>]|(?:\xef\xbb\xbf)?\s*<!DOCTYPE svg",
        Stranger("unsupported", "this is an SVG drawing, not a raster image; convert it to PNG first"),
    ),
    (
        rb"(?:\xef\xbb\xbf)?\s*(?:<!DOCTYPE html|<html|<head|<body)",
        Stranger("not_an_image", "this is a web page, not an image (a download that failed?); fetch the image again"),
    ),
    (
        rb"version https://git-lfs",
        Stranger("not_an_image", "this is a Git LFS pointer, not the image; run `git lfs pull` first"),
    ),
    (rb"%PDF-", Stranger("unsupported", "this is a PDF document; convert its pages to PNG first")),
    (rb"%!PS|\xc5\xd0\xd3\xc6", Stranger("unsupported", "this is a PostScript file; convert it to PNG first")),
    (
        rb"\xff\x0a|\0\0\0\x0cJXL ",
        Stranger("unsupported", "JPEG XL images cannot be read; convert it to JPEG or PNG first"),
    ),
    (
        rb"FUJIFILMCCD-RAW|IIU\0|IIRO|....ftypcrx ",
        Stranger("unsupported", "this is a camera raw file; develop it to JPEG or TIFF first"),
    ),
    (rb"....ftypM4A", _AUDIO),
    (
        rb"....ftyp|....(?:moov|mdat|wide)|\x1aE\xdf\xa3|RIFF....AVI |\0\0\x01[\xb3\xba]|FLV\x01|0&\xb2u\x8ef\xcf\x11",
        _VIDEO,
    ),
    (rb"RIFF....WAVE|ID3[\x02-\x04]|fLaC|OggS|\xff[\xf1\xf3\xf9\xfb]|FORM....AIF", _AUDIO),
    (rb"PK\x03\x04|\x1f\x8b|BZh\d|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd", _ARCHIVE),
)
_NOT_TEXT = rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]"


def identify(prefix: bytes, suffix: str = "") -> Decoder | Stranger:
    """Tell a file from its first `PREFIX_BYTES` bytes; the name's suffix decides only where no signature exists (TGA)."""
    for pattern, decoder in _DECODERS:
        if re.match(pattern, prefix, re.DOTALL):
            return decoder
    for pattern, stranger in _STRANGERS:
        if re.match(pattern, prefix, re.DOTALL | re.IGNORECASE):
            return stranger
    if suffix.lower() in {".tga", ".vda", ".vst", ".icb"}:
        return TGA
    if len(prefix) < _SHORTEST:
        return Stranger("not_an_image", f"not an image: the file has only {len(prefix)} bytes")
    if not re.search(_NOT_TEXT, prefix) and prefix.decode("utf-8", "replace").count("\ufffd") <= len(prefix) // 10:
        return Stranger("not_an_image", "this is a text file, not an image")
    return Stranger("not_an_image", "not an image in any format clipkit reads")
