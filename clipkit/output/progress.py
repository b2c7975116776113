"""A progress line for people: on stderr, only where it is a terminal, never between the rows of a table."""

from __future__ import annotations

import os
import stat
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_PATIENCE = 0.5  # seconds after the first outcome before the line appears: short runs show none
_REDRAW = 0.1


class Progress(Protocol):
    """Counts outcomes; drawing is its own affair."""

    def __enter__(self) -> Self: ...  # noqa: D105

    def __exit__(  # noqa: D105
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def advance(self, steps: int = 1) -> None:
        """So many more inputs are done."""

    def hide_while(self, call: Callable[..., None], *args: Any) -> None:
        """Call `call(*args)` while the line is not on the screen."""


def open_progress(*, show: bool = True, count: Callable[[], int | None] | None = None) -> Progress:
    """A live line where `show` holds, stderr is a terminal and stdout no pipe; else an object that does nothing.

    Into a pipe nothing is drawn, because what reads it (`head`, `jq`) often prints on the same terminal.

    Args:
        show: False after --quiet or --no-progress.
        count: the number of inputs or None; called when the line first appears.
    """
    if show and sys.stderr is not None and sys.stderr.isatty() and not _stdout_is_a_pipe():
        return LiveProgress(count)
    return NoProgress()


class NoProgress:
    """Shows nothing."""

    def __enter__(self) -> Self:
        """Nothing to start."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to end."""

    def advance(self, steps: int = 1) -> None:
        """Nothing to count."""

    def hide_while(self, call: Callable[..., None], *args: Any) -> None:
        """Just call."""
        call(*args)


class LiveProgress:
    """A rich progress line, redrawn at most ten times a second and gone when the run ends.

    It has no thread of its own: it is drawn by `advance`, and so can never write between two parts of a row.
    """

    def __init__(self, count: Callable[[], int | None] | None) -> None:
        """Nothing is imported or counted before the line first appears."""
        self._count = count
        self._done = self._before = 0
        self._bar: Any = None
        self._task: Any = None
        self._visible = False
        self._began: float | None = None
        self._drawn = 0.0

    def __enter__(self) -> Self:
        """Nothing is drawn yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the screen clean."""
        self._hide()

    def advance(self, steps: int = 1) -> None:
        """So many more inputs are done; redraw when it is time."""
        self._done += steps
        now = time.monotonic()
        if self._began is None:  # loading the model is over: from here on the rate means something
            self._began = now
            self._before = self._done
            self._drawn = now + _PATIENCE - _REDRAW
        if now - self._drawn < _REDRAW:
            return
        self._drawn = now
        if self._bar is None:
            self._bar, self._task = _build(self._count() if self._count else None, self._done)
        self._bar.update(self._task, completed=self._done, rate=(self._done - self._before) / (now - self._began))
        if self._visible:
            self._bar.refresh()
        else:
            self._bar.start()
            self._visible = True

    def hide_while(self, call: Callable[..., None], *args: Any) -> None:
        """Take the line off the screen, call; the next `advance` that is due draws it again."""
        self._hide()
        call(*args)

    def _hide(self) -> None:
        if self._visible:
            self._bar.stop()
            self._visible = False


def _build(total: int | None, done: int) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    bar = Progress(
        SpinnerColumn() if total is None else BarColumn(bar_width=30, complete_style="cyan", finished_style="cyan"),
        MofNCompleteColumn(),
        TextColumn("[dim]{task.fields[rate]:.3g}/s[/dim]"),
        TimeRemainingColumn(compact=True) if total is not None else TextColumn(""),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    return bar, bar.add_task("", total=total, completed=done, rate=0.0)


def _stdout_is_a_pipe() -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode)
    except (AttributeError, OSError, ValueError):
        return False
