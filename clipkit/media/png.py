"""A PNG without its metadata: a comment or colour profile that is damaged or a bomb must not cost the picture."""

from __future__ import annotations

import io
import os
import zlib
from typing import IO

_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"}  # eXIf for the orientation
_CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
_SIGNATURE_BYTES = 8


def essential(stream: IO[bytes]) -> IO[bytes]:
    """The signature and the chunks that make up the first frame (PNG specification, section 5.3), as a new stream.

    Metadata chunks with a wrong checksum are left out too. Nothing is mended: a cut file stays cut.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    out = io.BytesIO()
    out.write(stream.read(_SIGNATURE_BYTES))
    while len(head := stream.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind in _NEEDED:
            body = stream.read(min(length + 4, size))
            if kind in _CRITICAL or int.from_bytes(body[-4:], "big") == zlib.crc32(kind + body[:-4]):
                out.write(head + body)
        else:
            stream.seek(length + 4, os.SEEK_CUR)
        if kind == b"IEND":
            break
    out.seek(0)
    return out
