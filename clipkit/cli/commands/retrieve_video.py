"""`clipkit retrieve-video`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipkit.cli import options as opt
from clipkit.cli import video_options as video
from clipkit.cli.lazy import examples
from clipkit.errors import UsageError

if TYPE_CHECKING:
    from clipkit.models.clip import Clip
    from clipkit.results import Failure
    from clipkit.tasks.index_videos import IndexOptions
    from clipkit.tasks.retrieve_video import VideoHit
    from clipkit.video.index import VideoIndex

app = typer.Typer(rich_markup_mode="rich", add_completion=False)

_SHEETS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}

EXAMPLES = examples(
    ("find a clip in a folder", 'clipkit retrieve-video "a dog catching a ball" videos/'),
    (
        "find moments, with pictures of them",
        'clipkit retrieve-video "a goal" match.mp4 --moments --thumbnails goals.png',
    ),
    ("find what a picture shows", "clipkit retrieve-video --by-image cat.jpg videos/"),
    ("search all that was indexed before", 'clipkit retrieve-video "a sunset over the sea" --top-k 3'),
    ("a fine-tuned CLIP4Clip", 'clipkit retrieve-video "a man sings" videos/ --checkpoint pytorch_model.bin.4'),
)


@app.command(name="retrieve-video", epilog=EXAMPLES)
def retrieve_video(
    query: Annotated[str | None, typer.Argument(metavar="QUERY", help="What to look for, in words.")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH...]", help="Videos, folders (searched recursively) or globs; none for the whole index."
        ),
    ] = None,
    by_image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Look for what this picture shows; QUERY is left out.")
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, metavar="N", help="At most N answers.")] = 10,
    moments: Annotated[
        bool, typer.Option("--moments", help="Rank moments instead of videos; a video may answer more than once.")
    ] = False,
    thumbnails: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw a contact sheet of the answers (PNG or JPEG).")
    ] = None,
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
    """Find the video, and the moment in it, that words or a picture describe.

    New and changed videos are looked at first, one frame a second, and kept in an index; the next search of
    the same files answers at once. Each answer has the best moment's start and end in seconds.
    """
    if by_image is not None:
        inputs, query = [name for name in (query, *(inputs or ())) if name is not None], None
    elif query is None or not query.strip():
        raise UsageError(
            'nothing to look for; say it in words, as in: clipkit retrieve-video "a dog catching a ball" videos/'
        )
    elif not inputs and files_from is None and Path(query).exists():
        raise UsageError(
            f'{query} is a file or folder; say what to look for first: clipkit retrieve-video "..." {query}'
        )

    if thumbnails is not None and thumbnails.suffix.lower() not in _SHEETS:
        raise UsageError(f"--thumbnails draws PNG or JPEG, not {thumbnails}; end the name in .png or .jpg")

    from clipkit.cli.driver import drive
    from clipkit.tasks import retrieve_video as task
    from clipkit.tasks.index_videos import open_space
    from clipkit.video.index import VideoIndex

    clip, head = video.retrieval_model(checkpoint, model, device, precision)
    options = video.index_options(checkpoint, head, sampling, fps, frames, decoder, patience, workers)
    asked = task.text_query(query or "", clip) if by_image is None else task.image_query(by_image, clip)
    common = opt.Common(format, output, quiet, no_progress)
    with VideoIndex(video.index_folder(index)) as opened:
        names: dict[bytes, str] | None = None
        failures: list[Failure] = []
        if inputs or files_from is not None:
            names, failures = _update(inputs or [], files_from, null, options, clip, opened, common)
        space = open_space(opened, options, clip)
        if names is None and not opened.entries(space):
            raise UsageError(
                f"the index in {opened.folder} holds no videos for {clip.id} and these frames; name videos to search, "
                "or make an index with `clipkit index DIR`"
            )
        hits = list(task.run(asked, task.RetrieveOptions(top_k, moments, head), clip, opened, space, names=names))
    if thumbnails is not None:
        _draw(thumbnails, hits, asked.name)
    drive(iter([*failures, *hits]), common, columns=task.VideoHit.columns, model=clip.id, percent=False)


def _update(
    inputs: list[str],
    files_from: str | None,
    null: bool,
    options: IndexOptions,
    clip: Clip,
    index: VideoIndex,
    common: opt.Common,
) -> tuple[dict[bytes, str], list[Failure]]:
    """Bring the index up to date: the videos that may answer, by path, and what could not be read."""
    import os

    from clipkit.media.paths import VIDEO_EXTENSIONS, count, expand
    from clipkit.output.progress import open_progress
    from clipkit.results import Failure
    from clipkit.tasks import index_videos

    names: dict[bytes, str] = {}
    failures: list[Failure] = []
    show = not (common.quiet or common.no_progress)

    def total() -> int | None:
        return count(inputs, files_from=files_from, null=null, extensions=VIDEO_EXTENSIONS)

    sources = expand(inputs, files_from=files_from, null=null, extensions=VIDEO_EXTENSIONS)
    with open_progress(show=show, count=total) as progress:
        for outcome in index_videos.run(sources, options, clip, index):
            if isinstance(outcome, Failure):
                failures.append(outcome.within("retrieve-video", outcome.model, outcome.weights))
            else:
                names[os.fsencode(Path(outcome.path).absolute())] = outcome.path
            progress.advance()
    index_videos.prune(index, inputs)
    return names, failures


def _draw(destination: Path, hits: list[VideoHit], title: str) -> None:
    from clipkit.files import atomic_write
    from clipkit.video.sheet import contact_sheet

    sheet = contact_sheet(hits, title)
    with atomic_write(destination) as stream:
        sheet.save(stream, _SHEETS[destination.suffix.lower()])
