"""GLIP's published checkpoints (`glip_tiny_model_o365_goldg_cc_sbu.pth` and its kin) turned into this package's network.

Every size is read from the tensors, so that GLIP-T (A), (B), (C), GLIP-T and GLIP-L are one case.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict, defaultdict
from typing import TYPE_CHECKING

import torch

from clipkit.errors import ModelError
from clipkit.models.foreign import fill, read_checkpoint
from clipkit.models.glip_boxes import SIDE, STRIDES
from clipkit.models.glip_head import HeadSizes
from clipkit.models.glip_swin import SwinSizes
from clipkit.models.glip_text import BertSizes

if TYPE_CHECKING:
    from pathlib import Path

    from clipkit.models.glip import GlipNet

State = dict[str, torch.Tensor]
BODY, BERT, HEAD = "backbone.body.", "language_backbone.body.model.", "rpn.head."
TOWER = f"{HEAD}dyhead_tower."
ANCHORS = "rpn.anchor_generator.cell_anchors."
# What a checkpoint holds and no box needs: tables made anew, and heads of training.
UNUSED = re.compile(
    r"rpn\.anchor_generator\.|rpn\.resizer\.|rpn\.head\.(cls_logits|mlm_head)\.|"
    r"language_backbone\.body\.model\.(pooler\.|embeddings\.(position_ids|token_type_ids))|"
    r".*\.relative_position_index"
)
BERT_LAYER = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "attended",
    "attention.output.LayerNorm": "attended_norm",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "norm",
}
BERT_TOP = {
    "word_embeddings.weight": "words.weight",
    "position_embeddings.weight": "positions.weight",
    "token_type_embeddings.weight": "types.weight",
    "LayerNorm.weight": "norm.weight",
    "LayerNorm.bias": "norm.bias",
}
BLOCK = {
    r"DyConv\.(\d)\.conv": r"convs.\1",
    r"DyConv\.(\d)\.bn": r"convs.\1.norm",
    r"AttnConv\.1": "scale",
    r"relu\.fc\.0": "squeeze",
    r"relu\.fc\.2": "excite",
    r"offset": "offset",
}


def read(path: Path) -> State:
    """The tensors of a `.pth` or `.safetensors` file, without a leading `module.`; no code in it is run.

    Raises:
        ModelError: the file is missing, damaged, not GLIP's, or a pickle of more than tensors and plain values.
    """
    loaded = read_checkpoint(path, "GLIP", "model", (Counter, OrderedDict, defaultdict))
    state = {name.removeprefix("module."): value for name, value in loaded.items()}
    if not any(name.startswith(TOWER) for name in state) or f"{BODY}patch_embed.proj.weight" not in state:
        raise ModelError(f"{path} is no GLIP checkpoint: it has no rpn.head.dyhead_tower over a Swin backbone")
    return state


def build(state: State) -> GlipNet:
    """The network of a checkpoint's tensors.

    Raises:
        ModelError: tensors are missing, left over, of the wrong shape, or of another kind of GLIP.
    """
    from clipkit.models.glip import GlipNet

    _check_anchors(state)
    # Nothing is drawn at random, and the file's tensors are taken as they are.
    with torch.device("meta"):
        net = GlipNet(swin_sizes(state), bert_sizes(state), head_sizes(state))
    fill(net, convert(state), "GLIP's checkpoint")
    return net


def swin_sizes(state: State) -> SwinSizes:
    """The backbone's sizes; Swin-T's are 96 channels, 2, 2, 6 and 2 blocks, windows of 7."""
    stages = 1 + _last(state, rf"{BODY}layers\.(\d+)\.")
    tables = [_shape(state, f"{BODY}layers.{i}.blocks.0.attn.relative_position_bias_table", 2) for i in range(stages)]
    width = _shape(state, f"{BODY}patch_embed.proj.weight", 4)[0]
    return SwinSizes(
        width=width,
        depths=tuple(1 + _last(state, rf"{BODY}layers\.{i}\.blocks\.(\d+)\.") for i in range(stages)),
        heads=tuple(table[1] for table in tables),
        window=(round(tables[0][0] ** 0.5) + 1) // 2,
        mlp=_shape(state, f"{BODY}layers.0.blocks.0.mlp.fc1.weight", 2)[0] // width,
    )


def bert_sizes(state: State) -> BertSizes:
    """The text encoder's sizes."""
    words, width = _shape(state, f"{BERT}embeddings.word_embeddings.weight", 2)
    return BertSizes(
        words=words,
        positions=_shape(state, f"{BERT}embeddings.position_embeddings.weight", 2)[0],
        types=_shape(state, f"{BERT}embeddings.token_type_embeddings.weight", 2)[0],
        width=width,
        layers=1 + _last(state, rf"{BERT}encoder\.layer\.(\d+)\."),
        inner=_shape(state, f"{BERT}encoder.layer.0.intermediate.dense.weight", 2)[0],
    )


