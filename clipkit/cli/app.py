"""The command table: what `clipkit --help` lists, and where each command lives."""

from __future__ import annotations

from typing import Annotated

import typer

from clipkit.cli.lazy import Entry, lazy_app, reflowed

_PICTURES = "Pictures"
_VIDEO = "Video"
_SOUND = "Sound"
_MODELS = "Models and checks"

COMMANDS = (
    Entry("classify", "clipkit.cli.commands.classify", "Name what is in pictures, with your own labels.", _PICTURES),
    Entry("segment", "clipkit.cli.commands.segment", "Name the things in pictures and get their masks.", _PICTURES),
    Entry("detect", "clipkit.cli.commands.detect", "Find things in pictures by their names and get boxes.", _PICTURES),
    Entry("sketch", "clipkit.cli.commands.sketch", "Turn photographs into line drawings of a few strokes.", _PICTURES),
    Entry("depth", "clipkit.cli.commands.depth", "See how far everything in pictures is.", _PICTURES),
    Entry(
        "retrieve-video",
        "clipkit.cli.commands.retrieve_video",
        "Find the clip, and the moment in it, by words.",
        _VIDEO,
    ),
    Entry("classify-video", "clipkit.cli.commands.classify_video", "Name the action in videos.", _VIDEO),
    Entry("index", "clipkit.cli.commands.index", "Look at videos once, to search them often.", _VIDEO),
    Entry("audio-classify", "clipkit.cli.commands.audio_classify", "Name sounds in files and long recordings.", _SOUND),
    Entry("models", "clipkit.cli.commands.models", "List, fetch, choose, check and remove models.", _MODELS),
    Entry("bench", "clipkit.cli.commands.bench", "Measure accuracy and speed on labelled data.", _MODELS),
    Entry("doctor", "clipkit.cli.commands.doctor", "Say what works here, what is missing and how to get it.", _MODELS),
)

HELP = """Answers about pictures, video and sound with CLIP, without training anything.

Start with [cyan]clipkit classify photo.jpg --labels cat,dog[/]. A small model is built in and works offline;
[cyan]clipkit models list[/] shows larger ones.
"""

app = lazy_app(COMMANDS, HELP, context_settings={"help_option_names": ["-h", "--help"]})


def _version(value: bool) -> None:
    if value:
        from clipkit import __version__

        typer.echo(f"clipkit {__version__}")
        raise typer.Exit


@app.callback(help=reflowed(HELP))
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def run() -> None:
    """Run the command line and exit."""
    app(prog_name="clipkit")
