"""One file over HTTP: resumed where it broke off, checked against its hash, and in place only when it is whole.

huggingface_hub (2.4) neither resumes in a later process nor compares a plain download with its hash, so the bytes come
through here; the cache's layout and the token are its own, and every tool that reads that cache finds the files.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import importlib
import os
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from clipkit.errors import ModelError, ModelUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

CHUNK = 1 << 20
RETRIES = 5
TIMEOUT = 30.0
_TRANSIENT = {408, 429, 500, 502, 503, 504}
_PAUSE = 0.5  # seconds before the first retry, doubled with each


@dataclass(frozen=True, slots=True)
class Expected:
    """What a finished file must be: its size, and its SHA-256 (large files) or git blob SHA-1 (small ones) in hex."""

    size: int
    digest: str

    def hasher(self) -> Any:
        """A hash object to feed with the file's bytes."""
        if len(self.digest) == 64:
            return hashlib.sha256()
        return hashlib.sha1(f"blob {self.size}\0".encode(), usedforsecurity=False)

    def matches(self, path: Path) -> bool:
        """Whether a file on disk is the expected one, by size and by reading all of it."""
        if path.stat().st_size != self.size:
            return False
        hasher = self.hasher()
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                hasher.update(chunk)
        return bool(hasher.hexdigest() == self.digest)


class _KeepTokenHome(urllib.request.HTTPRedirectHandler):
    """Redirects to another host do not take the token along."""

    def redirect_request(self, req: Any, *rest: Any) -> Any:
        new = super().redirect_request(req, *rest)
        if new is not None and urlsplit(new.full_url).netloc != urlsplit(req.full_url).netloc:
            new.remove_header("Authorization")
        return new


def download(
    url: str, target: Path, expected: Expected, headers: Mapping[str, str], report: Callable[[int], None]
) -> None:
    """Fetch `url` to `target`, which appears whole or not at all.

    An interrupted transfer leaves `TARGET.incomplete`, and the next call goes on from there.

    Args:
        url: Where the file is.
        target: Where it goes.
        expected: Its size and hash.
        headers: Sent along.
        report: Called with the number of bytes there are so far.

    Raises:
        ModelUnavailableError: the server cannot be reached, refuses, or breaks off again and again.
        ModelError: the finished file is not the expected one; it is deleted.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.incomplete")
    pause = _PAUSE
    for attempt in range(RETRIES + 1):
        before = partial.stat().st_size if partial.exists() else 0
        try:
            _transfer(url, partial, expected, headers, report)
            break
        except ModelUnavailableError:
            raise
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                if error.code == 416:  # what is here is no beginning of the file
                    partial.unlink(missing_ok=True)
                elif error.code not in _TRANSIENT:
                    raise
            elif isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise ModelUnavailableError(f"cannot write {target}: {error.strerror}") from error
            moved = (partial.stat().st_size if partial.exists() else 0) > before
            if attempt == RETRIES and not moved:
                raise _broke_off(url, partial, expected, error) from error
            time.sleep(pause)
            pause = _PAUSE if moved else pause * 2
    else:
        raise _broke_off(url, partial, expected, OSError("the server closes the connection"))
    if not expected.matches(partial):
        partial.unlink(missing_ok=True)
        raise ModelError(f"{url} did not arrive as published (the hash differs); nothing was kept: try again")
    partial.replace(target)


@contextlib.contextmanager
def opened(url: str, headers: Mapping[str, str]) -> Iterator[http.client.HTTPResponse]:
    """An HTTP response, with the system's proxies, and certifi's certificates where it is installed."""
    context = ssl.create_default_context()
    with contextlib.suppress(ImportError):
        context.load_verify_locations(importlib.import_module("certifi").where())
    opener = urllib.request.build_opener(_KeepTokenHome, urllib.request.HTTPSHandler(context=context))
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 (the endpoint is the user's setting)
    with opener.open(request, timeout=TIMEOUT) as response:
        yield response


def _transfer(
    url: str, partial: Path, expected: Expected, headers: Mapping[str, str], report: Callable[[int], None]
) -> None:
    """Append what is missing to `partial`."""
    have = partial.stat().st_size if partial.exists() else 0
    if have > expected.size:
        partial.unlink()
        have = 0
    report(have)
    if have == expected.size and have:
        return
    ranged = {**headers, "Range": f"bytes={have}-"} if have else dict(headers)
    with opened(url, {**ranged, "Accept-Encoding": "identity"}) as response:
        if have and response.status != 206:  # the server sends the whole file again
            have = 0
        with partial.open("ab" if have else "wb") as stream:
            _copy(response, stream, have, expected.size, report)
    if partial.stat().st_size < expected.size:
        raise OSError("the connection was closed early")


def _copy(
    source: http.client.HTTPResponse, stream: IO[bytes], have: int, size: int, report: Callable[[int], None]
) -> None:
    while chunk := source.read(CHUNK):
        stream.write(chunk)
        have += len(chunk)
        if have > size:
            raise ModelUnavailableError(f"the server sends more than the {size} bytes it announced: try again later")
        report(have)
    stream.flush()
    os.fsync(stream.fileno())


def _broke_off(url: str, partial: Path, expected: Expected, error: BaseException) -> ModelUnavailableError:
    have = partial.stat().st_size if partial.exists() else 0
    reason = getattr(error, "reason", None) or error
    return ModelUnavailableError(
        f"{urlsplit(url).netloc} cannot be reached or breaks off ({reason}) after {have} of {expected.size} bytes: "
        "run the command again to go on from there"
    )
