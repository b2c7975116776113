"""`clipkit models`: what there is, what is here, and which one answers."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipkit.cli.lazy import examples
from clipkit.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clipkit.models.catalog import ModelRef
    from clipkit.models.store import Progress

HELP = "List, fetch, choose, check and remove models."

app = typer.Typer(rich_markup_mode="rich", add_completion=False, no_args_is_help=True, help=HELP)


@app.callback(help=HELP)
def _group() -> None:
    pass


def _complete(incomplete: str) -> list[str]:
    from clipkit.models.catalog import BUILTIN, pretrained

    names = [BUILTIN, *dict.fromkeys(ref.arch for ref in pretrained()), *(ref.id for ref in pretrained())]
    return [name for name in names if name.lower().startswith(incomplete.lower())]


Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="ViT-B-32, ViT-B-32/laion2b_s34b_b79k, hf-hub:ORG/REPO, a folder...",
        autocompletion=_complete,
    ),
]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Model names.", autocompletion=_complete)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(
    "list",
    epilog=examples(
        ("all that open_clip knows", "clipkit models list"),
        ("a family", "clipkit models list siglip2"),
        ("what is on this machine", "clipkit models list --here"),
        ("for a script", "clipkit models list --here --json | jq -r '.[].name'"),
    ),
)
def list_(
    pattern: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="Only names that contain TEXT.")] = None,
    here: Annotated[bool, typer.Option("--here", help="Only models on this machine.")] = False,
    json_: AsJson = False,
) -> None:
    """List models: the built-in one, every pretrained pair of open_clip, and other hub models that are here.

    A name is ARCHITECTURE/TAG; the architecture alone means OpenAI's weights, or the best where OpenAI has none.
    """
    from clipkit.models.store import available
    from clipkit.settings import setting

    wanted = (pattern or "").lower()
    rows = [(ref, pulled) for ref, pulled in available() if wanted in ref.id.lower() and (pulled or not here)]
    used = _id_or_none(setting("model"))
    if json_:
        _print_json([_row(ref, pulled, used) for ref, pulled in rows])
        return
    if not rows:
        raise UsageError(f"no model's name contains {pattern!r}" if wanted else "no model is on this machine")
    table = [("", "name", "here", "pixels", "dim")]
    for ref, pulled in rows:
        row = _row(ref, pulled, used)
        size = row["image_size"] or ""
        pixels = "x".join(map(str, size)) if isinstance(size, (list, tuple)) else str(size)
        table.append(
            ("*" if row["in_use"] else "", ref.id, "yes" if pulled else "", pixels, str(row["embed_dim"] or ""))
        )
    _print_table(table)


@app.command(
    epilog=examples(
        ("a model's facts", "clipkit models show ViT-B-32"), ("its hash", "clipkit models show builtin --json")
    )
)
def show(name: Name, json_: AsJson = False) -> None:
    """Show what is known of a model, and its files where it is here."""
    from clipkit.models.catalog import resolve
    from clipkit.models.store import describe

    facts = describe(resolve(name))
    if json_:
        _print_json(facts)
        return
    shown = {key: value for key, value in facts.items() if value not in (None, "") and key != "card"}
    shown |= {
        f"card.{key}": value for key, value in facts.get("card", {}).items() if isinstance(value, (str, int, float))
    }
    _print_table([(key, str(value)) for key, value in shown.items()], head=False)


@app.command(
    epilog=examples(
        ("OpenAI's ViT-B/32", "clipkit models pull ViT-B-32"),
        ("two at once", "clipkit models pull ViT-B-16/datacomp_xl_s13b_b90k MobileCLIP2-S0"),
        ("a hub repository", "clipkit models pull hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
    )
)
def pull(
    names: Names,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No hints, no progress.")] = False,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress bar.")] = False,
) -> None:
    """Fetch models from the hub; prints the path of each one's weights.

    An interrupted download goes on where it stopped. Files are checked against their published hashes and lie in
    the hub's shared cache (HF_HOME); HF_TOKEN and HF_ENDPOINT are honoured.
    """
    from clipkit.models.catalog import resolve
    from clipkit.models.store import pull as fetch

    refs = [resolve(name) for name in names]
    for ref in refs:
        with _bar(show=not (quiet or no_progress)) as progress:
            pulled = fetch(ref, progress)
        sys.stdout.write(f"{pulled.weights}\n")
        if not quiet:
            told = f"{pulled.transferred / 1e6:.0f} MB fetched" if pulled.transferred else "was here already"
            _tell(f"{ref.id}: {told}; `clipkit models use {ref.id}` makes it the one that answers")
            if pulled.note:
                _tell(pulled.note)


@app.command(
    epilog=examples(
        ("from now on", "clipkit models use ViT-B-32"),
        ("back to the small one", "clipkit models use builtin"),
        ("a model of your own", "clipkit models use ./my-model"),
    )
)
def use(name: Name) -> None:
    """Choose the model that answers where no --model is given."""
    from clipkit.models.catalog import BUILTIN, resolve
    from clipkit.models.store import is_pulled
    from clipkit.settings import save_setting

    ref = resolve(name)
    path = save_setting("model", None if ref.id == BUILTIN else ref.id)
    sys.stdout.write(f"{ref.id}\n")
    _tell(f"written to {path}")
    if not is_pulled(ref):
        _tell(f"{ref.id} is not on this machine yet: `clipkit models pull {ref.id}` fetches it")
    if os.environ.get("CLIPKIT_MODEL"):
        _tell(f"CLIPKIT_MODEL={os.environ['CLIPKIT_MODEL']} still comes first")


@app.command(
    epilog=examples(("the model in use", "clipkit models verify"), ("another", "clipkit models verify ViT-B-32"))
)
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Model names; without, the one in use.", autocompletion=_complete),
    ] = None,
    json_: AsJson = False,
) -> None:
    """Read a model's files again and compare them with their published hashes."""
    from clipkit.models.catalog import resolve
    from clipkit.models.store import verify as check
    from clipkit.settings import setting

    refs = [resolve(name) for name in names or [setting("model")]]
    found = [(ref, checked) for ref in refs for checked in check(ref)]
    if json_:
        rows = [{"name": r.id, "path": str(c.path), "state": c.state, "detail": c.detail} for r, c in found]
        _print_json(rows)
    else:
        _print_table([(checked.state, str(checked.path), checked.detail) for _, checked in found], head=False)
    damaged = [(ref, checked) for ref, checked in found if checked.state == "damaged"]
    if damaged:
        ref = damaged[0][0]
        cure = f"`clipkit models remove {ref.id}`, then pull it again" if ref.repo else "install or copy it again"
        raise ModelError(f"{len(damaged)} damaged file(s), the first is {damaged[0][1].path}: {cure}")