def head_sizes(state: State) -> HeadSizes:
    """The head's sizes; without fusion in GLIP-T (A)."""
    channels, words = _shape(state, f"{HEAD}dot_product_projection_text.weight", 2)
    steps = 1 + _last(state, rf"{TOWER}(\d+)\.")
    fused = f"{TOWER}0.b_attn.attn.v_proj.weight" in state
    return HeadSizes(
        channels=channels,
        words=words,
        rounds=steps // 3 if fused else steps,
        inner=_shape(state, f"{TOWER}1.intermediate.dense.weight", 2)[0] if fused else 0,
        fusion=_shape(state, f"{TOWER}0.b_attn.attn.v_proj.weight", 2)[0] if fused else None,
    )


def convert(state: State) -> State:
    """The authors' names -> ours.

    Raises:
        ModelError: a name that published GLIP does not have.
    """
    fused = f"{TOWER}0.b_attn.attn.v_proj.weight" in state
    scales = sorted(name for name in state if re.fullmatch(rf"{HEAD}scales\.\d\.scale", name))
    out = {"head.scales": torch.cat([state[name].float().reshape(1) for name in scales])} if scales else {}
    for name, value in state.items():
        if UNUSED.match(name) or name in scales:
            continue
        new = _image(name) or _text(name) or _tower(name, fused=fused) or _answers(name)
        if new is None:
            raise ModelError(f"the checkpoint holds {name}, which GLIP's published models do not have")
        out[new] = value.float()
    return out


def _image(name: str) -> str | None:
    name, found = re.subn(rf"^{re.escape(BODY)}", "swin.", name)
    if found:
        return re.sub(r"^swin\.norm(\d)", lambda match: f"swin.norms.{int(match[1]) - 1}", name)
    # Counted from the second stage, as the first has no level.
    if match := re.fullmatch(r"backbone\.fpn\.fpn_(inner|layer)([234])\.(\w+)", name):
        return f"pyramid.{match[1]}.{int(match[2]) - 2}.{match[3]}"
    if match := re.fullmatch(r"backbone\.fpn\.top_blocks\.(p[67]\.\w+)", name):
        return f"pyramid.{match[1]}"
    return None


def _text(name: str) -> str | None:
    if match := re.fullmatch(rf"{BERT}embeddings\.(.+)", name):
        return f"bert.{BERT_TOP[match[1]]}" if match[1] in BERT_TOP else None
    if match := re.fullmatch(rf"{BERT}encoder\.layer\.(\d+)\.(.+)\.(weight|bias)", name):
        return f"bert.layers.{match[1]}.{BERT_LAYER[match[2]]}.{match[3]}" if match[2] in BERT_LAYER else None
    return None


def _tower(name: str, *, fused: bool) -> str | None:
    """A tower of fusion, text layer and block in turn, or of blocks alone."""
    match = re.fullmatch(rf"{TOWER}(\d+)\.(.+)", name)
    if match is None:
        return None
    number, kind = divmod(int(match[1]), 3) if fused else (int(match[1]), 2)
    rest = match[2]
    if kind == 0 and rest.startswith("b_attn."):
        return f"head.fuse.{number}.{rest.removeprefix('b_attn.').removeprefix('attn.')}"
    layer, _, end = rest.rpartition(".")
    if kind == 1 and layer in BERT_LAYER:
        return f"head.text.{number}.{BERT_LAYER[layer]}.{end}"
    if kind == 2:
        for pattern, new in BLOCK.items():
            if found := re.fullmatch(pattern, layer):
                return f"head.image.{number}.{found.expand(new)}.{end}"
    return None


def _answers(name: str) -> str | None:
    kept = r"(bbox_pred|centerness|dot_product_projection_text)\.(weight|bias)|log_scale|bias0|bias_lang"
    match = re.fullmatch(rf"{HEAD}({kept})", name)
    return f"head.{match[1]}" if match else None


def _check_anchors(state: State) -> None:
    """The checkpoint's own anchors, one square of 8 strides a place, are those boxes are decoded with."""
    for name in (name for name in state if name.startswith(ANCHORS)):
        level = int(name.removeprefix(ANCHORS))
        stride = STRIDES[level] if level < len(STRIDES) else 0
        centre, reach = (stride - 1) / 2, (SIDE * stride - 1) / 2
        wanted = torch.tensor([[centre - reach, centre - reach, centre + reach, centre + reach]])
        if state[name].shape != wanted.shape or not torch.allclose(state[name].float(), wanted):
            raise ModelError(f"the checkpoint's anchors ({name}) are not those of GLIP's published models")


def _shape(state: State, name: str, dimensions: int) -> tuple[int, ...]:
    if name not in state or state[name].dim() != dimensions:
        raise ModelError(f"GLIP's checkpoint does not fit: {name} is missing or of another shape")
    return tuple(state[name].shape)


def _last(state: State, pattern: str) -> int:
    found = [int(match[1]) for name in state if (match := re.match(pattern, name))]
    if not found:
        raise ModelError(f"GLIP's checkpoint does not fit: nothing in it is called {pattern}")
    return max(found)
