"""`clipkit segment`."""

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

    from clipkit.results import Failure
    from clipkit.tasks.segment import Segmentation

app = typer.Typer(rich_markup_mode="rich", add_completion=False)

_METHOD = "Method"
_SAVE = "Files"


class MethodName(StrEnum):
    """Who segments."""

    auto = "auto"
    scclip = "scclip"
    pearl = "pearl"
    naclip = "naclip"
    sclip = "sclip"
    clearclip = "clearclip"
    maskclip = "maskclip"
    local = "local"
    plain = "plain"
    groupvit = "groupvit"
    lseg = "lseg"
    clipseg = "clipseg"


class RefineName(StrEnum):
    """What smooths the answer."""

    auto = "auto"
    none = "none"
    tlp = "tlp"
    pamr = "pamr"


class SaveName(StrEnum):
    """Files for each picture."""

    mask = "mask"
    overlay = "overlay"
    classes = "classes"
    coco = "coco"
    yolo = "yolo"
    labelme = "labelme"


Background = Annotated[
    str | None,
    typer.Option(
        metavar="A|B", help="What counts as background, as sky|wall|grass; '' for none; the default is a common list."
    ),
]
Method = Annotated[
    MethodName,
    typer.Option(
        help="auto picks the best for the model's image tower; groupvit, lseg and clipseg bring their own model.",
        rich_help_panel=_METHOD,
    ),
]
Refine = Annotated[
    RefineName,
    typer.Option(help="tlp: fast, led by text and edges; pamr: slower, finer edges.", rich_help_panel=_METHOD),
]
Size = Annotated[
    int | None,
    typer.Option(min=32, metavar="PX", help="Short side of the working picture.", rich_help_panel=_METHOD),
]
WindowSide = Annotated[
    int | None,
    typer.Option(
        "--window", min=0, metavar="PX", help="Sliding window; 0 is the whole picture.", rich_help_panel=_METHOD
    ),
]
Stride = Annotated[int | None, typer.Option(min=1, metavar="PX", help="Step of the window.", rich_help_panel=_METHOD)]
Flip = Annotated[
    bool, typer.Option("--flip", help="Average with the mirror image: twice the time.", rich_help_panel=_METHOD)
]
Scale = Annotated[
    float | None,
    typer.Option(min=0.001, metavar="X", help="Multiplier of cosines before the softmax.", rich_help_panel=_METHOD),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|DIR", help="Weights of groupvit, lseg or clipseg, where not pulled.", rich_help_panel=opt.MODEL
    ),
]

EXAMPLES = examples(
    ("one picture, with files", "clipkit segment photo.jpg --labels 'cat|kitten,dog' --save-to out/"),
    ("your own background", "clipkit segment street.jpg -l car,person --background 'road|sky|building'"),
    ("no background at all", "clipkit segment room.jpg -l sofa,wall,floor,window --background ''"),
    ("cut an object out", "clipkit segment photo.jpg -l cat --save-to out/ --save mask --cutout cat"),
    ("annotations for training", "clipkit segment photos/ -l cat,dog --save-to set/ --save coco --save yolo"),
)


@app.command(epilog=EXAMPLES)
def segment(
    inputs: opt.Inputs = None,
    labels: opt.LabelList = None,
    labels_file: opt.LabelsFile = None,
    background: Background = None,
    templates: opt.Templates = "imagenet",
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="X", help="Less probable pixels are background; the default is the method's."
        ),
    ] = None,
    min_area: Annotated[
        float,
        typer.Option(
            min=0, max=1, metavar="SHARE", help="Classes under this share of the picture go to the next best class."
        ),
    ] = 0.0,
    method: Method = MethodName.auto,
    refine: Refine = RefineName.auto,
    size: Size = None,
    window: WindowSide = None,
    stride: Stride = None,
    flip: Flip = False,
    scale: Scale = None,
    save_to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write files into DIR.", rich_help_panel=_SAVE)
    ] = None,
    save: Annotated[
        list[SaveName] | None,
        typer.Option(help="Which files; repeat it. The default is mask and overlay.", rich_help_panel=_SAVE),
    ] = None,
    cutout: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL", help="Write LABEL cut out, with alpha; repeat it.", rich_help_panel=_SAVE),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0, metavar="PX", help="Polygons may leave the outline by PX; 0 is exact.", rich_help_panel=_SAVE
        ),
    ] = 1.0,
    files_from: opt.FilesFrom = None,
    null: opt.Null = False,
    max_pixels: opt.MaxPixels = None,
    model: opt.ModelName = None,
    weights: Weights = None,
    device: opt.Device = None,
    precision: opt.Precision = None,
    format: opt.Format = None,  # noqa: A002 (the option's name)
    output: opt.OutputFile = None,
    quiet: opt.Quiet = False,
    no_progress: opt.NoProgress = False,
    workers: opt.Workers = None,
) -> None:
    """Name the things in pictures and get their masks.

    Every pixel is compared with every label, and with common surroundings that together are the background.
    Records list each label found with its share of the picture, its mean probability and its box.
    """
    from clipkit.dense.vocabulary import vocabulary
    from clipkit.prompts.labels import load_labels
    from clipkit.prompts.templates import load_templates

    if not inputs and files_from is None:
        raise UsageError("no pictures given; name files or folders, - for stdin, or --files-from FILE")
    if save_to is None and (save or cutout):
        raise UsageError("--save and --cutout need --save-to DIR")
    words = vocabulary(load_labels(opt.split_labels(labels), labels_file), background)

    from clipkit.cli.driver import drive
    from clipkit.dense.features import DenseOptions
    from clipkit.media.image import DEFAULT_MAX_PIXELS
    from clipkit.media.paths import count, expand
    from clipkit.output.mask_files import MaskFiles
    from clipkit.settings import setting
    from clipkit.tasks.segment import Choice, Segmentation, SegmentOptions, open_segmenter, run

    kinds = [kind.value for kind in save] if save else ["mask", "overlay"]
    files = None
    if save_to is not None:
        files = MaskFiles(save_to, words.labels, kinds, cutouts=cutout or (), tolerance=tolerance)
    choice = Choice(
        method=method.value,
        dense=DenseOptions(size=size, window=window, stride=stride, flip=flip),
        refine=refine.value,
        scale=scale,
        templates=load_templates(templates),
        weights=weights,
        model=model,
        device=setting("device", device),
        precision=setting("precision", precision),
    )
    segmenter = open_segmenter(choice, words)
    options = SegmentOptions(words, threshold, min_area, max_pixels or DEFAULT_MAX_PIXELS)
    outcomes: Iterator[Segmentation | Failure] = run(
        expand(inputs or (), files_from=files_from, null=null), options, segmenter, workers=workers
    )
    drive(
        outcomes if files is None else files.saved(outcomes),
        opt.Common(format, output, quiet, no_progress),
        columns=Segmentation.columns,
        count=lambda: count(inputs or (), files_from=files_from, null=null),
        model=segmenter.id,
    )
