"""What went wrong in a decoder, as one kind and one sentence: cut off, damaged, too large, or not supported."""

from __future__ import annotations

import os
import struct
from typing import IO, TYPE_CHECKING, NoReturn

from PIL import Image

from clipkit.errors import InputError
from clipkit.media import sniff

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SCANS = 200

_ZEROS = 256
_BLOCK = 1 << 20
_CUT = ("truncated", "eof", "unpack requires", "not enough")
_UNSUPPORTED = ("unsupported", "unknown", "not support")


def explain(error: Exception, stream: IO[bytes], decoder: sniff.Decoder) -> NoReturn:
    """Raise the `InputError` for whatever a decoder raised; decoders raise anything on damaged data."""
    if isinstance(error, InputError):
        raise error
    if isinstance(error, Image.DecompressionBombError):
        raise InputError("too_large", "more pixels than Pillow agrees to decode; shrink it first") from error
    if isinstance(error, MemoryError):
        raise InputError("too_large", "not enough memory to decode it; shrink it first") from error
    if isinstance(error, OSError) and error.errno is not None:
        raise InputError("unreadable", f"cannot be read: {error.strerror}") from error
    said = str(error).lower()
    if ends_early(stream, decoder) or any(word in said for word in _CUT):
        raise InputError(
            "truncated", f"the {decoder.name} data ends early (truncated); copy or download it again"
        ) from error
    if isinstance(error, NotImplementedError) or any(word in said for word in _UNSUPPORTED):
        raise InputError("unsupported", f"a kind of {decoder.name} that cannot be read; convert it to PNG") from error
    raise InputError("corrupt", f"the {decoder.name} data is damaged; copy or download it again") from error


def ends_early(stream: IO[bytes], decoder: sniff.Decoder) -> bool:
    """Whether the container's own end is missing, judged by its last bytes or the length it declares."""
    check = _CHECKS.get(decoder)
    if check is None:
        return False
    try:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 64))
        return check(stream, size)
    except (OSError, ValueError, struct.error):
        return True


def check_jpeg(stream: IO[bytes], *, progressive: bool) -> None:
    """Refuse what libjpeg would decode, but not to a picture or not in bounded time.

    A download into a file of the final size that stopped half way ends in zeros, which libjpeg reads as grey.
    A progressive file with thousands of scans takes minutes: each scan passes over every block.

    Raises:
        InputError: `truncated` or `unsupported`.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _ZEROS))
    if not stream.read().strip(b"\0") and not _has_end(stream):
        raise InputError("truncated", "the JPEG data ends early and zeros follow (truncated); download it again")
    stream.seek(0)
    if progressive and (scans := _occurrences(stream, b"\xff\xda")) > MAX_SCANS:
        raise InputError("unsupported", f"a progressive JPEG with {scans} scans, where about ten are usual")
    stream.seek(0)


def _has_end(stream: IO[bytes]) -> bool:
    """Whether an end marker follows the first scan; before it, a thumbnail has one of its own."""
    stream.seek(2)
    while len(head := stream.read(4)) == 4 and head[0] == 0xFF and head[1] != 0xDA:
        stream.seek(int.from_bytes(head[2:], "big") - 2, os.SEEK_CUR)
    return _occurrences(stream, b"\xff\xd9") > 0


def _occurrences(stream: IO[bytes], marker: bytes) -> int:
    found, last = 0, b""
    while block := stream.read(_BLOCK):
        found += (last + block).count(marker)
        last = block[-1:]
    return found


def _png(stream: IO[bytes], _: int) -> bool:
    return b"IEND" not in stream.read()


def _jpeg(stream: IO[bytes], _: int) -> bool:
    return b"\xff\xd9" not in stream.read()


def _gif(stream: IO[bytes], _: int) -> bool:
    return not stream.read().rstrip(b"\0").endswith(b";")


def _webp(stream: IO[bytes], size: int) -> bool:
    stream.seek(4)
    declared: int = struct.unpack("<I", stream.read(4))[0]
    return size < declared + 8


def _bmp(stream: IO[bytes], size: int) -> bool:
    stream.seek(2)
    declared: int = struct.unpack("<I", stream.read(4))[0]
    return size < declared


def _boxes(stream: IO[bytes], size: int) -> bool:
    """Walk the top-level boxes of an ISO base media file (ISO/IEC 14496-12, 4.2): each declares its length."""
    position = 0
    while position < size:
        stream.seek(position)
        head = stream.read(16)
        if len(head) < 8:
            return True
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # 0: this box goes on to the end of the file
            return False
        position += length
    return position > size


_CHECKS: dict[sniff.Decoder, Callable[[IO[bytes], int], bool]] = {
    sniff.PNG: _png,
    sniff.JPEG: _jpeg,
    sniff.GIF: _gif,
    sniff.WEBP: _webp,
    sniff.BMP: _bmp,
    sniff.AVIF: _boxes,
    sniff.HEIF: _boxes,
    sniff.JPEG2000: _boxes,
}
