"""A command group that imports a command's module only when that command is asked for.

The table holds each command's one-line help, so that listing commands imports nothing. The group is also
the one place where errors become exit codes.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from clipkit.errors import ClipkitError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the command table: where the Typer app lives and what the overview says of it."""

    name: str
    module: str
    help: str
    panel: str | None = None


class LazyGroup(TyperGroup):
    """A group over a table of `Entry`; subclasses set `table`."""

    table: tuple[Entry, ...] = ()

    def __init__(self, **attrs: Any) -> None:
        """Fill the group with stubs that carry name and help only."""
        super().__init__(**attrs)
        self.commands = {
            entry.name: TyperCommand(entry.name, help=entry.help, rich_help_panel=entry.panel) for entry in self.table
        }

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Replace the stub by the real command (also for shell completion of its options)."""
        name, stub, rest = super().resolve_command(ctx, args)
        if stub is None:  # a word that is no command, while completing
            return name, stub, rest
        entry = next(entry for entry in self.table if entry.name == name)
        command = get_command(importlib.import_module(entry.module).app)
        command.name = name
        command.help = reflowed(command.help or "")
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run a command; clipkit's errors, Ctrl-C and closed pipes become one line and an exit code."""
        try:
            return super().invoke(ctx)
        except ClipkitError as error:
            complain(str(error))
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            complain("interrupted")
            raise typer.Exit(130) from error
        except BrokenPipeError as error:
            close_stdout()
            raise typer.Exit(0) from error

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Run; whatever is still buffered for a closed pipe is dropped quietly."""
        try:
            return super().main(args, *rest, **extra)
        finally:
            try:
                sys.stdout.flush()
            except BrokenPipeError:
                close_stdout()


def lazy_app(entries: tuple[Entry, ...], help_text: str, **kwargs: Any) -> typer.Typer:
    """A Typer app whose commands are the table's."""
    group = type("Group", (LazyGroup,), {"table": entries})
    app = typer.Typer(cls=group, help=help_text, no_args_is_help=True, rich_markup_mode="rich", **kwargs)
    app.callback(help=help_text)(_nothing)
    return app


def examples(*pairs: tuple[str, str]) -> str:
    """The epilog of a command's help: what each example is for, and the line to type."""
    rows = [f"[dim]# {what}[/]\n[cyan]{line.replace('[', chr(92) + '[')}[/]" for what, line in pairs]
    return "[bold]Examples[/]\n" + "\n".join(rows)


def reflowed(text: str) -> str:
    """Help text with each paragraph on one line, for the terminal to wrap; indented blocks stay."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(p if "\n " in p else " ".join(p.split()) for p in paragraphs)


def complain(message: str) -> None:
    """One line on stderr, with our name before it and control characters made visible."""
    line = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in message)
    sys.stderr.write(f"clipkit: {line}\n")


def close_stdout() -> None:
    """Send what is left for stdout nowhere, so that the interpreter's last flush stays quiet."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _nothing() -> None:
    pass
