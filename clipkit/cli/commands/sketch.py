"""`clipkit sketch`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipkit.cli import options as opt
from clipkit.cli.lazy import examples
from clipkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clipkit.cli.sketch_audience import Onlooker
    from clipkit.results import Failure
    from clipkit.tasks.sketch import Sketch

app = typer.Typer(rich_markup_mode="rich", add_completion=False)

_STROKES = "Strokes"
_METHOD = "Method"
_MASK = "Background"
_SAVE = "Files"


class QualityName(StrEnum):
    """Presets."""

    draft = "draft"
    normal = "normal"
    paper = "paper"


class StartsName(StrEnum):
    """Where strokes begin."""

    contours = "contours"
    saliency = "saliency"


class RendererName(StrEnum):
    """Who turns strokes into pixels."""

    auto = "auto"
    torch = "torch"
    triton = "triton"
    diffvg = "diffvg"


StrokeCount = Annotated[str, typer.Option("--strokes", "-n", metavar="N|auto", help="How many; auto finds out.")]
Quality = Annotated[
    QualityName,
    typer.Option("--quality", help="draft: under a minute on a laptop; normal: minutes; paper: as published."),
]
Width = Annotated[
    float, typer.Option(metavar="X", help="Width of a stroke, of a canvas 224 wide.", rich_help_panel=_STROKES)
]
OptimizeWidth = Annotated[
    bool, typer.Option("--optimize-width", help="Let each stroke find its width.", rich_help_panel=_STROKES)
]
Color = Annotated[bool, typer.Option("--color", help="Let each stroke find its colour.", rich_help_panel=_STROKES)]
Sequential = Annotated[
    int,
    typer.Option(
        min=0, metavar="K", help="Fit K strokes, freeze them, fit the next K; 0 fits all.", rich_help_panel=_STROKES
    ),
]
Epsilon = Annotated[
    float,
    typer.Option(
        metavar="X", help="--strokes auto: the share of the gain that fewer strokes may lose.", rich_help_panel=_STROKES
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option(metavar="N", help="Sketches begun; the best is kept. 3 in all presets.", rich_help_panel=_METHOD),
]
Seed = Annotated[int, typer.Option(min=0, metavar="N", help="Of all randomness.", rich_help_panel=_METHOD)]
Steps = Annotated[
    int | None,
    typer.Option(metavar="N", help="Optimiser steps, instead of the preset's.", rich_help_panel=_METHOD),
]
Augmentations = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Warped views beside the plain one, instead of the preset's.", rich_help_panel=_METHOD
    ),
]
Resolution = Annotated[
    int | None,
    typer.Option(
        metavar="PX", help="Side of the picture a ResNet is shown; a ViT has its own.", rich_help_panel=_METHOD
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(
        metavar="A[:W],B", help="Layers of the loss, as layer2,layer3 or, for a ViT, 4,8.", rich_help_panel=_METHOD
    ),
]
Contours = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Weight of the photo's contours beside CLIP; 1 for the built-in model, 0 for others.",
        rich_help_panel=_METHOD,
    ),
]
Starts = Annotated[
    StartsName | None,
    typer.Option(
        help="First guesses: along contours, or short random curves where CLIP looks (CLIPasso's); contours if --contours is over 0.",
        rich_help_panel=_METHOD,
    ),
]
Renderer = Annotated[RendererName, typer.Option(help="auto is torch, on every device.", rich_help_panel=_METHOD)]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="CPU threads; one for the built-in model, else as many as torch likes.",
        rich_help_panel=_METHOD,
    ),
]
MaskFile = Annotated[
    Path | None,
    typer.Option("--mask", metavar="FILE", help="White or opaque where the object is.", rich_help_panel=_MASK),
]
NoMask = Annotated[bool, typer.Option("--no-mask", help="Draw the background too.", rich_help_panel=_MASK)]
SaveTo = Annotated[Path, typer.Option(metavar="DIR", help="Write files into DIR.", rich_help_panel=_SAVE)]
PngSize = Annotated[
    int, typer.Option("--png-size", min=16, max=8192, metavar="PX", help="Side of the PNG.", rich_help_panel=_SAVE)
]
Animate = Annotated[
    bool,
    typer.Option(
        "--animate", help="Also an SVG and a GIF that draw themselves, best strokes first.", rich_help_panel=_SAVE
    ),
]
Sheet = Annotated[bool, typer.Option("--sheet", help="Also a sheet of all seeds.", rich_help_panel=_SAVE)]
Preview = Annotated[
    bool, typer.Option("--preview", help="Keep NAME.sketch.preview.png up to date.", rich_help_panel=_SAVE)
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where Ctrl-C ended a run.", rich_help_panel=_SAVE)]

EXAMPLES = examples(
    ("a drawing of 16 strokes", "clipkit sketch photo.jpg"),
    ("fewer strokes, more abstract", "clipkit sketch photo.jpg --strokes 8"),
    ("as many as it needs, drawing itself", "clipkit sketch photo.jpg --strokes auto --animate"),
    ("the published settings, a large model", "clipkit sketch photo.jpg --quality paper --model RN101"),
    ("a folder, coloured", "clipkit sketch photos/ --color --optimize-width --save-to drawings/"),
    ("go on after Ctrl-C", "clipkit sketch photo.jpg --quality paper --resume"),
)


@app.command(epilog=EXAMPLES)
def sketch(
    inputs: opt.Inputs = None,
    strokes: StrokeCount = "16",
    quality: Quality = QualityName.draft,
    width: Width = 3.0,
    optimize_width: OptimizeWidth = False,
    color: Color = False,
    sequential: Sequential = 0,
    epsilon: Epsilon = 0.01,
    seeds: Seeds = None,
    seed: Seed = 0,
    steps: Steps = None,
    augmentations: Augmentations = None,
    resolution: Resolution = None,
    layers: Layers = None,
    contours: Contours = None,
    starts: Starts = None,
    renderer: Renderer = RendererName.auto,
    threads: Threads = None,
    mask: MaskFile = None,
    no_mask: NoMask = False,
    save_to: SaveTo = Path(),
    png_size: PngSize = 896,
    animate: Animate = False,
    sheet: Sheet = False,
    preview: Preview = False,
    resume: Resume = False,
    files_from: opt.FilesFrom = None,
    null: opt.Null = False,
    max_pixels: opt.MaxPixels = None,
    model: opt.ModelName = None,
    device: opt.Device = None,
    format: opt.Format = None,  # noqa: A002 (the option's name)
    output: opt.OutputFile = None,
    quiet: opt.Quiet = False,
    no_progress: opt.NoProgress = False,
) -> None:
    """Turn photographs into line drawings of a few strokes.

    Strokes move until CLIP sees in the drawing what it sees in the photograph (CLIPasso). Writes
    NAME.sketch.svg, .png and .json; Ctrl-C leaves the best drawing so far and --resume goes on.
    """
    if not inputs and files_from is None:
        raise UsageError("no pictures given; name files or folders, - for stdin, or --files-from FILE")
    if mask is not None and no_mask:
        raise UsageError("--mask and --no-mask exclude each other")
    count = _stroke_count(strokes)

    from dataclasses import replace

    from clipkit.sketching.recipe import preset

    recipe = preset(quality.value)
    wishes: dict[str, Any] = {"seeds": seeds, "steps": steps, "augmentations": augmentations, "resolution": resolution}
    recipe = replace(
        recipe,
        strokes=count,
        seed=seed,
        width=width,
        optimize_width=optimize_width,
        color=color,
        sequential=sequential,
        epsilon=epsilon,
        layers=layers,
        mask=not no_mask,
        contours=contours,
        starts=None if starts is None else starts.value,
        **{name: value for name, value in wishes.items() if value is not None},
    ).checked()

    from clipkit.cli.driver import drive
    from clipkit.cli.sketch_audience import Onlooker
    from clipkit.media.image import DEFAULT_MAX_PIXELS
    from clipkit.media.paths import expand
    from clipkit.models.loader import load_clip
    from clipkit.settings import setting
    from clipkit.sketching.files import SketchFiles
    from clipkit.sketching.rasterize import choose_renderer
    from clipkit.tasks.sketch import Sketch, SketchOptions, run

    files = SketchFiles(save_to, size=png_size, animate=animate, sheets=sheet)
    clip = load_clip(model, setting("device", device), "fp32", engine="torch")
    options = SketchOptions(
        recipe=recipe,
        renderer=choose_renderer(renderer.value, clip.device),
        mask_file=mask,
        ordered=animate,
        resume=resume,
        max_pixels=max_pixels or DEFAULT_MAX_PIXELS,
    )
    _set_threads(threads, clip.id)
    audience = Onlooker(files, show=not (quiet or no_progress), preview=preview)
    with audience:
        outcomes = run(expand(inputs or (), files_from=files_from, null=null), options, clip, audience)
        drive(
            _told(files.saved(outcomes), audience, quiet=quiet),
            opt.Common(format, output, quiet, no_progress=True),
            columns=Sketch.columns,
            model=clip.id,
        )


def _stroke_count(text: str) -> int | None:
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--strokes {text}: give a number, or auto") from None


def _set_threads(threads: int | None, model: str) -> None:
    """Small pictures through a small model gain nothing from threads and lose much where the cores are busy."""
    import torch

    if threads is not None or model == "builtin":
        torch.set_num_threads(threads or 1)


def _told(outcomes: Iterator[Sketch | Failure], audience: Onlooker, *, quiet: bool) -> Iterator[Sketch | Failure]:
    """Pass outcomes on, warn where a mask was of no use, and end as interrupted after an incomplete one."""
    from clipkit.results import Failure

    for outcome in outcomes:
        audience.end()
        if not isinstance(outcome, Failure) and outcome.drawing.mask.remark and not quiet:
            typer.echo(f"warning: {outcome.path}: {outcome.drawing.mask.remark}", err=True)
        yield outcome
        if not isinstance(outcome, Failure) and not outcome.drawing.complete:
            if not quiet:
                typer.echo(f"interrupted: {outcome.svg} is the best so far; --resume goes on", err=True)
            raise KeyboardInterrupt
