"""`clipkit models export NAME`: writes a model's ONNX graphs, so that it answers on the CPU without torch."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.errors import ModelError, ModelUnavailableError
from clipkit.files import atomic_write
from clipkit.models.locate import Located, locate
from clipkit.models.offline import no_network
from clipkit.models.onnx_engine import META, GraphMeta, OnnxClip, graph_folder
from clipkit.models.recipes import tensor_names
from clipkit.models.tokenizer import ClipTokenizer
from clipkit.models.weights import Safetensors, file_sha256

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from clipkit.models.catalog import ModelRef
    from clipkit.models.torch_engine import TorchClip

TOLERANCE = 1e-4
_OWN_WEIGHTS = "weights.safetensors"


def export(ref: ModelRef) -> Path:
    """Write the graph set of a model that is here, check it against torch, and return its folder.

    The weights stay in the model's safetensors file; where that cannot serve (another format, bfloat16, names that open_clip
    converts on loading) a float32 copy is kept beside the graphs.

    Raises:
        ModelUnavailableError: the model is not pulled, or the package onnx is not installed.
        ModelError: the text tower has another tokenizer than CLIP's, or a tower that cannot be written as a graph.
    """
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise ModelUnavailableError(f"export needs the package {package}: pip install 'clipkit-vision[export]'")
    from clipkit.models.torch_engine import load_torch

    located = locate(ref)
    clip = load_torch(located, "cpu", "fp32")
    if not isinstance(clip.tokenize, ClipTokenizer):
        raise ModelError(
            f"{ref.id} has a tokenizer of its own, which the ONNX engine does not read: use the torch engine"
        )
    folder = graph_folder(ref, located.weights)
    folder.mkdir(parents=True, exist_ok=True)
    half = _stores_half(located)
    graphs = {"image": _image_graph(clip), "text": _text_graph(clip, half=half)}
    names = {
        tower: [t.name for t in graph.graph.initializer if t.data_location == 1] for tower, graph in graphs.items()
    }
    weights = _weights_for(located, clip, folder, [name for part in names.values() for name in part])
    if weights.path != located.weights and half:  # the copy is float32, so the text graph reads float32
        graphs["text"] = _text_graph(clip, half=False)
    for tower, graph in graphs.items():
        with atomic_write(folder / f"{tower}.onnx") as stream:
            stream.write(graph.SerializeToString())
    meta = _meta(ref, located, clip, weights, folder, names)
    with atomic_write(folder / META, "w", encoding="utf-8") as stream:
        stream.write(meta.to_json())
    _check(OnnxClip(folder, ref.id), clip)
    return folder


def _image_graph(clip: TorchClip) -> Any:
    from clipkit.models.onnx_graphs import UnknownTowerError, image_graph
    from clipkit.models.onnx_trace import trace_image

    try:
        return image_graph(clip.model)
    except UnknownTowerError:
        return trace_image(clip)


def _text_graph(clip: TorchClip, *, half: bool) -> Any:
    from clipkit.models.onnx_graphs import UnknownTowerError, text_graph
    from clipkit.models.onnx_trace import trace_text

    try:
        return text_graph(clip.model, half=half)
    except UnknownTowerError:
        return trace_text(clip)


def _stores_half(located: Located) -> bool:
    if located.weights.suffix != ".safetensors":
        return False
    tensors = Safetensors(located.weights).tensors
    names = ("token_embedding.weight", "text.token_embedding.weight")
    return any(name in tensors and tensors[name].dtype == "F16" for name in names)


def _weights_for(located: Located, clip: TorchClip, folder: Path, recipes: list[str]) -> Safetensors:
    """The weights file that the graphs read: the model's own where it has every tensor as the model holds it."""
    state = clip.model.state_dict()
    needed = {name for recipe in recipes for name in tensor_names(recipe)}
    if located.weights.suffix == ".safetensors":
        own = Safetensors(located.weights)
        if all(_same(own, name, state[name]) for name in needed):
            return own
    from safetensors.torch import save_file

    own_path = folder / _OWN_WEIGHTS
    partial = own_path.with_suffix(".part")
    save_file({name: state[name].float().contiguous() for name in sorted(needed)}, partial)
    partial.replace(own_path)
    return Safetensors(own_path)


def _same(own: Safetensors, name: str, value: Any) -> bool:
    """Whether the file's tensor is the one the model computes with (conversions may rename, split or resize)."""
    if name not in own.tensors or own.tensors[name].dtype not in {"F16", "F32"}:
        return False
    stored = own.read(name)
    return stored.shape == tuple(value.shape) and bool(np.array_equal(stored.astype(np.float32), value.float().numpy()))


def _meta(
    ref: ModelRef, located: Located, clip: TorchClip, weights: Safetensors, folder: Path, names: dict[str, list[str]]
) -> GraphMeta:
    inside = weights.path.parent.resolve() == folder.resolve()
    tokenizer = clip.tokenize
    assert isinstance(tokenizer, ClipTokenizer)
    return GraphMeta(
        model=ref.id,
        weights=weights.path.name if inside else str(weights.path.absolute()),
        size=weights.path.stat().st_size,
        sha256=file_sha256(located.weights),  # the name of the model's weights, also where the graphs read a copy
        fingerprint=weights.fingerprint,
        embed_dim=clip.embed_dim,
        logit_scale=clip.logit_scale,
        logit_bias=clip.logit_bias,
        context_length=tokenizer.context_length,
        trim=clip.trims_tokens,
        preprocess=clip.preprocess,
        initializers=names,
    )


def _check(graphs: OnnxClip, clip: TorchClip) -> None:
    """Both engines must agree on noise and on texts of unlike lengths, or the graphs are not to be used.

    Raises:
        ModelError: they do not.
    """
    height, width = clip.preprocess.size
    pixels = np.random.default_rng(0).standard_normal((3, 3, height, width)).astype(np.float32)
    texts = ["a", "a photo of a cat.", "many words " * 60]
    with no_network():
        pairs: Iterable[tuple[Any, Any]] = (
            (graphs.encode_images(pixels), clip.encode_images(pixels)),
            (graphs.encode_images(pixels[:1]), clip.encode_images(pixels[:1])),
            (graphs.encode_texts(texts), clip.encode_texts(texts)),
            (graphs.encode_texts(texts[:1]), clip.encode_texts(texts[:1])),
        )
        worst = max(float(np.abs(a - b).max()) for a, b in pairs)
    if not worst <= TOLERANCE:
        raise ModelError(f"the ONNX graphs of {clip.id} differ from torch by {worst:.1e}: keep to the torch engine")
