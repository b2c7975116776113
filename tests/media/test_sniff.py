"""First bytes to decoders and hints."""

import pytest
from hostile import encoded, picture

from clipkit.media import sniff


@pytest.mark.parametrize(
    ("fmt", "decoder"),
    [
        ("JPEG", sniff.JPEG),
        ("PNG", sniff.PNG),
        ("GIF", sniff.GIF),
        ("WEBP", sniff.WEBP),
        ("TIFF", sniff.TIFF),
        ("BMP", sniff.BMP),
        ("ICO", sniff.ICO),
        ("PPM", sniff.PNM),
        ("JPEG2000", sniff.JPEG2000),
        ("AVIF", sniff.AVIF),
        ("QOI", sniff.QOI),
    ],
)
def test_every_format_pillow_writes_here_is_known_by_its_bytes(fmt, decoder):
    """No suffix is needed, and the decoder opens what its signature promises."""
    data = encoded(picture(), fmt)
    assert sniff.identify(data[: sniff.PREFIX_BYTES]) is decoder


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- made by hand -->\n<svg>", "SVG"),
        (b"<html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"%PDF-1.4", "PDF"),
        (b"\0\0\0\x18ftypmp42", "video"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"ID3\x04\0", "sound"),
        (b"\x1f\x8b\x08", "archive"),
        (b"hello there\n", "text"),
        ("Grüße aus Köln\n".encode(), "text"),
        (b"\xff\xd8", "only 2 bytes"),
        (b"\xfe\xed\xfa\xcf" * 9, "not an image in any"),
        (b"\x00\x01\x02\x03", "not an image"),
    ],
)
def test_strangers_are_named(data, word):
    """The message says what the file is, so that the remedy is plain."""
    found = sniff.identify(data)
    assert isinstance(found, sniff.Stranger)
    assert word in found.message


def test_heic_brands_are_told_from_avif():
    """Both live in the same container; a generic brand is decided by the compatible ones."""
    assert sniff.identify(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic") is sniff.HEIF
    assert sniff.identify(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf") is sniff.AVIF
    assert sniff.identify(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic") is sniff.HEIF


def test_tga_has_no_signature_and_goes_by_its_suffix():
    """Only there does a name decide."""
    data = encoded(picture(), "TGA")[: sniff.PREFIX_BYTES]
    assert sniff.identify(data, ".TGA") is sniff.TGA
    assert sniff.identify(data) is not sniff.TGA
