"""ONNX graphs of open_clip's own towers, written node by node: small files that load in milliseconds.

An initialiser's name says which tensors of the weights file it is made of (see `recipes`); the graph stores no weights.
Against a traced module this folds batch norms, computes the pooled query only (attention pooling, the last text block) and
looks up token embeddings in the file's own precision. Needs the package onnx, at export time only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.models.text_tower import trimmable

if TYPE_CHECKING:
    import onnx
    import torch

OPSET, IR_VERSION = 20, 10


class UnknownTowerError(Exception):
    """A tower that these graphs do not cover; the caller traces it instead."""


class _Graph:
    """A growing list of nodes. Every method returns the name of a value."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.external: dict[str, tuple[tuple[int, ...], bool]] = {}
        self.constants: dict[str, onnx.TensorProto] = {}
        self._count = 0

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        import onnx

        self._count += 1
        names = [f"{kind.lower()}{self._count}" + (f".{i}" if outputs > 1 else "") for i in range(outputs)]
        self.nodes.append(onnx.helper.make_node(kind, inputs, names, **attributes))
        return names if outputs > 1 else names[0]

    def weight(self, recipe: str, shape: Any, *, stored: bool = False) -> str:
        """An initialiser filled at load time; `stored` keeps the file's own precision."""
        self.external[recipe] = (tuple(int(n) for n in shape), stored)
        return recipe

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        import onnx

        array = np.asarray(value, dtype)
        name = f"{array.dtype.kind}{array.tolist()}".replace(" ", "")
        self.constants[name] = onnx.numpy_helper.from_array(array, name)
        return name

    def linear(self, x: str, name: str, module: torch.nn.Linear) -> str:
        """(N, in) -> (N, out), with the weight as the file has it."""
        return self.dense(x, f"{name}.weight", None if module.bias is None else f"{name}.bias", module.weight.shape)

    def dense(self, x: str, weight: str, bias: str | None, shape: Any) -> str:
        inputs = [x, self.weight(weight, shape)] + ([] if bias is None else [self.weight(bias, shape[:1])])
        return str(self.op("Gemm", *inputs, transB=1))

    def norm(self, x: str, name: str, module: Any) -> str:
        import torch

        if isinstance(module, torch.nn.Identity):
            return x
        if not isinstance(module, torch.nn.LayerNorm) or module.weight is None:
            raise UnknownTowerError(name)
        shape = module.normalized_shape
        scale, shift = self.weight(f"{name}.weight", shape), self.weight(f"{name}.bias", shape)
        return str(self.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=module.eps))

    def rows(self, x: str, length: int | str, *sizes: int) -> str:
        """(N * length, ...) -> (N, length, *sizes); `length` is a number or a value of shape (1,)."""
        if isinstance(length, int):
            return str(self.op("Reshape", x, self.constant([-1, length, *sizes])))
        shape = self.op("Concat", self.constant([-1]), length, self.constant(list(sizes)), axis=0)
        return str(self.op("Reshape", x, shape))

    def attention(self, q: str, k: str, v: str, heads: tuple[int, int], lengths: Any, mask: str | None = None) -> str:
        """Scaled dot-product attention of (N Lq, W), (N L, W), (N L, W) -> (N Lq, W).

        Args:
            q: Queries.
            k: Keys.
            v: Values.
            heads: Their number and width, whose product is W.
            lengths: Lq and L.
            mask: What is added to the scores (N, heads, Lq, L).
        """
        count, size = heads
        q = self.op("Mul", q, self.constant(size**-0.5, np.float32))
        q, k, v = (
            self.op("Transpose", self.rows(x, length, count, size), perm=order)
            for x, length, order in (
                (q, lengths[0], (0, 2, 1, 3)),
                (k, lengths[1], (0, 2, 3, 1)),
                (v, lengths[1], (0, 2, 1, 3)),
            )
        )
        scores = self.op("MatMul", q, k)
        if mask is not None:
            scores = self.op("Add", scores, mask)
        mixed = self.op("MatMul", self.op("Softmax", scores, axis=-1), v)
        mixed = self.op("Transpose", mixed, perm=(0, 2, 1, 3))
        return str(self.op("Reshape", mixed, self.constant([-1, count * size])))

    def model(self, inputs: list[onnx.ValueInfoProto], result: str, stored_type: int) -> onnx.ModelProto:
        """The finished model; `stored_type` is the ONNX type of initialisers kept in the file's own precision."""
        import onnx

        self.nodes.append(onnx.helper.make_node("Identity", [result], ["features"]))
        initializers = list(self.constants.values())
        for name, (shape, stored) in self.external.items():
            tensor = onnx.TensorProto(
                name=name, dims=shape, data_type=stored_type if stored else onnx.TensorProto.FLOAT, data_location=1
            )
            tensor.external_data.add(key="location", value="weights")
            initializers.append(tensor)
        output = onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["batch", "dim"])
        graph = onnx.helper.make_graph(self.nodes, "clip", inputs, [output], initializers)
        return onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="clipkit"
        )


