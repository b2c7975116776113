"""Decoding ahead: input order, a bounded window, errors in place, and a prompt end."""

import threading
import time

import pytest

from clipkit.errors import InputError
from clipkit.media.prefetch import default_workers, prefetch


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_order_is_kept_whatever_finishes_first(workers):
    """Later items are ready earlier, and still wait for their turn."""

    def slow_first(n):
        time.sleep(0.02 if n % 4 == 0 else 0)
        return n * n

    assert list(prefetch(range(20), slow_first, workers=workers)) == [(n, n * n) for n in range(20)]


@pytest.mark.parametrize("workers", [0, 3])
def test_an_input_error_is_a_value_and_the_rest_goes_on(workers):
    """One bad file costs one outcome."""

    def fn(n):
        if n == 2:
            raise InputError("truncated", "cut")
        return n

    values = [value for _, value in prefetch(range(5), fn, workers=workers)]
    assert [v for v in values if not isinstance(v, InputError)] == [0, 1, 3, 4]
    assert isinstance(values[2], InputError)
    assert values[2].kind == "truncated"


@pytest.mark.parametrize("workers", [0, 3])
def test_other_exceptions_propagate_in_their_turn(workers):
    """A bug is not an input error: it ends the run after what came before it."""

    def fn(n):
        if n == 3:
            raise ZeroDivisionError
        return n

    seen = []
    stream = prefetch(range(9), fn, workers=workers)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        for n, _ in stream:
            seen.append(n)
    assert seen == [0, 1, 2]


def test_no_more_than_the_window_is_pulled_or_kept():
    """An endless input is fine, and what is decoded but not yet taken is bounded."""
    pulled = []
    alive = {"now": 0, "most": 0}
    lock = threading.Lock()

    class Crop:
        def __init__(self):
            with lock:
                alive["now"] += 1
                alive["most"] = max(alive["most"], alive["now"])

        def __del__(self):
            with lock:
                alive["now"] -= 1

    def endless():
        n = 0
        while True:
            pulled.append(n)
            yield n
            n += 1

    stream = prefetch(endless(), lambda _: Crop(), workers=2, ahead=5)
    for taken in range(1, 200):
        next(stream)
        assert len(pulled) <= taken + 5
    stream.close()
    assert alive["most"] <= 5 + 2


def test_closing_early_cancels_what_has_not_begun():
    """`| head -1` and Ctrl-C must not wait for the window."""
    begun = []
    gate = threading.Event()

    def fn(n):
        begun.append(n)
        if n:
            gate.wait(10)
        return n

    stream = prefetch(range(1000), fn, workers=2, ahead=50)
    assert next(stream) == (0, 0)
    stream.close()
    gate.set()
    assert len(begun) <= 4


def test_an_interrupt_while_waiting_leaves_no_threads():
    """After KeyboardInterrupt the pool's threads end."""

    def items():
        yield from range(4)
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        list(prefetch(items(), lambda n: n, workers=3))
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_items_are_pulled_in_the_callers_thread():
    """A generator over files or a database need not be thread-safe."""
    threads = set()

    def items():
        for n in range(10):
            threads.add(threading.get_ident())
            yield n

    list(prefetch(items(), lambda n: n, workers=3))
    assert threads == {threading.get_ident()}


def test_the_default_is_bounded():
    """Between one thread and eight, on any machine."""
    assert 1 <= default_workers() <= 8
