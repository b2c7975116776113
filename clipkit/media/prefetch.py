"""Decode ahead of the model: a bounded thread pool that keeps input order and flat memory."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from clipkit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
U = TypeVar("U")

MAX_WORKERS = 8


def default_workers() -> int:
    """As many threads as this process may use cores, at most 8: Pillow releases the interpreter while it decodes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MAX_WORKERS, cores))


def prefetch(
    items: Iterable[T], fn: Callable[[T], U], *, workers: int | None = None, ahead: int | None = None
) -> Iterator[tuple[T, U | InputError]]:
    """Yield `(item, fn(item))` in input order while later items are computed in threads.

    At most `ahead` items are pulled beyond the one that was yielded last, so an endless iterable and a
    folder of any size take the same memory. Items are pulled in the caller's thread.

    Args:
        items: what to work on; pulled lazily.
        fn: called in a worker thread; an `InputError` it raises is yielded as the item's value.
        workers: threads; None for one a core (at most 8), 0 to compute inline without threads.
        ahead: the window; None for four a worker.

    Raises:
        Exception: whatever else `fn` or `items` raises, at the item's place in the order.
    """
    threads = default_workers() if workers is None else workers
    if threads <= 0:
        for item in items:
            yield item, _outcome(fn, item)
        return
    window = max(1, 4 * threads if ahead is None else ahead)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="clipkit-prefetch")
    waiting: deque[tuple[T, Future[U | InputError]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(_outcome, fn, item)))
            while len(waiting) > window:
                yield _take(waiting)
        while waiting:
            yield _take(waiting)
    finally:
        # Not waiting: a closed generator or Ctrl-C must not sit behind a window of large photographs.
        pool.shutdown(wait=False, cancel_futures=True)


def _take(waiting: deque[tuple[T, Future[U | InputError]]]) -> tuple[T, U | InputError]:
    item, future = waiting.popleft()
    return item, future.result()


def _outcome(fn: Callable[[T], U], item: T) -> U | InputError:
    try:
        return fn(item)
    except InputError as error:
        return error
