"""`clipkit bench retrieve-video`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipkit.cli import options as opt
from clipkit.cli import video_options as video
from clipkit.cli.lazy import examples

app = typer.Typer(rich_markup_mode="rich", add_completion=False)

EXAMPLES = examples(
    ("captions and videos", "clipkit bench retrieve-video captions.csv"),
    (
        "a fine-tuned CLIP4Clip",
        "clipkit bench retrieve-video MSRVTT_JSFUSION_test.csv --checkpoint pytorch_model.bin.4",
    ),
    ("exactly the authors' frames", "clipkit bench retrieve-video captions.csv --sampling clip4clip-index"),
)


@app.command(name="retrieve-video", epilog=EXAMPLES)
def retrieve_video(
    data: Annotated[Path, typer.Argument(metavar="CSV", help="A CSV with the columns video and caption.")],
    fps: video.Fps = 1.0,
    frames: video.Frames = 12,
    sampling: video.SamplingChoice = video.SamplingName.fps,
    decoder: video.DecoderChoice = video.DecoderName.auto,
    patience: video.Patience = 60.0,
    model: opt.ModelName = None,
    checkpoint: video.CheckpointFile = None,
    device: opt.Device = None,
    precision: opt.Precision = None,
    format: opt.Format = None,  # noqa: A002 (the option's name)
    output: opt.OutputFile = None,
    quiet: opt.Quiet = False,
    no_progress: opt.NoProgress = False,
    workers: opt.Workers = None,
) -> None:
    """R@1, R@5, R@10, median and mean rank, from text to video and from video to text.

    Ranks are strict: a video that scores as high as the right one counts as before it. Twelve frames a
    video at one a second, as in the CLIP4Clip paper.
    """
    from clipkit.cli.driver import drive
    from clipkit.tasks.bench_retrieve_video import FRAMES, BenchRetrieveOptions, RetrievalScores, read_captioned, run

    captioned = read_captioned(data)
    clip, head = video.retrieval_model(checkpoint, model, device, precision)
    chosen = video.sampling_of(sampling, fps, frames, FRAMES)
    options = BenchRetrieveOptions(video.video_options(chosen, decoder, patience, workers), head)
    drive(
        run(captioned, options, clip),
        opt.Common(format, output, quiet, no_progress),
        columns=RetrievalScores.columns,
        model=clip.id,
        percent=False,
    )
