"""`clipkit classify`."""

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

    from clipkit.results import Classification, Failure

app = typer.Typer(rich_markup_mode="rich", add_completion=False)

_SORT = "Sorting files"


class ScoringName(StrEnum):
    """What a score means."""

    softmax = "softmax"
    sigmoid = "sigmoid"
    cosine = "cosine"


class SortAction(StrEnum):
    """How a file gets into its label's folder."""

    copy = "copy"
    hardlink = "hardlink"
    symlink = "symlink"


EXAMPLES = examples(
    ("one picture", "clipkit classify photo.jpg --labels cat,dog"),
    ("a folder, as CSV", "clipkit classify photos/ --labels 'cat|kitten,dog,bird' --format csv -o answers.csv"),
    ("each label for itself", "clipkit classify beach.jpg --labels sea,people,dog --multi-label"),
    ("a pipe", "curl -s URL | clipkit classify - --labels day,night"),
    ("thousands of files", "find . -name '*.jpg' -print0 | clipkit classify --files-from - -0 --labels imagenet"),
    ("sort into folders", "clipkit classify photos/ --labels cat,dog --sort-into sorted/"),
)


@app.command(epilog=EXAMPLES)
def classify(
    inputs: opt.Inputs = None,
    labels: opt.LabelList = None,
    labels_file: opt.LabelsFile = None,
    templates: opt.Templates = "imagenet",
    reduce: opt.Reduce = opt.ReductionName.embed,
    score: Annotated[
        ScoringName | None,
        typer.Option(help="softmax: one label holds; sigmoid: each for itself; cosine: plain similarity."),
    ] = None,
    multi_label: Annotated[
        bool, typer.Option("--multi-label", help="Any number of labels may hold: sigmoid, threshold 0.5.")
    ] = False,
    threshold: Annotated[float | None, typer.Option(metavar="X", help="Leave out scores below X.")] = None,
    top_k: Annotated[
        int, typer.Option("--top-k", "-k", min=0, metavar="N", help="At most N labels a picture; 0 is all.")
    ] = 5,
    sort_into: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Put each file into DIR/LABEL; nothing is overwritten.", rich_help_panel=_SORT
        ),
    ] = None,
    sort_by: Annotated[
        SortAction, typer.Option("--sort-by", help="How files get there.", rich_help_panel=_SORT)
    ] = SortAction.copy,
    move: Annotated[
        bool, typer.Option("--move", help="Move files instead of copying them.", rich_help_panel=_SORT)
    ] = False,
    files_from: opt.FilesFrom = None,
    null: opt.Null = False,
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
    """Name what is in pictures, with your own labels.

    Every label is put into 80 prompt templates ("a photo of a cat.", "a sketch of the cat.", ...) whose
    averaged text vector is compared with the picture. Scores are probabilities over your labels, so name
    all that can occur.
    """
    from clipkit.prompts.labels import load_labels
    from clipkit.prompts.templates import load_templates

    if not inputs and files_from is None:
        raise UsageError("no pictures given; name files or folders, - for stdin, or --files-from FILE")
    if multi_label and score not in (None, ScoringName.sigmoid):
        raise UsageError(f"--multi-label means --score sigmoid; it does not go with --score {score}")
    if move and sort_into is None:
        raise UsageError("--move needs --sort-into DIR")
    names = load_labels(opt.split_labels(labels), labels_file)
    prompts = load_templates(templates)

    from clipkit.cli.driver import drive
    from clipkit.media.paths import count, expand
    from clipkit.models.loader import load_clip
    from clipkit.results import Classification
    from clipkit.settings import setting
    from clipkit.tasks.classify import ClassifyOptions, run

    options = ClassifyOptions(
        labels=names,
        templates=prompts,
        reduction=reduce.value,
        scoring="sigmoid" if multi_label else (score or ScoringName.softmax).value,
        top_k=top_k or None,
        threshold=0.5 if multi_label and threshold is None else threshold,
        images=opt.image_options(decode, max_pixels, batch_size, workers),
    )
    clip = load_clip(model, setting("device", device), setting("precision", precision))
    outcomes: Iterator[Classification | Failure] = run(
        expand(inputs or (), files_from=files_from, null=null), options, clip
    )
    summary = None
    if sort_into is not None:
        from clipkit.output.sort_into import Sorter

        order = [label.name for label in names]
        sorter = Sorter(sort_into, action="move" if move else sort_by.value, labels=order, inputs=inputs or ())
        outcomes = sorter.sorted(outcomes)
        summary = lambda: ", ".join(f"{n} {action}" for action, n in sorter.counts.items())  # noqa: E731
    drive(
        outcomes,
        opt.Common(format, output, quiet, no_progress),
        columns=Classification.columns,
        count=lambda: count(inputs or (), files_from=files_from, null=null),
        model=clip.id,
        percent=options.scoring != "cosine",
        summary=summary,
    )
