"""`clipkit doctor`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from clipkit.cli.lazy import examples

if TYPE_CHECKING:
    from clipkit.models.doctor import Report

app = typer.Typer(rich_markup_mode="rich", add_completion=False)

EXAMPLES = examples(
    ("what is here, and does it work", "clipkit doctor"),
    ("for a report", "clipkit doctor --json > doctor.json"),
)
_MARKS = {"ok": ("+", "green"), "note": ("!", "yellow"), "problem": ("x", "red")}


@app.command(epilog=EXAMPLES)
def doctor(
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what is installed, what works, what is missing and how to get it.

    Looks at Python, packages, devices, caches and the model in use; opens no socket and changes nothing.
    Leaves with 0 where nothing is wrong, else 1.
    """
    from clipkit.models.doctor import examine

    report = examine()
    if json_:
        sys.stdout.write(f"{json.dumps(report.record(), indent=1)}\n")
    else:
        _print(report)
    raise typer.Exit(0 if report.healthy else 1)


def _print(report: Report) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    topic = ""
    width = max(len(finding.name) for finding in report.findings)
    for finding in report.findings:
        if finding.topic != topic:
            topic = finding.topic
            console.print(Text(topic, style="bold"))
        mark, colour = _MARKS[finding.state]
        console.print(Text(f"  {mark} ", style=colour) + Text(f"{finding.name:<{width}}  {finding.detail}"))
        if finding.remedy:
            console.print(Text(f"    {'':<{width}}  -> {finding.remedy}", style="cyan"))
    problems = sum(finding.state == "problem" for finding in report.findings)
    console.print(Text("all is well" if not problems else f"{problems} problem(s)", style="bold"))
