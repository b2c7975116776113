"""Who looks on while `clipkit sketch` draws: the progress line, the preview, and Ctrl-C between two steps."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path

    from clipkit.sketching.files import SketchFiles
    from clipkit.sketching.fit import Fit
    from clipkit.sketching.strokes import Strokes

_REDRAW = 0.2  # seconds
_PREVIEW = 2.0


class Onlooker:
    """An audience for `tasks.sketch.run`; as a context it takes Ctrl-C so that a step is never cut in two.

    The first Ctrl-C ends the drawing after the step under way, the second ends the program at once.
    """

    def __init__(self, files: SketchFiles, *, show: bool, preview: bool) -> None:
        """Draw a line where `show` holds and stderr is a terminal."""
        self._files, self._preview = files, preview
        self._show = show and sys.stderr is not None and sys.stderr.isatty()
        self._stopped = False
        self._before: Any = None
        self._name = ""
        self._began = self._drawn = self._previewed = time.monotonic()

    def __enter__(self) -> Self:
        """Take the signal, in the main thread only."""
        try:
            self._before = signal.signal(signal.SIGINT, self._stop)
        except ValueError:
            self._before = None
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back and clear the line."""
        self.end()
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _stop(self, *_: object) -> None:
        if self._stopped:
            raise KeyboardInterrupt
        self._stopped = True

    def begin(self, name: str) -> Self:
        """A picture is begun."""
        self._name = name
        self._began = time.monotonic()
        self._drawn = self._previewed = self._began
        return self

    def state(self, name: str) -> Path | None:
        """The state file beside the sketch."""
        return self._files.place(name, "state.npz")

    def should_stop(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._stopped

    def on_step(self, fit: Fit, done: int, total: int, under: Strokes | None) -> None:
        """Redraw what is due."""
        now = time.monotonic()
        if self._preview and now - self._previewed > _PREVIEW:
            self._previewed = now
            best = fit.best[fit.leader]
            self._files.preview(self._name, best if under is None else under.followed_by(best))
        if self._show and now - self._drawn > _REDRAW:
            self._drawn = now
            left = (now - self._began) / max(1, done) * (total - done)
            seeds = f"  {len(fit.alive)} seeds" if len(fit.alive) > 1 else ""
            sys.stderr.write(
                f"\r\x1b[2K{self._name[-40:]}  {done}/{total}  loss {min(fit.best_loss):.4f}{seeds}  {left:.0f} s left"
            )
            sys.stderr.flush()

    def end(self) -> None:
        """Take the line off the screen and the preview off the disk."""
        if self._show:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
        if self._preview and self._name and not self._stopped:
            self._files.drop_preview(self._name)