def image_graph(model: Any) -> onnx.ModelProto:
    """`pixels` (batch, 3, H, W) float32 -> `features` (batch, D), not normalised.

    Raises:
        UnknownTowerError: neither open_clip's ModifiedResNet nor its plain VisionTransformer.
    """
    import onnx
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.transformer import VisionTransformer

    graph, visual = _Graph(), model.visual
    if type(visual) is ModifiedResNet:
        result = _resnet(graph, visual)
        height = width = int(visual.image_size)
    elif type(visual) is VisionTransformer:
        result = _vision_transformer(graph, visual)
        height, width = visual.image_size
    else:
        raise UnknownTowerError(type(visual).__name__)
    pixels = onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, ["batch", 3, height, width])
    return graph.model([pixels], result, onnx.TensorProto.FLOAT)


def text_graph(model: Any, *, half: bool) -> onnx.ModelProto:
    """`tokens` (batch, length) int64 -> `features` (batch, D), not normalised, for any length up to the context.

    Args:
        model: A model whose text tower may be trimmed.
        half: Whether the weights file stores the token embeddings as float16.

    Raises:
        UnknownTowerError: a text tower that is not causal with argmax pooling, or not of plain blocks.
    """
    import onnx
    from open_clip.transformer import Transformer

    custom = hasattr(model, "text")
    tower, prefix = (model.text, "text.") if custom else (model, "")
    if not trimmable(model) or type(tower.transformer) is not Transformer:
        raise UnknownTowerError(type(tower).__name__)
    g, width, context = _Graph(), int(tower.positional_embedding.shape[1]), int(tower.positional_embedding.shape[0])
    zero, one = g.constant([0]), g.constant([1])
    table = g.weight(f"stored({prefix}token_embedding.weight)", tower.token_embedding.weight.shape, stored=True)
    x = g.op("Gather", table, "tokens", axis=0)
    if half:
        x = g.op("Cast", x, to=onnx.TensorProto.FLOAT)
    length = g.op("Shape", "tokens", start=1, end=2)
    positions = g.weight(f"{prefix}positional_embedding", (context, width))
    x = g.op("Add", x, g.op("Slice", positions, zero, length, zero))
    x = g.op("Reshape", x, g.constant([-1, width]))
    # The rows of the causal mask that a text's length leaves, and of those the row of its end token for the last block.
    causal = g.weight(f"causal({context})", (context, context))
    mask = g.op("Slice", causal, g.constant([0, 0]), g.op("Concat", length, length, axis=0), g.constant([0, 1]))
    end = g.op("ArgMax", "tokens", axis=1, keepdims=0)
    end_mask = g.op("Unsqueeze", g.op("Gather", mask, end, axis=0), g.constant([1, 2]))
    row = g.op("Unsqueeze", end, one)
    blocks = tower.transformer.resblocks
    for number, block in enumerate(blocks):
        name = f"{prefix}transformer.resblocks.{number}"
        last = number == len(blocks) - 1
        x = _block(g, x, name, block, length, end_mask if last else mask, row if last else None)
    x = g.norm(x, f"{prefix}ln_final", tower.ln_final)
    x = _project(g, x, f"{prefix}text_projection", tower.text_projection)
    tokens = onnx.helper.make_tensor_value_info("tokens", onnx.TensorProto.INT64, ["batch", "length"])
    return g.model([tokens], x, onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT)


