"""Keep what image libraries say to themselves off the user's stderr: clipkit's own messages say what matters."""

from __future__ import annotations

import logging
import warnings
from functools import cache
from pathlib import Path

import PIL

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python's last resort prints warnings to stderr


def hush_pillow() -> None:
    """Ignore Python warnings raised inside Pillow.

    `warnings.catch_warnings` would not do: it is not safe with threads. The filter is looked for at every
    call because test runners and applications replace the list.
    """
    for _, _, _, module, _ in warnings.filters:
        if getattr(module, "pattern", None) == r"PIL\.":
            return
    warnings.filterwarnings("ignore", module=r"PIL\.")


@cache
def hush_libtiff() -> None:
    """Take away libtiff's default error handler, which prints; Pillow raises an exception for the same error.

    The library that Pillow has loaded is asked for by its path. Where it is linked statically (Windows wheels)
    there is none to find, and nothing is done.
    """
    import ctypes

    for path in _loaded_libtiff():
        try:
            set_handler = ctypes.CDLL(path).TIFFSetErrorHandler
        except (OSError, AttributeError):
            continue
        set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        set_handler(None)


def _loaded_libtiff() -> set[str]:
    here = Path(PIL.__file__).parent
    try:
        with Path("/proc/self/maps").open(encoding="utf-8", errors="surrogateescape") as maps:
            found = {line.split(maxsplit=5)[5].strip() for line in maps if "libtiff" in line}
    except OSError:  # not Linux: macOS wheels keep it here
        return {str(path) for path in here.glob(".dylibs/libtiff*")}
    # OpenCV and others may have brought their own copy: only Pillow's, or the system's, is ours to change.
    return {path for path in found if Path(path).parent == here.parent / "pillow.libs" or path.startswith("/usr/lib")}
