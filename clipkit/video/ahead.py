"""Videos decode ahead of the model: one thread a video, a bounded number of pieces waiting, input order kept."""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from clipkit.media.prefetch import default_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
U = TypeVar("U")

MAX_WORKERS = 4
"""Each thread drives a decoder with two threads of its own."""

_END = object()


def decode_ahead(
    items: Iterable[T], pieces: Callable[[T], Iterator[U]], *, workers: int | None = None, depth: int = 2
) -> Iterator[tuple[T, Iterator[U]]]:
    """Yield `(item, its pieces)` in order; the pieces of up to `workers` items are made in threads meanwhile.

    What `pieces` raises is raised where the consumer reaches it. Pieces of one item must be taken (or left)
    before the next item is asked for. At most `depth` pieces an item wait in memory.

    Args:
        items: pulled lazily in the caller's thread.
        pieces: a generator function; runs in a worker thread.
        workers: items decoded at a time; None for one a core, at most 4; 0 decodes in the calling thread.
        depth: pieces that may wait, for each item.
    """
    count = min(MAX_WORKERS, default_workers()) if workers is None else workers
    if count <= 0:
        for item in items:
            yield item, pieces(item)
        return
    running: deque[tuple[T, _Producer[U]]] = deque()
    try:
        for item in items:
            running.append((item, _Producer(pieces, item, depth)))
            if len(running) >= count:
                yield from _taken(running)
        while running:
            yield from _taken(running)
    finally:
        for _, producer in running:
            producer.stop()


def _taken(running: deque[tuple[T, _Producer[U]]]) -> Iterator[tuple[T, Iterator[U]]]:
    head, producer = running.popleft()
    try:
        yield head, producer.pieces()
    finally:
        producer.stop()


class _Producer(Generic[U]):
    """One item's generator running in a thread, its pieces in a bounded queue."""

    def __init__(self, make: Callable[[T], Iterator[U]], item: T, depth: int) -> None:
        self._queue: queue.Queue[object] = queue.Queue(depth)
        self._stopped = threading.Event()
        threading.Thread(target=self._run, args=(make, item), daemon=True, name="clipkit-video").start()

    def pieces(self) -> Iterator[U]:
        while True:
            piece = self._queue.get()
            if piece is _END:
                return
            if isinstance(piece, _Raised):
                raise piece.error
            yield piece  # type: ignore[misc]

    def stop(self) -> None:
        self._stopped.set()

    def _run(self, make: Callable[[T], Iterator[U]], item: T) -> None:
        try:
            for piece in make(item):
                if not self._put(piece):
                    return
            self._put(_END)
        except BaseException as error:  # noqa: BLE001  handed to the consumer, whatever it is
            self._put(_Raised(error))

    def _put(self, piece: object) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(piece, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False


class _Raised:
    def __init__(self, error: BaseException) -> None:
        self.error = error
