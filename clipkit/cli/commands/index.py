"""`clipkit index`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from clipkit.cli import options as opt
from clipkit.cli import video_options as video
from clipkit.cli.lazy import examples
from clipkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clipkit.results import Failure
    from clipkit.tasks.index_videos import Indexed

app = typer.Typer(rich_markup_mode="rich", add_completion=False)

STATS = "stats"

EXAMPLES = examples(
    ("look at a folder once, search it often", "clipkit index videos/"),
    ("every second of long recordings", "clipkit index lectures/ --frames 0"),
    ("what is in the index", "clipkit index stats"),
    ("an index beside the films", "clipkit index videos/ --index videos/.clipkit"),
)


@app.command(epilog=EXAMPLES)
def index(
    inputs: opt.Inputs = None,
    index: video.IndexFolder = None,
    files_from: opt.FilesFrom = None,
    null: opt.Null = False,
    fps: video.Fps = 1.0,
    frames: video.Frames = None,
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
    """Embed the frames of new and changed videos, so that retrieve-video answers at once.

    What is embedded is kept, also when the run is stopped at any point. Files that are gone from the named
    folders are forgotten. `clipkit index stats` tells what an index holds (a folder of that name is
    `./stats`).
    """
    from clipkit.cli.driver import drive
    from clipkit.tasks.index_stats import SpaceRecord, run_stats
    from clipkit.tasks.index_videos import Indexed, prune, run
    from clipkit.video.index import VideoIndex

    common = opt.Common(format, output, quiet, no_progress)
    folder = video.index_folder(index)
    if inputs == [STATS]:
        if not (folder / "videos.sqlite").is_file():
            raise UsageError(f"no index in {folder}; make one with `clipkit index DIR`")
        with VideoIndex(folder) as opened:
            drive(run_stats(opened), common, columns=SpaceRecord.columns)
    if not inputs and files_from is None:
        raise UsageError("no videos given; name files or folders, or --files-from FILE")

    from clipkit.media.paths import VIDEO_EXTENSIONS, count, expand

    clip, head = video.retrieval_model(checkpoint, model, device, precision)
    options = video.index_options(checkpoint, head, sampling, fps, frames, decoder, patience, workers)

    def outcomes(opened: VideoIndex) -> Iterator[Indexed | Failure]:
        sources = expand(inputs or (), files_from=files_from, null=null, extensions=VIDEO_EXTENSIONS)
        yield from run(sources, options, clip, opened)
        prune(opened, inputs or ())

    with VideoIndex(folder) as opened:
        drive(
            outcomes(opened),
            common,
            columns=Indexed.columns,
            count=lambda: count(inputs or (), files_from=files_from, null=null, extensions=VIDEO_EXTENSIONS),
            model=clip.id,
        )
