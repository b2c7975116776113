"""The command reference as Markdown, made from the commands themselves: `python -m clipkit.cli.reference > docs/reference.md`."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

from typer.core import TyperGroup
from typer.main import get_command

if TYPE_CHECKING:
    from collections.abc import Iterator

INTRO = """# Command reference

Made by `python -m clipkit.cli.reference`; do not edit. Exit codes: 0 all done, 1 nothing worked, 2 usage,
3 some inputs failed, 4 model not available, 130 interrupted.
"""


def reference() -> str:
    """Every command's help, in the order of the overview."""
    from clipkit.cli.app import app

    sections = [INTRO, *(_section(path, command) for path, command in walk(get_command(app), ("clipkit",)))]
    return "\n".join(sections)


def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A command and, where it is a group, all that lie under it."""
    yield path, command
    if isinstance(command, TyperGroup):
        context = command.context_class(command, info_name=path[-1])
        for name in command.list_commands(context):
            _, child, _ = command.resolve_command(context, [name])
            yield from walk(child, (*path, name))


def _section(path: tuple[str, ...], command: Any) -> str:
    lines = [f"\n## {' '.join(path)}\n", _plain(command.help or ""), ""]
    context = command.context_class(command, info_name=" ".join(path))
    usage = " ".join([" ".join(path), *command.collect_usage_pieces(context)])
    lines += ["```", usage, "```", ""]
    rows = [row for row in map(_row, command.params) if row]
    if rows:
        lines += ["| option | meaning | default |", "|---|---|---|", *rows, ""]
    if command.epilog:
        lines += ["```sh", *_plain(command.epilog).splitlines()[1:], "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _row(param: Any) -> str:
    if getattr(param, "hidden", False) or param.name in {"help", "install_completion", "show_completion"}:
        return ""
    names = ", ".join(f"`{name}`" for name in [*param.opts, *param.secondary_opts]) if param.opts[0][0] == "-" else ""
    kind = "" if getattr(param, "is_flag", False) else _choices(param)
    default = param.default
    if default in (None, False, True) or callable(default):
        default = ""
    return f"| {names or '`' + (param.metavar or param.name) + '`'}{kind} | {_cell(param.help or '')} | {_cell(str(getattr(default, 'value', default)))} |"


def _choices(param: Any) -> str:
    choices = getattr(param.type, "choices", None)
    if choices:
        return " " + " \\| ".join(str(getattr(c, "value", c)) for c in choices)
    return f" {_cell(param.metavar)}" if param.metavar and param.opts[0][0] == "-" else ""


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|").replace("\n", " ")


def _plain(text: str) -> str:
    return re.sub(r"\[/?(?:[a-z]+(?: [a-z]+)*)?\]", "", text).replace("\\[", "[")


if __name__ == "__main__":
    sys.stdout.write(reference())
