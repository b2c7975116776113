"""`clipkit classify-video`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from clipkit.cli import options as opt
from clipkit.cli import video_options as video
from clipkit.cli.lazy import examples
from clipkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clipkit.models.clip import Clip
    from clipkit.results import Failure
    from clipkit.tasks.classify_video import Fusion, VideoClassification

app = typer.Typer(rich_markup_mode="rich", add_completion=False)

_WINDOWS = "Long videos"


class ScoringName(StrEnum):
    """What a score means."""

    softmax = "softmax"
    cosine = "cosine"


EXAMPLES = examples(
    ("one clip", 'clipkit classify-video clip.mp4 --labels "playing basketball,cooking,riding a bike"'),
    ("a long video, every 5 seconds", "clipkit classify-video day.mp4 --labels cat,dog,nothing --window 5"),
    ("subtitles of it", "clipkit classify-video day.mp4 --labels cat,dog,nothing --window 5 --hop 1 --srt day.srt"),
    (
        "a model trained for actions",
        "clipkit classify-video clips/ --labels-file kinetics.txt --checkpoint model_best.pt",
    ),
)


@app.command(name="classify-video", epilog=EXAMPLES)
def classify_video(
    inputs: opt.Inputs = None,
    labels: opt.LabelList = None,
    labels_file: opt.LabelsFile = None,
    templates: Annotated[
        str | None, typer.Option(metavar="SET|FILE|TEXT", help="Prompts with {}; ActionCLIP's 16 by default.")
    ] = None,
    reduce: opt.Reduce = opt.ReductionName.prob,
    score: Annotated[
        ScoringName, typer.Option(help="softmax: one label holds; cosine: plain similarity.")
    ] = ScoringName.softmax,
    threshold: Annotated[float | None, typer.Option(metavar="X", help="Leave out scores below X.")] = None,
    top_k: Annotated[
        int, typer.Option("--top-k", "-k", min=0, metavar="N", help="At most N labels an answer; 0 is all.")
    ] = 5,
    window: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="S", help="Answer for every S seconds.", rich_help_panel=_WINDOWS),
    ] = None,
    hop: Annotated[
        float | None,
        typer.Option(min=0.05, metavar="S", help="Seconds between windows (their length).", rich_help_panel=_WINDOWS),
    ] = None,
    srt: Annotated[
        Path | None,
        typer.Option(metavar="FILE|DIR", help="Also write subtitles (needs --window).", rich_help_panel=_WINDOWS),
    ] = None,
    files_from: opt.FilesFrom = None,
    null: opt.Null = False,
    frames: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Frames a video or window is judged by.", rich_help_panel=video.FRAMES),
    ] = 8,
    decoder: video.DecoderChoice = video.DecoderName.auto,
    patience: video.Patience = 60.0,
    model: opt.ModelName = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="An ActionCLIP checkpoint in the authors' layout.", rich_help_panel=opt.MODEL
        ),
    ] = None,
    device: opt.Device = None,
    precision: opt.Precision = None,
    format: opt.Format = None,  # noqa: A002 (the option's name)
    output: opt.OutputFile = None,
    quiet: opt.Quiet = False,
    no_progress: opt.NoProgress = False,
    workers: opt.Workers = None,
) -> None:
    """Name the action in videos, with your own labels.

    Eight frames from the middles of equal parts are averaged and compared with every label in ActionCLIP's
    16 prompts, whose probabilities are averaged. Scores are probabilities over your labels, so name all
    that can occur.
    """
    from clipkit.cli.driver import drive
    from clipkit.media.paths import VIDEO_EXTENSIONS, count, expand
    from clipkit.prompts.labels import load_labels
    from clipkit.prompts.templates import load_templates
    from clipkit.tasks.classify_video import TEMPLATES, ClassifyVideoOptions, VideoClassification, run

    if not inputs and files_from is None:
        raise UsageError("no videos given; name files or folders, - for stdin, or --files-from FILE")
    if window is None and (hop is not None or srt is not None):
        raise UsageError(f"{'--hop' if hop is not None else '--srt'} needs --window SECONDS")
    if hop is not None and window is not None and hop > window:
        raise UsageError(
            f"--hop {hop:g} is longer than --window {window:g}: what lies between would never be looked at"
        )
    options = ClassifyVideoOptions(
        labels=load_labels(opt.split_labels(labels), labels_file),
        templates=TEMPLATES if templates is None else load_templates(templates),
        reduction=reduce.value,
        scoring=score.value,
        top_k=top_k or None,
        threshold=threshold,
        frames=frames,
        window=window,
        hop=hop,
        video=video.video_options(
            video.sampling_of(video.SamplingName.segments, 1.0, frames, frames), decoder, patience, workers
        ),
    )
    clip, fusion = _model(checkpoint, model, device, precision)
    outcomes: Iterator[VideoClassification | Failure] = run(
        expand(inputs or (), files_from=files_from, null=null, extensions=VIDEO_EXTENSIONS), options, clip, fusion
    )
    if srt is not None:
        from clipkit.output.subtitles import Subtitler

        outcomes = cast("Any", Subtitler(srt)).written(outcomes)  # any result with `segments`
    drive(
        outcomes,
        opt.Common(format, output, quiet, no_progress),
        columns=VideoClassification.columns,
        count=lambda: count(inputs or (), files_from=files_from, null=null, extensions=VIDEO_EXTENSIONS),
        model=clip.id,
        percent=score is not ScoringName.cosine,
    )


def _model(
    checkpoint: Path | None, model: str | None, device: str | None, precision: str | None
) -> tuple[Clip, Fusion | None]:
    from clipkit.settings import setting

    if checkpoint is None:
        from clipkit.models.loader import load_clip

        return load_clip(model, setting("device", device), setting("precision", precision)), None
    if model is not None or precision is not None:
        raise UsageError("--checkpoint brings its own model in fp32; leave out --model and --precision")
    from clipkit.video.checkpoints import load_action

    loaded = load_action(checkpoint, setting("device", device))
    return loaded.clip, loaded.fusion
