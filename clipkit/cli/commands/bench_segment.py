"""`clipkit bench segment`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipkit.cli import options as opt
from clipkit.cli.commands import segment as seg
from clipkit.cli.lazy import examples

app = typer.Typer(rich_markup_mode="rich", add_completion=False)

EXAMPLES = examples(
    ("a folder of pictures and one of masks", "clipkit bench segment images/ masks/ --classes classes.yaml"),
    ("some classes only", "clipkit bench segment images/ masks/ --classes classes.yaml --ids 1-90"),
    ("two methods", "clipkit bench segment images/ masks/ --classes c.txt --method maskclip --refine none"),
)


@app.command(epilog=EXAMPLES)
def segment(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder of pictures.")],
    masks: Annotated[Path, typer.Argument(metavar="MASKS", help="Folder of index masks (PNG) with the same names.")],
    classes: Annotated[
        Path, typer.Option(metavar="FILE", help="Lines `number: label|alias`; `*: background|sky` for all others.")
    ],
    ids: Annotated[str | None, typer.Option(metavar="1-90,95", help="Judge these numbers only.")] = None,
    templates: opt.Templates = "imagenet",
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="X", help="Less probable pixels are background; the default is the method's."
        ),
    ] = None,
    method: seg.Method = seg.MethodName.auto,
    refine: seg.Refine = seg.RefineName.auto,
    size: seg.Size = None,
    window: seg.WindowSide = None,
    stride: seg.Stride = None,
    flip: seg.Flip = False,
    scale: seg.Scale = None,
    model: opt.ModelName = None,
    weights: seg.Weights = None,
    device: opt.Device = None,
    precision: opt.Precision = None,
    format: opt.Format = None,  # noqa: A002 (the option's name)
    output: opt.OutputFile = None,
    quiet: opt.Quiet = False,
    no_progress: opt.NoProgress = False,
) -> None:
    """Mean IoU (pooled over all pictures, as mmsegmentation has it), pixel accuracy, and pictures a second.

    Pixels whose number is not in the classes file are not judged; with a line `*: background|sky|...` they are
    background. 255 is never judged.
    """
    from clipkit.cli.driver import drive
    from clipkit.dense.features import DenseOptions
    from clipkit.dense.vocabulary import vocabulary
    from clipkit.prompts.templates import load_templates
    from clipkit.settings import setting
    from clipkit.tasks import bench_segment as bench
    from clipkit.tasks.segment import Choice, SegmentOptions, open_segmenter

    table = bench.read_classes(classes, ids)
    paired = bench.pairs(images, masks)
    words = vocabulary(table.labels, "|".join(table.background.aliases) if table.background else "")
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
    drive(
        bench.run(paired, table, SegmentOptions(words, threshold), segmenter),
        opt.Common(format, output, quiet, no_progress),
        columns=bench.SegmentationScore.columns,
    )
