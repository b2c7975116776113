"""Labels as folder names that every file system takes, one folder a label."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_BYTES = 100

_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]')
_RESERVED = {"con", "prn", "aux", "nul", *(f"com{i}" for i in range(1, 10)), *(f"lpt{i}" for i in range(1, 10))}


class FolderNames:
    """Label -> folder name. Labels that would share a folder, also where case does not count, are told apart.

    The first label of such a group has the plain name, the others end in a short hash of the label.
    """

    def __init__(self, labels: Iterable[str] = ()) -> None:
        """Give names in the order of `labels`; further labels are named as they come."""
        self._names: dict[str, str] = {}
        self._taken: set[str] = set()
        for label in labels:
            self[label]

    def __getitem__(self, label: str) -> str:
        """The folder of a label, always the same one."""
        if label not in self._names:
            name = folder_name(label)
            if name.casefold() in self._taken:
                name = f"{_cut(name, MAX_BYTES - 9)}-{_digest(label)}"
            self._taken.add(name.casefold())
            self._names[label] = name
        return self._names[label]


def folder_name(label: str) -> str:
    """A label without what Windows, macOS or Linux do not take in a name; at most `MAX_BYTES` bytes of UTF-8."""
    name = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", label))
    name = re.sub(r"^\.+", lambda dots: "_" * len(dots[0]), name.strip(" ")).rstrip(" .")
    if not name:
        return "_"
    if name.split(".")[0].rstrip(" ").casefold() in _RESERVED:
        name = f"_{name}"
    if len(name.encode()) > MAX_BYTES:
        name = f"{_cut(name, MAX_BYTES - 9)}-{_digest(label)}"
    return name


def _cut(name: str, size: int) -> str:
    return name.encode()[:size].decode(errors="ignore").rstrip(" .")


def _digest(label: str) -> str:
    return hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()[:8]
