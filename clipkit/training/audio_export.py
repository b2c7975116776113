"""The built-in audio tower as files: weights in half precision, and a graph of a few nodes that reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.audio.builtin import CONFIG, GRAPH, WEIGHTS, TowerConfig
from clipkit.models.weights import file_sha256

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from clipkit.training.audio_tower import AudioTower

OPSET, IR_VERSION = 20, 10


def tower_graph(tower: AudioTower) -> tuple[onnx.ModelProto, list[str]]:
    """`mels` (batch, frames, bands) float32 -> `features` (batch, D), and the initialisers' recipes.

    Batch norms are folded into the convolutions when the graph is loaded; dropout is left out.
    """
    import onnx
    from torch import nn

    helper = onnx.helper
    nodes: list[Any] = []
    shapes: dict[str, tuple[int, ...]] = {}

    def op(kind: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [f"{kind.lower()}{len(nodes)}"], **attributes))
        return str(nodes[-1].output[0])

    def weight(recipe: str, shape: Any) -> str:
        shapes[recipe] = tuple(shape)
        return recipe

    def linear(x: str, name: str, layer: nn.Linear) -> str:
        matrix = weight(f"{name}.weight", layer.weight.shape)
        return op("Gemm", x, matrix, weight(f"{name}.bias", (layer.out_features,)), transB=1)

    x = op("Unsqueeze", "mels", "one")
    layers = tower.backbone.layers
    for number, layer in enumerate(layers):
        name = f"backbone.layers.{number}"
        if isinstance(layer, nn.Conv2d):
            norm = layers[number + 1]
            assert isinstance(norm, nn.BatchNorm2d)
            behind = f"backbone.layers.{number + 1},{norm.eps!r}"
            kernel = weight(f"fold({name}.weight,{behind})", layer.weight.shape)
            shift = weight(f"shift({behind})", (layer.out_channels,))
            x = op("Conv", x, kernel, shift, kernel_shape=[3, 3], strides=list(layer.stride), pads=[1, 1, 1, 1])
        elif isinstance(layer, nn.ReLU):
            x = op("Relu", x)
        elif isinstance(layer, nn.AvgPool2d):
            x = op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    over_time = op("ReduceMean", x, "three", keepdims=0)
    x = op("Add", op("ReduceMean", over_time, "two", keepdims=0), op("ReduceMax", over_time, "two", keepdims=0))
    x = op("Relu", linear(x, "backbone.hidden", tower.backbone.hidden))
    x = linear(x, "projection", tower.projection)
    nodes.append(helper.make_node("Identity", [x], ["features"]))

    initializers = [
        onnx.numpy_helper.from_array(np.array([axis], np.int64), name)
        for axis, name in ((1, "one"), (2, "two"), (3, "three"))
    ]
    for name, shape in shapes.items():
        tensor = onnx.TensorProto(name=name, dims=shape, data_type=onnx.TensorProto.FLOAT, data_location=1)
        tensor.external_data.add(key="location", value="weights")
        initializers.append(tensor)
    mels = helper.make_tensor_value_info("mels", onnx.TensorProto.FLOAT, ["batch", "frames", "bands"])
    features = helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["batch", "dim"])
    graph = helper.make_graph(nodes, "audio", [mels], [features], initializers)
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="clipkit"), list(shapes)


def save_tower(
    tower: AudioTower,
    folder: Path,
    *,
    seconds: float,
    logit_scale: float,
    image_scale: float,
    templates: tuple[str, ...],
) -> None:
    """Write weights, graph and config into `folder`."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: value.detach().to(torch.float16).contiguous()
        for name, value in tower.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(state, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone
    model, recipes = tower_graph(tower)
    (folder / GRAPH).write_bytes(model.SerializeToString())
    config = TowerConfig(
        seconds=seconds,
        logit_scale=round(logit_scale, 3),
        image_scale=round(image_scale, 3),
        embed_dim=tower.projection.out_features,
        sha256=file_sha256(folder / WEIGHTS),
        initializers=recipes,
        templates=templates,
    )
    (folder / CONFIG).write_text(config.to_json(), encoding="utf-8")
