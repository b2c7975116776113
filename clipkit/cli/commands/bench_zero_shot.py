"""`clipkit bench zero-shot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipkit.cli import options as opt
from clipkit.cli.lazy import examples

app = typer.Typer(rich_markup_mode="rich", add_completion=False)

EXAMPLES = examples(
    ("class folders", "clipkit bench zero-shot val/"),
    ("folders named by ids", "clipkit bench zero-shot val/ --names names.csv"),
    ("plain names against the ensemble", "clipkit bench zero-shot val/ --templates none -f jsonl"),
)


@app.command(epilog=EXAMPLES)
def zero_shot(
    data: Annotated[Path, typer.Argument(metavar="DIR|CSV", help="Class folders, or a CSV with path and label.")],
    names: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV lines `folder,label` where folder names are no labels.")
    ] = None,
    templates: opt.Templates = "imagenet",
    reduce: opt.Reduce = opt.ReductionName.embed,
    max_pixels: opt.MaxPixels = None,
    model: opt.ModelName = None,
    device: opt.Device = None,
    precision: opt.Precision = None,
    format: opt.Format = None,  # noqa: A002 (the option's name)
    output: opt.OutputFile = None,
    quiet: opt.Quiet = False,
    no_progress: opt.NoProgress = False,
    decode: opt.Decode = opt.DecodeName.fast,
    batch_size: opt.BatchSize = 32,
    workers: opt.Workers = None,
) -> None:
    """Top-1 and top-5 accuracy of classify, by class and over all, and pictures a second.

    A picture counts for top-1 where its own label scores strictly highest; ties count against the model.
    """
    from clipkit.cli.driver import drive
    from clipkit.models.loader import load_clip
    from clipkit.prompts.templates import load_templates
    from clipkit.results import Accuracy
    from clipkit.settings import setting
    from clipkit.tasks.bench_zero_shot import read_labelled, run
    from clipkit.tasks.classify import ClassifyOptions

    labelled = read_labelled(data, names)
    options = ClassifyOptions(
        labels=labelled.labels,
        templates=load_templates(templates),
        reduction=reduce.value,
        images=opt.image_options(decode, max_pixels, batch_size, workers),
    )
    clip = load_clip(model, setting("device", device), setting("precision", precision))
    drive(run(labelled, options, clip), opt.Common(format, output, quiet, no_progress), columns=Accuracy.columns)
