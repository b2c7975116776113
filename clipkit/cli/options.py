"""Options that several commands share, each spelled once.

A command takes `inputs: Inputs, model: Model = None, ...` and hands the values that concern every command to
`Common`. Defaults of None mean: `CLIPKIT_*` variable, then the user config file, then the built-in default.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from clipkit.tasks.images import ImageOptions

SELECT = "Inputs"
MODEL = "Model"
OUTPUT = "Output"
SPEED = "Speed"


class FormatName(StrEnum):
    """Record formats; `auto` is a table on a terminal and JSONL in a pipe."""

    auto = "auto"
    table = "table"
    jsonl = "jsonl"
    json = "json"
    csv = "csv"
    tsv = "tsv"


class DecodeName(StrEnum):
    """How JPEGs are decoded."""

    fast = "fast"
    exact = "exact"


class ReductionName(StrEnum):
    """How the prompts of one label become one score."""

    embed = "embed"
    prob = "prob"
    none = "none"


class DeviceHelp:
    """Help text of the device option, in one place."""

    text = "auto, cpu, cuda, cuda:1 or mps."


Inputs = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH...", help="Files, folders (searched recursively), globs, or - for one file on stdin."),
]
FilesFrom = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Read paths from FILE (- is stdin), one a line.", rich_help_panel=SELECT),
]
Null = Annotated[
    bool, typer.Option("--null", "-0", help="Paths in --files-from end in NUL bytes.", rich_help_panel=SELECT)
]
MaxPixels = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Refuse pictures of more than N pixels.", rich_help_panel=SELECT),
]
Decode = Annotated[
    DecodeName,
    typer.Option(
        help="fast lets large JPEGs be scaled while decoding; exact decodes every pixel.", rich_help_panel=SPEED
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="builtin, a name of `clipkit models list`, hf-hub:ORG/REPO or a folder.",
        rich_help_panel=MODEL,
    ),
]
Device = Annotated[str | None, typer.Option(metavar="NAME", help=DeviceHelp.text, rich_help_panel=MODEL)]
Precision = Annotated[str | None, typer.Option(metavar="NAME", help="auto, fp32, fp16 or bf16.", rich_help_panel=MODEL)]
LabelList = Annotated[
    list[str] | None,
    typer.Option(
        "--labels",
        "-l",
        metavar="A,B|C",
        help="Labels parted by commas, wordings of one label by |; or imagenet, coco, voc, cifar10, cifar100, esc50.",
    ),
]
LabelsFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Read labels from FILE, one a line.")]
Templates = Annotated[
    str,
    typer.Option(
        "--templates",
        "-t",
        metavar="SET|FILE|TEXT",
        help="imagenet (80), simple (7), photo, none, a file, or text with {}.",
    ),
]
Reduce = Annotated[
    ReductionName,
    typer.Option(help="Average prompts as vectors (embed), as probabilities (prob), or keep the best (none)."),
]
Format = Annotated[
    FormatName | None,
    typer.Option("--format", "-f", help="auto: a table on a terminal, JSONL in a pipe.", rich_help_panel=OUTPUT),
]
OutputFile = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write records to FILE, whole or not at all.", rich_help_panel=OUTPUT
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No hints, no progress.", rich_help_panel=OUTPUT)]
NoProgress = Annotated[bool, typer.Option("--no-progress", help="No progress line.", rich_help_panel=OUTPUT)]
BatchSize = Annotated[int, typer.Option(min=1, metavar="N", help="Pictures a forward pass.", rich_help_panel=SPEED)]
Workers = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help="Decoding threads; 0 decodes in the main thread.", rich_help_panel=SPEED),
]


@dataclass(frozen=True, slots=True)
class Common:
    """What every command shares about its output."""

    format: FormatName | None = None
    output: Path | None = None
    quiet: bool = False
    no_progress: bool = False


def image_options(decode: DecodeName, max_pixels: int | None, batch_size: int, workers: int | None) -> ImageOptions:
    """The shared reading options as the tasks take them."""
    from clipkit.media.image import DEFAULT_MAX_PIXELS
    from clipkit.tasks.images import ImageOptions

    return ImageOptions(decode.value, max_pixels or DEFAULT_MAX_PIXELS, batch_size, workers)


def split_labels(values: list[str] | None) -> str | list[str] | None:
    """`--labels` given once is text for `load_labels`; given several times, each is split at commas and joined."""
    if values is None or len(values) == 1:
        return values[0] if values else None
    return [part for value in values for part in value.split(",")]
