"""`clipkit audio-classify`."""

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
    from clipkit.tasks.audio_classify import AudioClassification

app = typer.Typer(rich_markup_mode="rich", add_completion=False)

_WINDOWS = "Long recordings"


class MethodName(StrEnum):
    """Which model listens."""

    builtin = "builtin"
    audioclip = "audioclip"
    clap = "clap"


class ScoringName(StrEnum):
    """What a score means."""

    softmax = "softmax"
    sigmoid = "sigmoid"
    cosine = "cosine"


EXAMPLES = examples(
    ("one sound", "clipkit audio-classify bark.wav --labels dog,rain,siren"),
    ("the sound of a video", "clipkit audio-classify clip.mp4 --labels esc50 --top-k 3"),
    ("a long recording, every 5 seconds", "clipkit audio-classify night.flac --labels owl,rain,car --windows"),
    ("subtitles of it", "clipkit audio-classify night.flac --labels owl,rain,car --srt night.srt"),
    ("which picture fits the sound", "clipkit audio-classify bark.wav --images photos/"),
    ("a larger model", "clipkit audio-classify sounds/ --labels esc50 --method clap"),
)


@app.command(name="audio-classify", epilog=EXAMPLES)
def audio_classify(
    inputs: opt.Inputs = None,
    labels: opt.LabelList = None,
    labels_file: opt.LabelsFile = None,
    images: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Rank these pictures (files, folders, globs) in the labels' place."),
    ] = None,
    templates: Annotated[
        str | None,
        typer.Option(metavar="SET|FILE|TEXT", help="Prompts with {}; by default those of the model's authors."),
    ] = None,
    reduce: opt.Reduce = opt.ReductionName.embed,
    score: Annotated[
        ScoringName, typer.Option(help="softmax: one label holds; sigmoid: each for itself; cosine: plain similarity.")
    ] = ScoringName.softmax,
    threshold: Annotated[float | None, typer.Option(metavar="X", help="Leave out scores below X.")] = None,
    top_k: Annotated[
        int, typer.Option("--top-k", "-k", min=0, metavar="N", help="At most N labels an answer; 0 is all.")
    ] = 5,
    windows: Annotated[
        bool, typer.Option("--windows", help="Answer for each window, with start and end.", rich_help_panel=_WINDOWS)
    ] = False,
    window: Annotated[
        float | None,
        typer.Option(min=0.25, metavar="S", help="Seconds of a window (the model's own).", rich_help_panel=_WINDOWS),
    ] = None,
    hop: Annotated[
        float | None,
        typer.Option(min=0.05, metavar="S", help="Seconds between windows (their length).", rich_help_panel=_WINDOWS),
    ] = None,
    silence: Annotated[
        float,
        typer.Option(metavar="DB", help="Windows quieter than this name nothing.", rich_help_panel=_WINDOWS),
    ] = -80.0,
    srt: Annotated[
        Path | None,
        typer.Option(metavar="FILE|DIR", help="Also write subtitles (means --windows).", rich_help_panel=_WINDOWS),
    ] = None,
    files_from: opt.FilesFrom = None,
    null: opt.Null = False,
    method: Annotated[
        MethodName, typer.Option(help="Which model listens.", rich_help_panel=opt.MODEL)
    ] = MethodName.builtin,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|DIR|REPO",
            help="AudioCLIP's checkpoint file, or CLAP's folder or hub repository.",
            rich_help_panel=opt.MODEL,
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
    """Name sounds in files, videos and long recordings, with your own labels.

    Any sound file or video is mixed to one channel and heard in windows of a few seconds; the answer for
    a file is the mean over its windows. Scores are probabilities over your labels, so name all that can
    occur. The built-in model knows common sounds only; see docs/builtin-audio.md for how few.
    """
    from clipkit.audio.model import load_audio_model
    from clipkit.cli.driver import drive
    from clipkit.media.paths import AUDIO_EXTENSIONS, VIDEO_EXTENSIONS, count, expand
    from clipkit.prompts.labels import load_labels
    from clipkit.prompts.templates import load_templates
    from clipkit.tasks.audio_classify import AudioClassification, AudioClassifyOptions, run

    if not inputs and files_from is None:
        raise UsageError("no recordings given; name files or folders, - for stdin, or --files-from FILE")
    if images and (labels or labels_file):
        raise UsageError("--images takes the labels' place; give one of them")
    names = () if images else load_labels(opt.split_labels(labels), labels_file)
    prompts = load_templates(templates) if templates is not None else None
    model = load_audio_model(method.value, weights=weights, device=device, precision=precision)
    if windows or hop is not None or srt is not None:
        window = window or model.seconds
    options = AudioClassifyOptions(
        labels=names,
        templates=prompts,
        reduction=reduce.value,
        scoring=score.value,
        top_k=top_k or None,
        threshold=threshold,
        window=window,
        hop=hop,
        silence=silence,
        workers=workers,
    )
    extensions = AUDIO_EXTENSIONS | VIDEO_EXTENSIONS - {".gif"}
    outcomes: Iterator[AudioClassification | Failure] = run(
        expand(inputs or (), files_from=files_from, null=null, extensions=extensions),
        options,
        model,
        expand(images) if images else None,
    )
    if srt is not None:
        from clipkit.output.subtitles import Subtitler

        outcomes = Subtitler(srt).written(outcomes)
    drive(
        outcomes,
        opt.Common(format, output, quiet, no_progress),
        columns=AudioClassification.columns,
        count=lambda: count(inputs or (), files_from=files_from, null=null, extensions=extensions),
        model=None,
    )
