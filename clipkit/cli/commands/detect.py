"""`clipkit detect`."""

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
    from clipkit.tasks.detect import Detections

app = typer.Typer(rich_markup_mode="rich", add_completion=False)

_METHOD = "Method"
_SAVE = "Files"
_CLIP = ("clip", "vild")


class MethodName(StrEnum):
    """Who detects."""

    clip = "clip"
    vild = "vild"
    glip = "glip"
    grounding_dino = "grounding-dino"
    mm_grounding_dino = "mm-grounding-dino"
    llmdet = "llmdet"
    owlv2 = "owlv2"
    omdet_turbo = "omdet-turbo"


class SaveName(StrEnum):
    """Files for each picture."""

    overlay = "overlay"
    crops = "crops"
    coco = "coco"
    yolo = "yolo"
    labelme = "labelme"


Method = Annotated[
    MethodName,
    typer.Option(
        help="clip: parts of the class maps; vild: ViLD's recipe over any boxes; the others bring their own model.",
        rich_help_panel=_METHOD,
    ),
]
Background = Annotated[
    str | None,
    typer.Option(metavar="A|B", help="What is no object, as sky|wall|grass; '' for none; the default is the method's."),
]
MaxDetections = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="At most N boxes a picture; the default is the method's.")
]
Nms = Annotated[
    float | None,
    typer.Option(
        "--nms", min=0, max=1, metavar="IOU", help="Of two boxes that overlap more, the worse goes; 1 keeps all."
    ),
]
Across = Annotated[
    bool, typer.Option("--one-label", help="One label a place: suppress overlaps of different labels too.")
]
Crops = Annotated[
    bool,
    typer.Option(
        "--crops/--no-crops",
        help="clip, vild with --weights: look at each box closely; without, faster.",
        rich_help_panel=_METHOD,
    ),
]
Proposals = Annotated[
    str | None,
    typer.Option(
        metavar="dense|selective|FILE",
        help="vild: where to look; FILE has lines {path, boxes}, or detect's own records.",
        rich_help_panel=_METHOD,
    ),
]
Base = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LABEL",
        help="vild: a label the region features were trained on; repeat it.",
        rich_help_panel=_METHOD,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR|FILE",
        help="Folder of grounding-dino, llmdet, owlv2..., where not pulled; glip, vild: a checkpoint.",
        rich_help_panel=opt.MODEL,
    ),
]
Size = Annotated[
    int | None,
    typer.Option(min=32, metavar="PX", help="Short side of the working picture.", rich_help_panel=_METHOD),
]
Flip = Annotated[
    bool, typer.Option("--flip", help="Average maps with the mirror image: slower.", rich_help_panel=_METHOD)
]

EXAMPLES = examples(
    ("a sentence", "clipkit detect photo.jpg --method grounding-dino --caption 'a dog left of a cat' -l dog,cat"),
    (
        "GLIP, from its authors' file",
        "clipkit detect photo.jpg --method glip --weights glip_tiny_model_o365_goldg_cc_sbu.pth -l cat,dog",
    ),
    ("one picture, with the boxes drawn in", "clipkit detect photo.jpg --labels 'cat|kitten,dog' --save-to out/"),
    ("the best box of each picture", "clipkit detect photos/ -l cat --max-detections 1 --format csv"),
    ("annotations for training", "clipkit detect photos/ -l cat,dog --save-to set/ --save coco --save yolo"),
    (
        "boxes you have, named by ViLD's recipe",
        "clipkit detect photos/ -l cat,dog --method vild --proposals boxes.jsonl",
    ),
)


@app.command(epilog=EXAMPLES)
def detect(
    inputs: opt.Inputs = None,
    labels: opt.LabelList = None,
    labels_file: opt.LabelsFile = None,
    background: Background = None,
    templates: opt.Templates = "imagenet",
    min_score: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="X", help="Worse boxes are not told; the default is the method's."),
    ] = None,
    max_detections: MaxDetections = None,
    nms: Nms = None,
    one_label: Across = False,
    method: Method = MethodName.clip,
    crops: Crops = True,
    proposals: Proposals = None,
    base: Base = None,
    caption: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="glip and Grounding DINO family: find what a sentence speaks of; --labels then names words of it. omdet-turbo: its task.",
            rich_help_panel=_METHOD,
        ),
    ] = None,
    size: Size = None,
    flip: Flip = False,
    save_to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write files into DIR.", rich_help_panel=_SAVE)
    ] = None,
    save: Annotated[
        list[SaveName] | None,
        typer.Option(help="Which files; repeat it. The default is overlay.", rich_help_panel=_SAVE),
    ] = None,
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
    """Find things in pictures by their names and get their boxes.

    Boxes are pixels x0, y0, x1, y1 of the upright picture. Touching things of one label share a box with
    --method clip, which cuts CLIP's own class maps into parts.
    """
    from clipkit.prompts.labels import load_labels
    from clipkit.prompts.templates import load_templates

    if not inputs and files_from is None:
        raise UsageError("no pictures given; name files or folders, - for stdin, or --files-from FILE")
    if save_to is None and save:
        raise UsageError("--save needs --save-to DIR")
    own = None if templates == "imagenet" else templates
    check_method(
        method,
        crops=crops,
        proposals=proposals,
        base=base,
        size=size,
        flip=flip,
        background=background,
        templates=own,
        precision=precision,
    )
    # A caption without labels is its own label.
    bare = caption is not None and not labels and labels_file is None
    things = () if bare else load_labels(opt.split_labels(labels), labels_file)

    from clipkit.cli.driver import drive
    from clipkit.dense.features import DenseOptions
    from clipkit.detection.opening import DetectorChoice, open_detector
    from clipkit.media.image import DEFAULT_MAX_PIXELS
    from clipkit.media.paths import count, expand
    from clipkit.output.box_files import BoxFiles
    from clipkit.settings import setting
    from clipkit.tasks.detect import Detections, DetectOptions, run

    choice = DetectorChoice(
        method=method.value,
        background=background,
        templates=load_templates(templates),
        dense=DenseOptions(size=size, flip=flip),
        crops=crops,
        proposals=proposals,
        base=frozenset(base or ()),
        weights=weights,
        caption=caption,
        model=model,
        device=setting("device", device),
        precision=setting("precision", precision),
    )
    detector = open_detector(choice, things)
    files = None
    if save_to is not None:
        files = BoxFiles(save_to, detector.labels, [kind.value for kind in save] if save else ["overlay"])
    options = DetectOptions(min_score, max_detections, nms, one_label, max_pixels or DEFAULT_MAX_PIXELS)
    outcomes: Iterator[Detections | Failure] = run(
        expand(inputs or (), files_from=files_from, null=null), options, detector, workers=workers
    )
    drive(
        outcomes if files is None else files.saved(outcomes),
        opt.Common(format, output, quiet, no_progress),
        columns=Detections.columns,
        count=lambda: count(inputs or (), files_from=files_from, null=null),
        model=detector.id,
    )


def check_method(method: StrEnum, **given: object) -> None:
    """Refuse options of some methods given to another.

    Args:
        method: who detects.
        given: the options' values; one that is None, empty or `crops` left on was not given.

    Raises:
        UsageError: an option that would do nothing.
    """
    homes = {"crops": _CLIP, "proposals": ("vild",), "base": ("vild",)}
    for name, value in given.items():
        asked = not value if name == "crops" else value not in (None, False, [])
        methods = homes.get(name, _CLIP)
        if asked and method.value not in methods:
            flag = "no-crops" if name == "crops" else name
            raise UsageError(f"--{flag} is for --method {' or '.join(methods)}")
