"""LSeg's published checkpoints, safely read and turned into the parts this package uses.

The authors keep a PyTorch Lightning file: `net.pretrained` is a timm ViT with readout layers, `net.scratch` the DPT
decoder, `net.clip_pretrained` the CLIP whose text tower names the pixels. Sizes are read from the tensors.
"""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any

import torch

from clipkit.errors import ModelError
from clipkit.models.safe_load import load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from clipkit.models.lseg import LSegNet

State = dict[str, "Tensor"]
HEAD_WIDTH = 64
TEXT_BATCH = 256
# What a checkpoint holds and nothing here needs.
UNUSED = re.compile(
    r"clip_pretrained\.visual\.|clip_pretrained\.logit_scale|pretrained\.model\.(norm|head)\.|logit_scale|auxlayer|"
    r".*num_batches_tracked|scratch\.output_conv|clip_pretrained\.(input_resolution|context_length|vocab_size)"
)
BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
TOP = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
}


def read(path: Path) -> State:
    """The tensors of a `.ckpt`, `.pth` or `.safetensors` file, without the leading `net.`; no code in it is run.

    Raises:
        ModelError: the file is missing, damaged, or a pickle of more than tensors and plain values.
    """
    # Lightning keeps its arguments in a Namespace, which holds values and runs nothing.
    loaded = load_checkpoint(path, "LSeg's", [argparse.Namespace])
    state = loaded.get("state_dict", loaded)
    tensors = {
        str(name).removeprefix("net."): value for name, value in state.items() if isinstance(value, torch.Tensor)
    }
    if "scratch.head1.weight" not in tensors or "pretrained.model.pos_embed" not in tensors:
        raise ModelError(f"{path} is no LSeg checkpoint: it has no scratch.head1 and no pretrained.model")
    return tensors


def build(state: State) -> tuple[LSegNet, Callable[[list[str]], Tensor]]:
    """The network and the text encoder of a checkpoint's tensors.

    Raises:
        ModelError: tensors are missing, left over, or of the wrong shape.
    """
    from transformers.models.dpt.modeling_dpt import DPTModel, DPTNeck

    from clipkit.models.lseg import LSegNet

    config = dpt_config(state)
    dpt = DPTModel(config, add_pooling_layer=False)
    neck = DPTNeck(config)
    dim, width = state["scratch.head1.weight"].shape[:2]
    head = torch.nn.Conv2d(width, dim, kernel_size=1)
    parts = convert(state)
    for name, module in (("dpt", dpt), ("neck", neck), ("head", head)):
        _fill(module, parts[name], name)
    return LSegNet(dpt, neck, head, hooks(config.num_hidden_layers)).float(), text_encoder(state)


