"""Checkpoints of ViLD's PyTorch re-implementation (github.com/dyabel/detpro), safely read and turned into a `RegionNet`.

They are mmdetection 2 files: `backbone`, `neck`, `rpn_head` and `roi_head`, whose `projection` leads to CLIP's joint space
and whose `bg_embedding` is the learned background. Masks and the CLIP inside are left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from clipkit.detection.rcnn_boxes import RATIOS
from clipkit.errors import ModelError
from clipkit.models.foreign import open_checkpoint
from clipkit.models.rcnn import RegionNet, Sizes

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

State = dict[str, "Tensor"]
# What a checkpoint holds and nothing here needs.
UNUSED = re.compile(
    r"roi_head\.(mask_head|mask_iou_head|clip_model|bg_embedding|bbox_head\.fc_cls)\..*|.*\.num_batches_tracked"
)
NORM = "weight|bias|running_mean|running_var"
RULES: tuple[tuple[str, str], ...] = (
    (r"backbone\.(.+)", r"body.\1"),
    (r"neck\.lateral_convs\.(\d)\.conv\.(weight|bias)", r"fpn.inner_blocks.\1.0.\2"),
    (rf"neck\.lateral_convs\.(\d)\.bn\.({NORM})", r"fpn.inner_blocks.\1.1.\2"),
    (r"neck\.fpn_convs\.(\d)\.conv\.(weight|bias)", r"fpn.layer_blocks.\1.0.\2"),
    (rf"neck\.fpn_convs\.(\d)\.bn\.({NORM})", r"fpn.layer_blocks.\1.1.\2"),
    (r"rpn_head\.rpn_conv\.(weight|bias)", r"rpn.conv.0.0.\1"),
    (r"rpn_head\.rpn_cls\.(weight|bias)", r"rpn.cls_logits.\1"),
    (r"rpn_head\.rpn_reg\.(weight|bias)", r"rpn.bbox_pred.\1"),
    (r"roi_head\.bbox_head\.fc_reg\.(weight|bias)", r"box.\1"),
    *(
        rule
        for theirs, ours in (("", "text"), ("_for_image", "image"))
        for rule in (
            (rf"roi_head\.bbox_head\.shared_convs{theirs}\.(\d)\.conv\.(weight|bias)", rf"{ours}.convs.\1.0.\2"),
            (rf"roi_head\.bbox_head\.shared_convs{theirs}\.(\d)\.bn\.({NORM})", rf"{ours}.convs.\1.1.\2"),
            (rf"roi_head\.bbox_head\.shared_fcs{theirs}\.(\d)\.(weight|bias)", rf"{ours}.fcs.\1.\2"),
            (rf"roi_head\.projection{theirs}\.(weight|bias)", rf"{ours}.projection.\1"),
        )
    ),
)


def read(path: Path) -> tuple[State, str]:
    """The tensors of a checkpoint, and the text of its training configuration, where it has one; no code in it is run.

    Raises:
        ModelError: the file is missing, damaged, a pickle of more than tensors and plain values, or another model's.
    """
    loaded = open_checkpoint(path, "ViLD", "state_dict")
    state = loaded.get("state_dict", loaded)
    meta = loaded.get("meta")
    text = str(meta.get("config", "")) if isinstance(meta, dict) else ""
    tensors = {
        str(name).removeprefix("module."): value for name, value in state.items() if isinstance(value, torch.Tensor)
    }
    if any(name.startswith("roi_head.bbox_head.0.") for name in tensors):
        raise ModelError(
            f"{path} is a Cascade R-CNN; --method vild reads the Mask or Faster R-CNN checkpoints of DetPro"
        )
    for name in ("backbone.conv1.weight", "rpn_head.rpn_cls.weight", "roi_head.projection.weight"):
        if name not in tensors:
            raise ModelError(f"{path} is no ViLD checkpoint in DetPro's layout: it has no {name}")
    return tensors, text


def build(state: State, config: str = "") -> RegionNet:
    """The network of a checkpoint's tensors.

    Args:
        state: tensors by the authors' names.
        config: the training configuration's text; its `style` alone is looked for, which no tensor shows.

    Raises:
        ModelError: tensors are missing, left over, or of a shape that is not ViLD's.
    """
    converted = convert(state)
    try:
        net = RegionNet(sizes(state, config), background(state))
    except (KeyError, IndexError) as error:
        raise ModelError(f"the checkpoint lacks {error.args[0]}, which DetPro's published models have") from error
    try:
        missing, unexpected = net.load_state_dict(converted, strict=False)
    except RuntimeError as error:
        raise ModelError(f"the checkpoint does not fit ViLD: {str(error).splitlines()[-1].strip()}") from error
    lacking = [name for name in missing if not name.endswith("num_batches_tracked")]
    if lacking or unexpected:
        what = "lacks" if lacking else "has besides"
        raise ModelError(f"the checkpoint does not fit ViLD: it {what} {(lacking or unexpected)[0]}")
    return net.float().eval().requires_grad_(requires_grad=False)


def convert(state: State) -> State:
    """The authors' names -> those of `RegionNet`.

    Raises:
        ModelError: a name that is not one of theirs.
    """
    out = {}
    for name, value in state.items():
        if UNUSED.fullmatch(name):
            continue
        rule = next(((pattern, place) for pattern, place in RULES if re.fullmatch(pattern, name)), None)
        if rule is None:
            raise ModelError(f"the checkpoint holds {name}, which DetPro's published models do not have")
        out[re.sub(rule[0], rule[1], name)] = value.float()
    return out


def sizes(state: State, config: str = "") -> Sizes:
    """Every width and count, from the shapes.

    Raises:
        ModelError: boxes by class, or anchors of another number.
        KeyError: a tensor is missing; its name is the argument.
    """
    head = "roi_head.bbox_head"
    rows, anchors = state[f"{head}.fc_reg.weight"].shape[0], state["rpn_head.rpn_cls.weight"].shape[0]
    if rows != 4:
        raise ModelError(f"the checkpoint has {rows // 4} boxes a region, one a class; ViLD's has one for all classes")
    if anchors != len(RATIOS):
        raise ModelError(f"the checkpoint has {anchors} anchors a cell, DetPro's models have {len(RATIOS)}")
    convs = _widths(state, f"{head}.shared_convs", "conv.weight")
    fcs = _widths(state, f"{head}.shared_fcs", "weight")
    pyramid = state["neck.lateral_convs.0.conv.weight"].shape[0]
    first = state[f"{head}.shared_fcs.0.weight"].shape[1]
    style = re.search(r"style\s*=\s*['\"](\w+)['\"]", config)
    return Sizes(
        stem=state["backbone.conv1.weight"].shape[0],
        stages=tuple(_stage(state, number) for number in range(1, 5)),
        caffe=style is None or style[1] == "caffe",
        pyramid=pyramid,
        pyramid_norm="neck.lateral_convs.0.bn.weight" in state,
        convs=convs,
        head_norm=f"{head}.shared_convs.0.bn.weight" in state,
        fcs=fcs,
        cells=round((first / (convs[-1] if convs else pyramid)) ** 0.5),
        dim=state["roi_head.projection.weight"].shape[0],
        image="roi_head.projection_for_image.weight" in state,
    )


def background(state: State) -> Tensor | None:
    """The learned background as a unit vector `(D,)`: a linear layer asked for the number one."""
    weight = state.get("roi_head.bg_embedding.weight")
    if weight is None:
        return None
    return functional.normalize(weight[:, 0].float() + state["roi_head.bg_embedding.bias"].float(), dim=0)


def _stage(state: State, number: int) -> tuple[int, int]:
    blocks = 0
    while f"backbone.layer{number}.{blocks}.conv3.weight" in state:
        blocks += 1
    return blocks, state[f"backbone.layer{number}.{max(blocks - 1, 0)}.conv3.weight"].shape[0]


def _widths(state: State, prefix: str, name: str) -> tuple[int, ...]:
    found: list[int] = []
    while (value := state.get(f"{prefix}.{len(found)}.{name}")) is not None:
        found.append(value.shape[0])
    return tuple(found)
