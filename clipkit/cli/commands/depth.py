"""`clipkit depth`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipkit.cli import options as opt
from clipkit.cli.lazy import examples
from clipkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clipkit.depth.ladder import Ladder
    from clipkit.results import Failure
    from clipkit.tasks.depth import Depth

app = typer.Typer(rich_markup_mode="rich", add_completion=False)

_METHOD = "Method"
_WORDS = "Words for distances"
_SAVE = "Saving files"


class MethodName(StrEnum):
    """Who sees depth."""

    auto = "auto"
    depthclip = "depthclip"
    depthclip_dense = "depthclip-dense"
    depth_anything = "depth-anything"
    zoedepth = "zoedepth"
    depth_pro = "depth-pro"


class UpsampleName(StrEnum):
    """How a coarse map gets the picture's size."""

    bilinear = "bilinear"
    guided = "guided"


class SaveName(StrEnum):
    """Files for each picture."""

    npy = "npy"
    png = "png"
    preview = "preview"
    side = "side"
    cloud = "cloud"


class ColoursName(StrEnum):
    """Colour maps of previews."""

    turbo = "turbo"
    inferno = "inferno"
    viridis = "viridis"
    grey = "grey"


Method = Annotated[
    MethodName,
    typer.Option(
        help="auto and the depthclip methods ask CLIP; depth-anything, zoedepth and depth-pro are trained on metres.",
        rich_help_panel=_METHOD,
    ),
]
Size = Annotated[
    int | None,
    typer.Option(min=32, metavar="PX", help="Short side of the working picture (CLIP).", rich_help_panel=_METHOD),
]
Flip = Annotated[
    bool | None,
    typer.Option(
        "--flip/--no-flip",
        help="Average with the mirror image; the depthclip methods do unless told not to.",
        rich_help_panel=_METHOD,
    ),
]
Upsampling = Annotated[
    UpsampleName,
    typer.Option("--upsample", help="guided follows the edges of the picture.", rich_help_panel=_METHOD),
]
Words = Annotated[
    str | None,
    typer.Option(metavar="A,B", help="Words for distances; the default is the paper's seven.", rich_help_panel=_WORDS),
]
Bins = Annotated[
    str | None, typer.Option(metavar="M,M", help="What each word means, in metres.", rich_help_panel=_WORDS)
]
DepthTemplates = Annotated[
    str,
    typer.Option(
        "--templates", "-t", metavar="FILE|TEXT", help="Text with {}, or a file of such.", rich_help_panel=_WORDS
    ),
]
Temperature = Annotated[
    float,
    typer.Option(
        min=1e-6, metavar="T", help="Divides 100 times the cosines before the softmax.", rich_help_panel=_WORDS
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="A CLIP for the depthclip methods; a transformers repository or folder for the others.",
        rich_help_panel=opt.MODEL,
    ),
]

EXAMPLES = examples(
    ("one picture, with files", "clipkit depth room.jpg --save-to out/"),
    ("everything there is", "clipkit depth room.jpg --save-to out/ --save npy --save png --save side --save cloud"),
    ("sharper edges", "clipkit depth room.jpg --save-to out/ --upsample guided"),
    ("from a model trained on metres", "clipkit depth room.jpg --method depth-anything --save-to out/"),
    ("your own words", "clipkit depth street.jpg --words near,middling,distant --bins 2,10,50"),
)


@app.command(epilog=EXAMPLES)
def depth(
    inputs: opt.Inputs = None,
    method: Method = MethodName.auto,
    size: Size = None,
    flip: Flip = None,
    upsample: Upsampling = UpsampleName.bilinear,
    words: Words = None,
    bins: Bins = None,
    templates: DepthTemplates = "This object is {}",
    temperature: Temperature = 0.1,
    fov: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=170,
            metavar="DEG",
            help="Horizontal field of view, for clouds; the default is EXIF's, the model's, or 60.",
            rich_help_panel=_SAVE,
        ),
    ] = None,
    save_to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write files into DIR.", rich_help_panel=_SAVE)
    ] = None,
    save: Annotated[
        list[SaveName] | None,
        typer.Option(help="Which files; repeat it. The default is npy and preview.", rich_help_panel=_SAVE),
    ] = None,
    colours: Annotated[
        ColoursName, typer.Option("--colours", "--colors", help="Colours of previews.", rich_help_panel=_SAVE)
    ] = ColoursName.turbo,
    span: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="NEAR FAR", help="Metres the colours span; the default fits each picture.", rich_help_panel=_SAVE
        ),
    ] = None,
    points: Annotated[
        int, typer.Option(min=1, metavar="N", help="At most N points a cloud.", rich_help_panel=_SAVE)
    ] = 1_000_000,
    files_from: opt.FilesFrom = None,
    null: opt.Null = False,
    max_pixels: opt.MaxPixels = None,
    model: ModelName = None,
    device: opt.Device = None,
    precision: opt.Precision = None,
    format: opt.Format = None,  # noqa: A002 (the option's name)
    output: opt.OutputFile = None,
    quiet: opt.Quiet = False,
    no_progress: opt.NoProgress = False,
    workers: opt.Workers = None,
) -> None:
    """See how far everything in pictures is.

    CLIP orders what it sees from words for distances, coarsely; models trained on metres are one flag away. Records
    give the smallest, mean and largest depth, and whether the metres were trained.
    """
    if not inputs and files_from is None:
        raise UsageError("no pictures given; name files or folders, - for stdin, or --files-from FILE")
    if save_to is None and save:
        raise UsageError("--save needs --save-to DIR")
    ladder = make_ladder(words, bins, templates, temperature)

    from clipkit.cli.driver import drive
    from clipkit.dense.features import DenseOptions
    from clipkit.media.image import DEFAULT_MAX_PIXELS
    from clipkit.media.paths import count, expand
    from clipkit.output.depth_files import DepthFiles
    from clipkit.tasks.depth import Choice, Depth, DepthOptions, open_estimator, run

    files = None
    if save_to is not None:
        kinds = [kind.value for kind in save] if save else ["npy", "preview"]
        files = DepthFiles(save_to, kinds, colours=colours.value, span=span, points=points)
    estimator = open_estimator(Choice(method.value, ladder, DenseOptions(size=size), model, device, precision))
    options = DepthOptions(flip, upsample.value, fov, max_pixels or DEFAULT_MAX_PIXELS)
    outcomes: Iterator[Depth | Failure] = run(
        expand(inputs or (), files_from=files_from, null=null), options, estimator, workers=workers
    )
    drive(
        outcomes if files is None else files.saved(outcomes),
        opt.Common(format, output, quiet, no_progress),
        columns=Depth.columns,
        count=lambda: count(inputs or (), files_from=files_from, null=null),
        model=estimator.id,
        percent=False,
    )


def make_ladder(words: str | None, bins: str | None, templates: str, temperature: float) -> Ladder:
    """The words and distances of a command line.

    Raises:
        UsageError: words without bins where there are not seven, or bins that are no numbers.
    """
    from clipkit.depth.ladder import BINS, WORDS, Ladder
    from clipkit.prompts.templates import load_templates

    try:
        distances = BINS if bins is None else tuple(float(part) for part in bins.split(","))
    except ValueError as error:
        raise UsageError(f"--bins {bins!r}: expected distances in metres with commas between, as 1,2.5,4") from error
    names = WORDS if words is None else tuple(" ".join(part.split()) for part in words.split(","))
    return Ladder(names, distances, load_templates(templates), temperature)