def hooks(layers: int) -> tuple[int, ...]:
    """The blocks (from 0) whose outputs the decoder takes: the last of each quarter, 5, 11, 17 and 23 of 24."""
    return tuple(layers * (quarter + 1) // 4 - 1 for quarter in range(4))


def dpt_config(state: State) -> Any:
    """The `DPTConfig` for a checkpoint, every size from its tensors (heads are 64 wide)."""
    from transformers import DPTConfig

    positions = state["pretrained.model.pos_embed"].shape
    patch = state["pretrained.model.patch_embed.proj.weight"].shape[-1]
    hidden = positions[-1]
    # Each level is enlarged by a transposed convolution of its factor, kept, or halved by a 3x3 convolution.
    factors: list[float] = []
    for level in range(1, 5):
        kernel = state.get(f"pretrained.act_postprocess{level}.4.weight")
        factors.append(1 if kernel is None else 0.5 if kernel.shape[-1] == 3 else kernel.shape[-1])
    return DPTConfig(
        hidden_size=hidden,
        num_hidden_layers=1
        + max(int(m[1]) for name in state if (m := re.match(r"pretrained\.model\.blocks\.(\d+)\.", name))),
        num_attention_heads=max(hidden // HEAD_WIDTH, 1),
        intermediate_size=state["pretrained.model.blocks.0.mlp.fc1.weight"].shape[0],
        image_size=round((positions[1] - 1) ** 0.5) * patch,
        patch_size=patch,
        layer_norm_eps=1e-6,
        readout_type="project",
        reassemble_factors=factors,
        neck_hidden_sizes=[state[f"pretrained.act_postprocess{level}.3.weight"].shape[0] for level in range(1, 5)],
        fusion_hidden_size=state["scratch.layer1_rn.weight"].shape[0],
        use_batch_norm_in_fusion_residual=True,
        use_bias_in_fusion_residual=False,
        use_auxiliary_head=False,
    )


def convert(state: State) -> dict[str, State]:
    """The authors' names -> transformers': tensors for `dpt`, `neck` and `head`.

    Raises:
        ModelError: a name that is not LSeg's.
    """
    parts: dict[str, State] = {"dpt": {}, "neck": {}, "head": {}}
    for name, value in state.items():
        if UNUSED.match(name) or name.startswith("clip_pretrained."):
            continue
        for part, new, tensor in _renamed(name, value.float()):
            parts[part][new] = tensor
    return parts


def _renamed(name: str, value: Tensor) -> list[tuple[str, str, Tensor]]:
    """Where a tensor goes: part, name and tensor; the fused queries, keys and values go to three places."""
    if match := re.fullmatch(r"pretrained\.model\.blocks\.(\d+)\.attn\.qkv\.(weight|bias)", name):
        prefix = f"encoder.layer.{match[1]}.attention.attention"
        thirds = zip(("query", "key", "value"), value.chunk(3), strict=True)
        return [("dpt", f"{prefix}.{third}.{match[2]}", tensor) for third, tensor in thirds]
    for pattern, part, place in RULES:
        if match := re.fullmatch(pattern, name):
            return [(part, place(match), value)]
    raise ModelError(f"the checkpoint holds {name}, which LSeg's published models do not have")


def _reassembled(match: re.Match[str]) -> str:
    level = int(match[1]) - 1
    places = {"0.project.0": f"readout_projects.{level}.0", "3": f"layers.{level}.projection"}
    return f"reassemble_stage.{places.get(match[2], f'layers.{level}.resize')}.{match[3]}"


def _fused(match: re.Match[str]) -> str:
    # The authors count from the finest level, transformers from the coarsest.
    rest = match[2].replace("out_conv", "projection")
    rest = re.sub(r"resConfUnit(\d)\.conv(\d)", r"residual_layer\1.convolution\2", rest)
    rest = re.sub(r"resConfUnit(\d)\.bn(\d)", r"residual_layer\1.batch_norm\2", rest)
    return f"fusion_stage.layers.{4 - int(match[1])}.{rest}"


RULES: tuple[tuple[str, str, Callable[[re.Match[str]], str]], ...] = (
    (
        rf"pretrained\.model\.blocks\.(\d+)\.({'|'.join(map(re.escape, BLOCK))})\.(weight|bias)",
        "dpt",
        lambda match: f"encoder.layer.{match[1]}.{BLOCK[match[2]]}.{match[3]}",
    ),
    (rf"pretrained\.model\.({'|'.join(map(re.escape, TOP))})", "dpt", lambda match: TOP[match[1]]),
    (r"pretrained\.act_postprocess(\d)\.(0\.project\.0|3|4)\.(weight|bias)", "neck", _reassembled),
    (r"scratch\.layer(\d)_rn\.weight", "neck", lambda match: f"convs.{int(match[1]) - 1}.weight"),
    (r"scratch\.refinenet(\d)\.(.+)", "neck", _fused),
    (r"scratch\.head1\.(weight|bias)", "head", lambda match: match[1]),
)


def text_encoder(state: State) -> Callable[[list[str]], Tensor]:
    """A function from texts to unit vectors, with the text tower of the checkpoint's own CLIP."""
    from open_clip.transformer import QuickGELU, TextTransformer

    from clipkit.models.tokenizer import ClipTokenizer

    own = {name.removeprefix("clip_pretrained."): value for name, value in state.items() if name.startswith("clip_p")}
    if "token_embedding.weight" not in own:
        raise ModelError("the checkpoint has no text tower (net.clip_pretrained)")
    vocabulary, width = own["token_embedding.weight"].shape
    context = own["positional_embedding"].shape[0]
    layers = 1 + max(int(m[1]) for name in own if (m := re.match(r"transformer\.resblocks\.(\d+)\.", name)))
    tower = TextTransformer(
        context_length=context,
        vocab_size=vocabulary,
        width=width,
        heads=max(width // HEAD_WIDTH, 1),
        layers=layers,
        output_dim=own["text_projection"].shape[1],
        act_layer=QuickGELU,
    )
    kept = {name: value.float() for name, value in own.items() if not UNUSED.match(f"clip_pretrained.{name}")}
    _fill(tower, kept, "clip_pretrained")
    tower = tower.eval().requires_grad_(requires_grad=False)
    tokenize = ClipTokenizer(context)

    def encode(texts: list[str]) -> Tensor:
        with torch.inference_mode():
            tokens = torch.from_numpy(tokenize(texts))
            found = [tower(tokens[i : i + TEXT_BATCH]) for i in range(0, len(tokens), TEXT_BATCH)]
            return torch.nn.functional.normalize(torch.cat(found), dim=-1)

    return encode


def _fill(module: torch.nn.Module, tensors: State, name: str) -> None:
    """Load tensors; everything the module has must be there, but for buffers that are counters or derived."""
    try:
        missing, unexpected = module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise ModelError(f"LSeg's {name}: {str(error).splitlines()[-1].strip()}") from error
    own = dict(module.named_parameters()) | {key: None for key, _ in module.named_buffers() if "running" in key}
    lacking = [key for key in missing if key in own and not key.startswith("layernorm.")]
    if lacking or unexpected:
        raise ModelError(
            f"LSeg's {name} does not fit: {(lacking or unexpected)[0]} is {'missing' if lacking else 'left over'}"
        )