def _block(
    g: _Graph, x: str, name: str, block: Any, length: int | str, mask: str | None = None, row: str | None = None
) -> str:
    """A pre-norm attention block, (N L, W) -> (N L, W); with `row` (N, 1) for those rows alone: (N, W)."""
    from open_clip.transformer import QuickGELU, ResidualAttentionBlock
    from torch import nn

    if type(block) is not ResidualAttentionBlock or hasattr(block, "ln_1_kv"):
        raise UnknownTowerError(name)
    attn, act = block.attn, block.mlp.gelu
    width, count = attn.embed_dim, attn.num_heads
    inner = g.norm(x, f"{name}.ln_1", block.ln_1)
    qkv = g.dense(inner, f"{name}.attn.in_proj_weight", f"{name}.attn.in_proj_bias", attn.in_proj_weight.shape)
    q, k, v = g.op("Split", qkv, outputs=3, axis=-1, num_outputs=3)
    if row is not None:
        q, x = (g.op("GatherND", g.rows(value, length, width), row, batch_dims=1) for value in (q, x))
    lengths = (length if row is None else 1, length)
    mixed = g.attention(q, k, v, (count, width // count), lengths, mask)
    mixed = g.linear(mixed, f"{name}.attn.out_proj", attn.out_proj)
    x = g.op("Add", x, _scale(g, mixed, f"{name}.ls_1", block.ls_1))
    hidden = g.linear(g.norm(x, f"{name}.ln_2", block.ln_2), f"{name}.mlp.c_fc", block.mlp.c_fc)
    if type(act) is QuickGELU:
        hidden = g.op("Mul", hidden, g.op("Sigmoid", g.op("Mul", hidden, g.constant(1.702, np.float32))))
    elif type(act) is nn.GELU:
        hidden = g.op("Gelu", hidden, approximate=act.approximate)
    else:
        raise UnknownTowerError(f"{name}: {type(act).__name__}")
    hidden = g.linear(hidden, f"{name}.mlp.c_proj", block.mlp.c_proj)
    return str(g.op("Add", x, _scale(g, hidden, f"{name}.ls_2", block.ls_2)))


def _scale(g: _Graph, x: str, name: str, module: Any) -> str:
    gamma = getattr(module, "gamma", None)
    return x if gamma is None else str(g.op("Mul", x, g.weight(f"{name}.gamma", gamma.shape)))


def _project(g: _Graph, x: str, name: str, projection: Any) -> str:
    import torch

    if projection is None:
        return x
    if isinstance(projection, torch.nn.Linear):
        return g.linear(x, name, projection)
    return str(g.op("MatMul", x, g.weight(name, projection.shape)))


def _vision_transformer(g: _Graph, visual: Any) -> str:
    from open_clip.transformer import Transformer

    if (
        visual.attn_pool is not None
        or visual.pool_type not in {"tok", "avg"}
        or type(visual.transformer) is not Transformer
    ):
        raise UnknownTowerError("VisionTransformer")
    width, patch = visual.conv1.out_channels, list(visual.patch_size)
    x = g.op(
        "Conv", "pixels", g.weight("visual.conv1.weight", visual.conv1.weight.shape), strides=patch, kernel_shape=patch
    )
    x = g.op("Transpose", g.op("Reshape", x, g.constant([0, width, -1])), perm=(0, 2, 1))
    batch = g.op("Shape", "pixels", start=0, end=1)
    token = g.op("Reshape", g.weight("visual.class_embedding", (width,)), g.constant([1, 1, width]))
    token = g.op("Expand", token, g.op("Concat", batch, g.constant([1, 1]), axis=0))
    x = g.op("Concat", token, x, axis=1)
    x = g.op("Add", x, g.weight("visual.positional_embedding", visual.positional_embedding.shape))
    x = g.norm(g.op("Reshape", x, g.constant([-1, width])), "visual.ln_pre", visual.ln_pre)
    blocks, length = visual.transformer.resblocks, int(visual.positional_embedding.shape[0])
    row = g.op("Expand", g.constant([[0]]), g.op("Concat", batch, g.constant([1]), axis=0))
    for number, block in enumerate(blocks):
        # Only the class token leaves the tower, so the last block computes no other row.
        only = row if visual.pool_type == "tok" and number == len(blocks) - 1 else None
        x = _block(g, x, f"visual.transformer.resblocks.{number}", block, length, None, only)
    if visual.pool_type == "tok":
        return _project(g, g.norm(x, "visual.ln_post", visual.ln_post), "visual.proj", visual.proj)
    if not visual.final_ln_after_pool:
        x = g.norm(x, "visual.ln_post", visual.ln_post)
    x = g.op("Slice", g.rows(x, length, width), g.constant([1]), g.constant([2**31 - 1]), g.constant([1]))
    x = g.op("ReduceMean", x, g.constant([1]), keepdims=0)
    if visual.final_ln_after_pool:
        x = g.norm(x, "visual.ln_post", visual.ln_post)
    return _project(g, x, "visual.proj", visual.proj)


def _resnet(g: _Graph, visual: Any) -> str:
    def conv(x: str, name: str, norm: str, *, relu: bool = True) -> str:
        """A convolution with its batch norm folded in."""
        module, batch_norm = visual.get_submodule(name), visual.get_submodule(norm)
        kernel, stride, pad = module.kernel_size, list(module.stride), list(module.padding)
        folded = f"visual.{name}.weight,visual.{norm},{batch_norm.eps!r}"
        weight = g.weight(f"fold({folded})", module.weight.shape)
        shift = g.weight(f"shift(visual.{norm},{batch_norm.eps!r})", (module.out_channels,))
        out: str = g.op("Conv", x, weight, shift, kernel_shape=list(kernel), strides=stride, pads=pad + pad)
        return g.op("Relu", out) if relu else out

    def pool(x: str, size: int) -> str:
        return str(g.op("AveragePool", x, kernel_shape=[size, size], strides=[size, size]))

    x = "pixels"
    for number in (1, 2, 3):
        x = conv(x, f"conv{number}", f"bn{number}")
    x = pool(x, 2)
    for layer in ("layer1", "layer2", "layer3", "layer4"):
        for number, block in enumerate(visual.get_submodule(layer)):
            name = f"{layer}.{number}"
            out = conv(conv(x, f"{name}.conv1", f"{name}.bn1"), f"{name}.conv2", f"{name}.bn2")
            out = conv(pool(out, block.stride) if block.stride > 1 else out, f"{name}.conv3", f"{name}.bn3", relu=False)
            if block.downsample is not None:
                x = pool(x, block.stride) if block.stride > 1 else x
                x = conv(x, f"{name}.downsample.0", f"{name}.downsample.1", relu=False)
            x = g.op("Relu", g.op("Add", out, x))
    return _attention_pool(g, x, visual.attnpool)


def _attention_pool(g: _Graph, x: str, pool: Any) -> str:
    """CLIP's attention pooling; only the mean token asks, so only its query is computed."""
    (length, width), count = pool.positional_embedding.shape, pool.num_heads
    one = g.constant([1])
    x = g.op("Transpose", g.op("Reshape", x, g.constant([0, width, -1])), perm=(0, 2, 1))
    x = g.op("Concat", g.op("ReduceMean", x, one, keepdims=1), x, axis=1)
    x = g.op("Add", x, g.weight("visual.attnpool.positional_embedding", (length, width)))
    first, flat = (
        g.op("Reshape", value, g.constant([-1, width])) for value in (g.op("Slice", x, g.constant([0]), one, one), x)
    )
    q, k, v = (
        g.linear(value, f"visual.attnpool.{part}_proj", getattr(pool, f"{part}_proj"))
        for part, value in (("q", first), ("k", flat), ("v", flat))
    )
    mixed = g.attention(q, k, v, (count, width // count), (1, int(length)))
    return g.linear(mixed, "visual.attnpool.c_proj", pool.c_proj)
