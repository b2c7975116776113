"""Open any picture kindly: upright, RGB, capped in size, and with one clear error where it cannot be used."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from PIL import Image

from clipkit.errors import InputError
from clipkit.media import sniff
from clipkit.media.damage import check_jpeg, explain
from clipkit.media.paths import Source
from clipkit.media.pixels import to_rgb, upright
from clipkit.media.png import essential
from clipkit.media.quiet import hush_libtiff, hush_pillow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Decode = Literal["fast", "exact"]

DEFAULT_MAX_PIXELS = 178_956_970
"""Width x height above which an image is refused, from its header: Pillow's own limit, 0.7 GB of RGB in memory."""

DRAFT_MARGIN = 2
"""`decode="fast"` keeps the decoded short side at least this many times `min_side` (see docs/inputs.md)."""

DRAFT_SHIFT = 0.1
"""`decode="fast"` may move the picture's far edge by at most this many pixels of the resized picture."""

_LARGE_PIXELS = 32_000_000
_one_large_at_a_time = threading.Lock()


def open_image(
    source: Source | str | os.PathLike[str] | bytes,
    *,
    decode: Decode = "exact",
    min_side: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Image.Image:
    """The first frame of a picture as an upright 8-bit RGB image without metadata.

    EXIF orientation is applied, transparency composited over white, 16-bit and float data scaled (see
    `clipkit.media.pixels.to_rgb`). Safe to call from several threads.

    Args:
        source: a `Source`, a path, or the file's bytes.
        decode: `fast` lets libjpeg decode at 1/2, 1/4 or 1/8 scale where the result stays at least twice
            `min_side` and nothing moves; `exact` decodes every pixel.
        min_side: the short side in pixels the caller will resize to; needed for `fast` to have an effect.
        max_pixels: refuse images with more pixels, from the header and before any is decoded.

    Raises:
        InputError: with kind `not_found`, `permission`, `unreadable`, `is_directory`, `not_a_file`, `empty`,
            `not_an_image`, `unsupported`, `too_large`, `truncated` or `corrupt`. The message does not repeat
            the file's name: `Failure.path` carries it.
    """
    hush_pillow()
    if isinstance(source, bytes):
        source = Source("bytes", None, source)
    elif not isinstance(source, Source):
        source = Source(os.fspath(source), Path(source))
    with _opened(source) as stream:
        prefix = _head(stream)
        if not prefix:
            raise InputError("empty", "the file is empty (0 bytes)" if source.path else "no bytes arrived on stdin")
        decoder = sniff.identify(prefix, source.path.suffix if source.path else "")
        if isinstance(decoder, sniff.Stranger):
            raise InputError(decoder.kind, decoder.message)
        return _decoded(stream, decoder, decode, min_side, max_pixels)


def _decoded(
    stream: IO[bytes], decoder: sniff.Decoder, decode: Decode, min_side: int | None, max_pixels: int
) -> Image.Image:
    try:
        return _pixels(stream, decoder, decode, min_side, max_pixels)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  a decoder may raise anything on damaged data
        if decoder is not sniff.PNG:
            explain(error, stream, decoder)
    slim = essential(stream)
    try:
        return _pixels(slim, decoder, decode, min_side, max_pixels)
    except Exception as error:  # noqa: BLE001  likewise
        explain(error, slim, decoder)


def _pixels(
    stream: IO[bytes], decoder: sniff.Decoder, decode: Decode, min_side: int | None, max_pixels: int
) -> Image.Image:
    factory = _heif() if decoder is sniff.HEIF else decoder.load()
    if decoder is sniff.TIFF:
        hush_libtiff()
    image: Image.Image = factory(stream, "")
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise InputError(
            "too_large",
            f"{image.width} x {image.height} is {_mega(pixels)} megapixels, over the limit of {_mega(max_pixels)}; "
            f"shrink it or raise the limit (--max-pixels {pixels})",
        )
    if decoder is sniff.JPEG:
        check_jpeg(stream, progressive=bool(image.info.get("progressive")))
    if decode == "fast" and min_side and decoder is sniff.JPEG:
        scale = _draft_scale(image.size, min_side)
        image.draft(None, (image.width // scale, image.height // scale))
    guard = _one_large_at_a_time if image.width * image.height > _LARGE_PIXELS else contextlib.nullcontext()
    with guard:
        image.load()
        rgb = to_rgb(image)
        if rgb is image:  # a plain Image that shares the pixels and has let go of the file
            rgb = image._new(image.im)  # noqa: SLF001
        rgb = upright(rgb, _orientation(image))
    rgb.info = {}  # the orientation is applied: nobody downstream may apply it again
    return rgb


def _draft_scale(size: tuple[int, int], min_side: int) -> int:
    """1, 2, 4 or 8: the largest at which libjpeg's scaled decoding keeps the margin and the geometry.

    A side that the scale does not divide is rounded up, which shrinks the picture a little and moves the crop.
    """
    for scale in (8, 4, 2):
        large_enough = min(size) >= scale * DRAFT_MARGIN * min_side
        shift = max(-side % scale / side for side in size) * min_side
        if large_enough and shift <= DRAFT_SHIFT:
            return scale
    return 1


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[IO[bytes]]:
    if source.data is not None or source.path is None:
        yield io.BytesIO(source.data or b"")
        return
    try:
        status = source.path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError("is_directory", "this is a folder, not an image")
        pipe = not stat.S_ISREG(status.st_mode)
        if pipe and not _is_open_descriptor(source.path):
            raise InputError("not_a_file", "not a regular file (a pipe, socket or device); use `-` to read stdin")
        with source.path.open("rb") as stream:
            yield io.BytesIO(stream.read()) if pipe else stream
    except OSError as error:
        raise _refused(error, source.path) from error
    except ValueError as error:  # a NUL byte in the name
        raise InputError("not_found", "no file can have this name") from error


def _is_open_descriptor(path: Path) -> bool:
    """Whether the path is a pipe of this very process, as the shell's `<(command)` gives."""
    return str(path) == "/dev/stdin" or str(path).startswith(("/dev/fd/", "/proc/self/fd/"))


def _refused(error: OSError, path: Path) -> InputError:
    if error.errno in {errno.EACCES, errno.EPERM}:
        return InputError("permission", "no permission to read it")
    if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}:
        if os.path.islink(path):  # noqa: PTH114  Path.is_symlink raises on a name that is too long
            return InputError("not_found", "a broken link: what it points to does not exist")
        return InputError("not_found", "no such file")
    if error.errno == errno.ELOOP:
        return InputError("not_found", "a link that leads back to itself")
    return InputError("unreadable", f"cannot be read: {error.strerror or error}")


def _head(stream: IO[bytes]) -> bytes:
    prefix = stream.read(sniff.PREFIX_BYTES)
    stream.seek(0)
    return prefix


def _orientation(image: Image.Image) -> int:
    """EXIF tag 0x0112, 1 where there is none or the EXIF block is damaged. Read after `load`: PNG may have it last."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # noqa: BLE001  damaged metadata must not cost the picture
        return 1


def _heif() -> Callable[..., Image.Image]:
    try:
        import pillow_heif  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise InputError(
            "unsupported",
            "HEIC photographs need the package pillow-heif (`pip install pillow-heif`), or convert to JPEG",
        ) from None
    pillow_heif.register_heif_opener()
    factory: Callable[..., Image.Image] = Image.OPEN["HEIF"][0]
    return factory


def _mega(pixels: int) -> str:
    return f"{pixels / 1e6:,.0f}" if pixels >= 10_000_000 else f"{pixels / 1e6:.2g}"
