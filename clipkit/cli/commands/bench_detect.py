"""`clipkit bench detect`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipkit.cli import options as opt
from clipkit.cli.commands import detect as det
from clipkit.cli.lazy import examples

if TYPE_CHECKING:
    from clipkit.detection.detector import Detector

app = typer.Typer(rich_markup_mode="rich", add_completion=False)


class MethodName(StrEnum):
    """Who detects; the last two are what any detector must beat."""

    clip = "clip"
    vild = "vild"
    glip = "glip"
    grounding_dino = "grounding-dino"
    mm_grounding_dino = "mm-grounding-dino"
    llmdet = "llmdet"
    owlv2 = "owlv2"
    omdet_turbo = "omdet-turbo"
    whole = "whole"
    chance = "chance"


EXAMPLES = examples(
    ("pictures and YOLO files", "clipkit bench detect images/ labels/ --classes classes.yaml"),
    ("COCO annotations", "clipkit bench detect val2017/ instances_val2017.json"),
    ("what boxes without looking would score", "clipkit bench detect images/ labels/ --classes c.txt --method chance"),
)


@app.command(epilog=EXAMPLES)
def detect(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder of pictures.")],
    boxes: Annotated[
        Path, typer.Argument(metavar="BOXES", help="Folder of YOLO files with the same names, or a COCO file (JSON).")
    ],
    classes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Lines `number: label|alias`; needed for YOLO files.")
    ] = None,
    ids: Annotated[str | None, typer.Option(metavar="1-90,95", help="Judge these numbers of --classes only.")] = None,
    background: det.Background = None,
    templates: opt.Templates = "imagenet",
    max_detections: det.MaxDetections = None,
    nms: det.Nms = None,
    one_label: det.Across = False,
    method: Annotated[
        MethodName, typer.Option(help="As in detect; whole: the whole picture as every box; chance: random boxes.")
    ] = MethodName.clip,
    crops: det.Crops = True,
    proposals: det.Proposals = None,
    base: det.Base = None,
    size: det.Size = None,
    flip: det.Flip = False,
    model: opt.ModelName = None,
    weights: det.Weights = None,
    device: opt.Device = None,
    precision: opt.Precision = None,
    format: opt.Format = None,  # noqa: A002 (the option's name)
    output: opt.OutputFile = None,
    quiet: opt.Quiet = False,
    no_progress: opt.NoProgress = False,
) -> None:
    """COCO's AP, AP50 and AR, per class and over all, CorLoc, and pictures a second.

    CorLoc asks each picture for each label it shows: the share of best boxes with IoU .5 or more. Needs pycocotools or
    faster-coco-eval.
    """
    from clipkit.cli.driver import drive
    from clipkit.dense.features import DenseOptions
    from clipkit.dense.vocabulary import vocabulary
    from clipkit.detection.baselines import ChanceDetector, WholeDetector
    from clipkit.detection.opening import DetectorChoice, open_detector
    from clipkit.models.loader import load_clip
    from clipkit.prompts.templates import load_templates
    from clipkit.settings import setting
    from clipkit.tasks import bench_detect as bench
    from clipkit.tasks.detect import DetectOptions
    from clipkit.tasks.detect_truth import read_truth

    det.check_method(method, crops=crops, proposals=proposals, base=base, size=size, flip=flip)
    truth = read_truth(images, boxes, classes, ids)
    bench.evaluators()
    choice = DetectorChoice(
        method=method.value,
        background=background,
        templates=load_templates(templates),
        dense=DenseOptions(size=size, flip=flip),
        crops=crops,
        proposals=proposals,
        base=frozenset(base or ()),
        weights=weights,
        model=model,
        device=setting("device", device),
        precision=setting("precision", precision),
    )
    detector: Detector
    if method is MethodName.chance:
        detector = ChanceDetector([label.name for label in truth.labels])
    elif method is MethodName.whole:
        clip = load_clip(model, choice.device, choice.precision)
        detector = WholeDetector(clip, vocabulary(truth.labels, background), choice.templates)
    else:
        detector = open_detector(choice, truth.labels)
    options = DetectOptions(max_detections=max_detections, nms=nms, across=one_label)
    drive(
        bench.run(truth, options, detector, path=str(boxes)),
        opt.Common(format, output, quiet, no_progress),
        columns=bench.DetectionScore.columns,
    )
