"""When the network may be used: by `pull` alone, and not even by it where the user said offline."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_environment = threading.RLock()  # the flags are the process's, so one thread at a time sets and restores them
_TRUE = {"1", "true", "yes", "on"}


def is_offline() -> bool:
    """Whether CLIPKIT_OFFLINE or HF_HUB_OFFLINE asks that no socket be opened."""
    return any(os.environ.get(name, "").strip().lower() in _TRUE for name in ("CLIPKIT_OFFLINE", "HF_HUB_OFFLINE"))


@contextlib.contextmanager
def no_network() -> Iterator[None]:
    """Inside, huggingface_hub and transformers fail instead of opening a socket, whatever a library tries to fetch."""
    with _environment:
        yield from _without_network()


def _without_network() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    os.environ.update(dict.fromkeys(before, "1"))
    constants = sys.modules.get("huggingface_hub.constants")
    flag = getattr(constants, "HF_HUB_OFFLINE", None)
    if constants is not None:
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        # A hub imported inside read the variable at its import, so its flag is put back as well.
        if (constants := sys.modules.get("huggingface_hub.constants")) is not None:
            constants.HF_HUB_OFFLINE = is_offline() if flag is None else flag  # type: ignore[attr-defined]
