"""ONNX graphs of towers that are not open_clip's plain ones, by torch's exporter, with the weights left in their file."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING, Any

from clipkit.errors import ModelError
from clipkit.models.onnx_graphs import OPSET
from clipkit.models.text_tower import encode_trimmed

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx
    import torch

    from clipkit.models.torch_engine import TorchClip


def trace_image(clip: TorchClip) -> Any:
    """`pixels` (batch, 3, H, W) -> `features` (batch, D).

    Raises:
        ModelError: torch cannot export the tower.
    """
    import torch

    height, width = clip.preprocess.size
    model: Any = clip.model
    return _trace(clip, model.encode_image, "pixels", torch.rand(2, 3, height, width), {0: torch.export.Dim("batch")})


def trace_text(clip: TorchClip) -> Any:
    """`tokens` (batch, length) -> `features` (batch, D); the length is free where tokens may be trimmed.

    Raises:
        ModelError: torch cannot export the tower.
    """
    import torch

    context = int(clip.tokenize.context_length)  # type: ignore[attr-defined]
    model: Any = clip.model
    shape = {0: torch.export.Dim("batch")}
    if not clip.trims_tokens:
        return _trace(clip, model.encode_text, "tokens", torch.randint(1, 400, (2, context)), shape)

    def encode(tokens: torch.Tensor) -> torch.Tensor:
        return encode_trimmed(model, tokens)

    shape[1] = torch.export.Dim("length", min=2, max=context)
    return _trace(clip, encode, "tokens", torch.randint(1, 400, (2, 9)), shape)


def _trace(
    clip: TorchClip, encode: Callable[[torch.Tensor], torch.Tensor], name: str, example: torch.Tensor, shape: Any
) -> Any:
    import torch

    class Tower(torch.nn.Module):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, value: torch.Tensor) -> torch.Tensor:
            return encode(value)

    quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    logging.disable(logging.ERROR)
    try:
        with quiet[0], quiet[1], warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                Tower(clip.model).eval(),
                (example,),
                dynamo=True,
                dynamic_shapes={"value": shape},
                input_names=[name],
                output_names=["features"],
                opset_version=OPSET,
                optimize=False,  # it would fold parameters into constants that are not in the weights file
                verbose=False,
            )
            assert program is not None
            model: onnx.ModelProto = program.model_proto
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise ModelError(f"torch cannot write {clip.id} as an ONNX graph ({type(error).__name__}: {text})") from error
    finally:
        logging.disable(logging.NOTSET)
    return _leave_weights(model, set(clip.model.state_dict()))


def _leave_weights(model: onnx.ModelProto, parameters: set[str]) -> onnx.ModelProto:
    """Drop the bytes of every parameter, keep its name, and drop what only debugging needs."""
    import onnx

    graph = model.graph
    renamed: dict[str, str] = {}
    for tensor in graph.initializer:
        own = tensor.name.removeprefix("model.")
        if own in parameters and tensor.data_type == onnx.TensorProto.FLOAT:
            renamed[tensor.name] = own
            bare = onnx.TensorProto(name=own, dims=tensor.dims, data_type=tensor.data_type, data_location=1)
            bare.external_data.add(key="location", value="weights")
            tensor.CopyFrom(bare)
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        for position, value in enumerate(node.input):
            node.input[position] = renamed.get(value, value)
    del graph.value_info[:]
    del graph.metadata_props[:]
    del model.metadata_props[:]
    return model
