"""How long until the first byte: version, help, and the first answer, each beside what it is measured against."""

import shutil

from conftest import process

BARE_APP = (
    "import typer\n"
    "from typing import Annotated\n"
    "app = typer.Typer(help='x', rich_markup_mode='rich')\n"
    "@app.command()\n"
    "def a(x: Annotated[int, typer.Option(help='n')] = 1): 'A.'\n"
    "@app.command()\n"
    "def b(x: Annotated[int, typer.Option(help='n')] = 1): 'B.'\n"
    "app(['--help'], prog_name='app')\n"
)


def test_version(side_by_side):
    """`--version` beside bare Python (bar: at most 2 times)."""
    side_by_side("version", rounds=15, clipkit=process("-m", "clipkit", "--version"), python=process("-c", "pass"))


def test_help(side_by_side):
    """`--help` beside the help of a bare typer and rich app (bar: at most 1.15 times)."""
    side_by_side("help", rounds=11, clipkit=process("-m", "clipkit", "--help"), bare_app=process("-c", BARE_APP))


def test_first_answer(side_by_side, private_home):
    """`classify` with the built-in model, with and without cached class vectors, beside `import torch` (bar: 0.35)."""
    classify = process("-m", "clipkit", "classify", "docs/images/cat.jpg", "--labels", "cat,dog", "--device", "cpu")

    def without_cache():
        shutil.rmtree(private_home / "cache", ignore_errors=True)
        classify()

    side_by_side(
        "first answer",
        classify_cached=classify,
        classify_cold=without_cache,
        import_torch=process("-c", "import torch"),
    )
