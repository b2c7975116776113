"""Options that the video commands share, each spelled once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipkit.cli import options as opt
from clipkit.errors import UsageError

if TYPE_CHECKING:
    from clipkit.models.clip import Clip
    from clipkit.tasks.index_videos import IndexOptions
    from clipkit.video.frames import VideoOptions
    from clipkit.video.head import Head
    from clipkit.video.sampling import Sampling

FRAMES = "Frames"


class SamplingName(StrEnum):
    """Which frames are looked at."""

    fps = "fps"
    segments = "segments"
    clip4clip_index = "clip4clip-index"


class DecoderName(StrEnum):
    """Which library decodes."""

    auto = "auto"
    pyav = "pyav"
    decord = "decord"


Fps = Annotated[float, typer.Option("--fps", metavar="X", help="Frames looked at a second.", rich_help_panel=FRAMES)]
Frames = Annotated[
    int | None,
    typer.Option("--frames", min=0, metavar="N", help="At most N frames a video; 0 is all.", rich_help_panel=FRAMES),
]
SamplingChoice = Annotated[
    SamplingName,
    typer.Option(
        "--sampling",
        help="fps: by time; segments: middles of N parts; clip4clip-index: the authors' seek by frame index.",
        rich_help_panel=FRAMES,
    ),
]
DecoderChoice = Annotated[
    DecoderName,
    typer.Option("--decoder", help="auto is PyAV; decord is used where it reads a file right.", rich_help_panel=FRAMES),
]
Patience = Annotated[
    float,
    typer.Option(
        "--patience", min=0, metavar="S", help="Give a file up after S seconds without a frame.", rich_help_panel=FRAMES
    ),
]
IndexFolder = Annotated[
    Path | None,
    typer.Option("--index", metavar="DIR", help="Where frame embeddings are kept (in the user's cache)."),
]
CheckpointFile = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        metavar="FILE",
        help="A CLIP4Clip checkpoint in the authors' layout; its keys tell the head.",
        rich_help_panel=opt.MODEL,
    ),
]


def index_folder(named: Path | None) -> Path:
    """Where the index is."""
    from clipkit.settings import cache_dir

    return cache_dir() / "videos" if named is None else named


def video_options(sampling: Sampling, decoder: DecoderName, patience: float, workers: int | None) -> VideoOptions:
    """The shared reading options as the tasks take them."""
    from clipkit.video.frames import VideoOptions

    return VideoOptions(sampling, decoder.value, patience, workers)


def sampling_of(name: SamplingName, fps: float, frames: int | None, default: int, least: int = 1) -> Sampling:
    """The frames to look at; `--frames 0` is all of them."""
    from clipkit.video.sampling import Sampling

    return Sampling(name.value, fps, default if frames is None else frames or None, least)


def retrieval_model(
    checkpoint: Path | None, model: str | None, device: str | None, precision: str | None
) -> tuple[Clip, Head]:
    """A model and the head that pools its frames.

    Raises:
        UsageError: a model is named beside a checkpoint that brings its own.
    """
    from clipkit.settings import setting

    if checkpoint is None:
        from clipkit.models.loader import load_clip
        from clipkit.video.head import MeanP

        return load_clip(model, setting("device", device), setting("precision", precision)), MeanP()
    if model is not None or precision is not None:
        raise UsageError("--checkpoint brings its own model in fp32; leave out --model and --precision")
    from clipkit.video.checkpoints import load_retrieval

    loaded = load_retrieval(checkpoint, setting("device", device))
    return loaded.clip, loaded.head


def index_options(
    checkpoint: Path | None,
    head: Head,
    sampling: SamplingName,
    fps: float,
    frames: int | None,
    decoder: DecoderName,
    patience: float,
    workers: int | None,
) -> IndexOptions:
    """What the index commands share: 12 frames for a checkpoint, as in the paper, else 64."""
    from clipkit.tasks.bench_retrieve_video import FRAMES as TRAINED
    from clipkit.tasks.index_videos import IndexOptions
    from clipkit.video.sampling import MOMENT_FRAMES, SHORT_FRAMES

    if checkpoint is None:
        chosen = sampling_of(sampling, fps, frames, MOMENT_FRAMES, SHORT_FRAMES)
    else:
        chosen = sampling_of(sampling, fps, frames, TRAINED)
    return IndexOptions(video_options(chosen, decoder, patience, workers), head)
