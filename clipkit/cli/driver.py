"""From a stream of outcomes to records, a progress line and an exit code: the one way every command runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from clipkit.cli.options import FormatName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clipkit.cli.options import Common
    from clipkit.results import Failure, Result

HINT = (
    "hint: the small built-in model answered; `clipkit models pull ViT-B-32` and `--model ViT-B-32` know far more "
    "(--quiet hides this)"
)


def drive(
    outcomes: Iterator[Result | Failure],
    common: Common,
    *,
    columns: tuple[str, ...],
    count: Callable[[], int | None] | None = None,
    model: str | None = None,
    percent: bool = True,
    summary: Callable[[], str] | None = None,
) -> None:
    """Write every outcome, show progress on a terminal, and leave with the exit code.

    Args:
        outcomes: one an input, in order.
        common: format, destination, quiet.
        columns: the flat form's column names.
        count: the number of inputs where it is cheap to know; asked only where progress is shown.
        model: the id of the model that answers, for the hint.
        summary: one line about what was done, asked for at the end and shown where hints are.
        percent: tables show scores as percentages (they are probabilities).

    Raises:
        typer.Exit: 0 all done, 1 nothing worked, 3 some inputs failed.
    """
    from clipkit.output.progress import open_progress
    from clipkit.output.writers import open_writer
    from clipkit.results import Failure
    from clipkit.settings import setting

    format_name = FormatName(common.format or setting("format"))
    done = failed = 0
    show = not (common.quiet or common.no_progress)
    with (
        open_writer(format_name.value, common.output, columns=columns, percent=percent) as writer,
        open_progress(show=show, count=count) as progress,
    ):
        try:
            for outcome in outcomes:
                if isinstance(outcome, Failure):
                    failed += 1
                else:
                    done += 1
                progress.hide_while(writer.write, outcome)
                progress.advance()
        finally:
            # Stop decoding threads now, not when the generator is collected.
            getattr(outcomes, "close", lambda: None)()
    if not common.quiet and sys.stderr.isatty():
        if summary is not None:
            sys.stderr.write(f"{summary()}\n")
        if model == "builtin":
            sys.stderr.write(f"{HINT}\n")
    raise typer.Exit(exit_code(done, failed))


def exit_code(done: int, failed: int) -> int:
    """0 all done, 1 nothing worked, 3 some inputs failed."""
    if not done:
        return 1
    return 3 if failed else 0
