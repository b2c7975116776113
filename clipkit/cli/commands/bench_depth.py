"""`clipkit bench depth`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from clipkit.cli import options as opt
from clipkit.cli.commands import depth as depth_command
from clipkit.cli.lazy import examples

app = typer.Typer(rich_markup_mode="rich", add_completion=False)

_PROTOCOL = "What counts"


class CropName(StrEnum):
    """Which part of a picture is shown and scored."""

    nyu = "nyu"
    none = "none"


EXAMPLES = examples(
    ("the NYU test set, as commonly unpacked", "clipkit bench depth nyu/test/"),
    ("other pictures, whole", "clipkit bench depth pairs/ --crop none --max-depth 20"),
    ("depth in a unit of its own", "clipkit bench depth tum/ --crop none --depth-scale 5000"),
    ("one method against another", "clipkit bench depth nyu/test/ --method depthclip -f jsonl"),
)


@app.command(epilog=EXAMPLES)
def depth(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|CSV",
            help="NAME.jpg with NAME_depth.png, rgb_NAME.jpg with sync_depth_NAME.png, folders rgb/ and depth/, "
            "or a CSV with path and depth.",
        ),
    ],
    method: depth_command.Method = depth_command.MethodName.auto,
    crop: Annotated[
        CropName,
        typer.Option(help="nyu: the frame of NYU Depth v2, 640 x 480 only; none: all.", rich_help_panel=_PROTOCOL),
    ] = CropName.nyu,
    min_depth: Annotated[
        float, typer.Option(min=0, metavar="M", help="Nearest depth that counts.", rich_help_panel=_PROTOCOL)
    ] = 1e-3,
    max_depth: Annotated[
        float, typer.Option(min=0, metavar="M", help="Farthest depth that counts.", rich_help_panel=_PROTOCOL)
    ] = 10.0,
    depth_scale: Annotated[
        float,
        typer.Option(
            min=1e-6,
            metavar="N",
            help="Integers of the measured maps for one metre; .npy is metres.",
            rich_help_panel=_PROTOCOL,
        ),
    ] = 1000.0,
    size: depth_command.Size = None,
    flip: depth_command.Flip = None,
    upsample: depth_command.Upsampling = depth_command.UpsampleName.bilinear,
    words: depth_command.Words = None,
    bins: depth_command.Bins = None,
    templates: depth_command.DepthTemplates = "This object is {}",
    temperature: depth_command.Temperature = 0.1,
    max_pixels: opt.MaxPixels = None,
    model: depth_command.ModelName = None,
    device: opt.Device = None,
    precision: opt.Precision = None,
    format: opt.Format = None,  # noqa: A002 (the option's name)
    output: opt.OutputFile = None,
    quiet: opt.Quiet = False,
    no_progress: opt.NoProgress = False,
) -> None:
    """Errors of clipkit depth on photographs with measured depth, beside a map that is the same everywhere.

    delta1 to delta3 are shares of pixels within 25 % (then 56 % and 95 %) of the truth, the others are errors; all are
    means over pictures, as they are and after scaling each map to the measured median.
    """
    from clipkit.cli.driver import drive
    from clipkit.dense.features import DenseOptions
    from clipkit.depth.protocol import Protocol
    from clipkit.depth.truth import find_pairs
    from clipkit.errors import UsageError
    from clipkit.media.image import DEFAULT_MAX_PIXELS
    from clipkit.tasks.bench_depth import BenchOptions, DepthErrors, run
    from clipkit.tasks.depth import Choice, open_estimator

    if min_depth >= max_depth:
        raise UsageError(f"--min-depth {min_depth:g} must be less than --max-depth {max_depth:g}")
    ladder = depth_command.make_ladder(words, bins, templates, temperature)
    pairs = find_pairs(data)
    estimator = open_estimator(Choice(method.value, ladder, DenseOptions(size=size), model, device, precision))
    options = BenchOptions(
        protocol=Protocol(crop.value, min_depth, max_depth),
        scale=depth_scale,
        flip=flip,
        upsample=upsample.value,
        max_pixels=max_pixels or DEFAULT_MAX_PIXELS,
    )
    drive(
        run(pairs, str(data), options, estimator),
        opt.Common(format, output, quiet, no_progress),
        columns=DepthErrors.columns,
        percent=False,
    )