@app.command(epilog=examples(("free its disk space", "clipkit models remove ViT-B-32 --yes")))
def remove(
    names: Names,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete models from the hub's cache, with the graphs exported from them.

    The cache is shared with other programs that use the same hub.
    """
    from clipkit.models.catalog import resolve
    from clipkit.models.store import remove as delete

    refs = [resolve(name) for name in names]
    if not yes and not typer.confirm(f"delete {', '.join(ref.id for ref in refs)}?", err=True):
        raise typer.Exit(1)
    for ref in refs:
        for path in delete(ref):
            sys.stdout.write(f"{path}\n")


@app.command(epilog=examples(("in a script", 'ls -l "$(clipkit models path builtin)"')))
def path(name: Name) -> None:
    """Print the path of a model's weights."""
    from clipkit.models.catalog import resolve
    from clipkit.models.locate import locate

    sys.stdout.write(f"{locate(resolve(name)).weights}\n")


@app.command(epilog=examples(("answer without torch", "clipkit models export ViT-B-32")))
def export(names: Names) -> None:
    """Write a model's ONNX graphs, so that it answers on the CPU without loading torch; prints their folder.

    The weights stay where they are. The graphs are checked against torch before they are used.
    """
    from clipkit.models.catalog import resolve
    from clipkit.models.export import export as write

    for name in names:
        sys.stdout.write(f"{write(resolve(name))}\n")


def _row(ref: ModelRef, pulled: bool, used: str | None) -> dict[str, Any]:
    """One entry of the list as a JSON object."""
    row: dict[str, Any] = {"name": ref.id, "here": pulled, "in_use": ref.id == used}
    row |= {"image_size": ref.image_size, "embed_dim": ref.embed_dim, "repo": ref.repo or None}
    if pulled and ref.embed_dim is None:  # the config says it, not the table
        from clipkit.models.store import describe

        facts = describe(ref)
        row |= {"image_size": facts["image_size"], "embed_dim": facts["embed_dim"]}
    return row


def _id_or_none(name: str) -> str | None:
    from clipkit.models.catalog import resolve

    try:
        return resolve(name).id
    except UsageError:
        return None


def _print_json(value: Any) -> None:
    sys.stdout.write(f"{json.dumps(value, indent=1)}\n")


def _print_table(rows: Sequence[tuple[str, ...]], *, head: bool = True) -> None:
    """Aligned columns, never cut off, so that names can be copied and grepped."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for number, row in enumerate(rows):
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        console.print(Text(line, style="bold" if head and number == 0 else ""))


def _tell(line: str) -> None:
    """A remark for a person: stderr, and only on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{line}\n")


@contextmanager
def _bar(*, show: bool) -> Iterator[Progress | None]:
    """A progress bar for each file on stderr, where that is a terminal."""
    if not (show and sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, Any] = {}
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def report(file: str, done: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file, total=total)
            bars.update(tasks[file], completed=done)

        yield report
