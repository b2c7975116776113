"""The ONNX engine gives what the torch engine gives, for the towers it writes by hand and for those it traces."""

import json
import shutil

import numpy as np
import pytest
from tiny import make_tiny_clip

from clipkit.errors import ModelError, ModelUnavailableError, UsageError
from clipkit.models.catalog import BUILTIN_DIR, resolve
from clipkit.models.export import export
from clipkit.models.loader import forget_models, load_clip
from clipkit.models.onnx_engine import META, GraphMeta, OnnxClip
from clipkit.models.recipes import cook, tensor_names, widen
from clipkit.models.weights import Safetensors, file_sha256

TEXTS = ["a", "a photo of a cat.", "two words " * 5, "", "very long " * 80]


@pytest.fixture(autouse=True)
def fresh_loader():
    forget_models()


def both(directory):
    """The two engines on one model, after an export."""
    folder = export(resolve(f"local-dir:{directory}"))
    onnx, torch = load_clip(str(directory), device="cpu"), load_clip(str(directory), device="cpu", engine="torch")
    assert (onnx.engine, torch.engine) == ("onnx", "torch")
    return folder, onnx, torch


def near(ours, theirs):
    """Equal to 1e-4 of the largest value, which is at most 1 in normalised embeddings."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * max(1.0, float(np.abs(theirs).max())))


def agree(onnx, torch):
    height, width = torch.preprocess.size
    pixels = np.random.default_rng(0).standard_normal((5, 3, height, width)).astype(np.float32)
    for normalize in (True, False):
        for count in (1, 5):
            near(
                onnx.encode_images(pixels[:count], normalize=normalize),
                torch.encode_images(pixels[:count], normalize=normalize),
            )
        near(onnx.encode_texts(TEXTS, normalize=normalize), torch.encode_texts(TEXTS, normalize=normalize))
    for name in ("id", "weights_hash", "embed_dim", "logit_scale", "logit_bias", "preprocess", "text_key"):
        assert getattr(onnx, name) == getattr(torch, name), name


WRITTEN = {
    "vit": ("vit", {}),
    "resnet": ("resnet", {}),
    "float32": ("vit", {"dtype": "fp32"}),
    "quickgelu": ("vit", {"model_cfg": {"quick_gelu": True}}),
    "custom text": ("vit", {"model_cfg": {"custom_text": True}}),
    "sigmoid": ("vit", {"model_cfg": {"init_logit_bias": -10.0}}),
    "layer scale, no ln_pre": (
        "vit",
        {"vision_cfg": {"ls_init_value": 0.5, "no_ln_pre": True}, "text_cfg": {"ls_init_value": 0.5}},
    ),
    "average pool": ("vit", {"vision_cfg": {"pool_type": "avg"}}),
    "norm after pool": ("vit", {"vision_cfg": {"pool_type": "avg", "final_ln_after_pool": True}}),
    "token pool, norm after": ("vit", {"vision_cfg": {"final_ln_after_pool": True}}),
    "biased projection": ("vit", {"text_cfg": {"proj_bias": True}}),
    "no projection": ("vit", {"text_cfg": {"proj_type": "none", "width": 16}}),
    "tanh gelu": (
        "vit",
        {"vision_cfg": {"act_kwargs": {"approximate": "tanh"}}, "text_cfg": {"act_kwargs": {"approximate": "tanh"}}},
    ),
    "short context, wide picture": (
        "vit",
        {"text_cfg": {"context_length": 16}, "vision_cfg": {"image_size": [32, 48]}},
    ),
    "deep resnet": ("resnet", {"vision_cfg": {"layers": [2, 1, 2, 1]}}),
}


@pytest.mark.parametrize("case", WRITTEN)
def test_written_graphs_equal_torch(case, tmp_path):
    """Each variant of open_clip's own towers: same embeddings, same constants, weights read from the model's own file."""
    kind, options = WRITTEN[case]
    directory = make_tiny_clip(tmp_path / "model", kind, **options)
    folder, onnx, torch = both(directory)
    agree(onnx, torch)
    assert sorted(path.name for path in folder.iterdir()) == [META, "image.onnx", "text.onnx"]
    assert all((folder / name).stat().st_size < 40_000 for name in ("image.onnx", "text.onnx"))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(
            {
                "vision_cfg": {
                    "timm_model_name": "test_vit",
                    "timm_pool": "avg",
                    "timm_proj": "linear",
                    "image_size": 160,
                }
            },
            marks=pytest.mark.slow,
        ),
        {"vision_cfg": {"scale_attn": True}, "text_cfg": {"scale_heads": True}},
        {"text_cfg": {"no_causal_mask": True, "pool_type": "last"}, "model_cfg": {"custom_text": True}},
    ],
    ids=["timm tower", "custom blocks", "untrimmed text"],
)
def test_traced_graphs_equal_torch(options, tmp_path):
    """Towers without a hand-written graph go through torch's exporter, to the same end."""
    _, onnx, torch = both(make_tiny_clip(tmp_path / "model", **options))
    agree(onnx, torch)


def test_other_checkpoints_get_a_copy(tiny_vit, tmp_path):
    """Weights that are no readable safetensors are copied once beside the graphs, under the original's hash."""
    import torch
    from safetensors.torch import load_file

    directory = tmp_path / "model"
    directory.mkdir()
    shutil.copy(tiny_vit / "open_clip_config.json", directory)
    state = load_file(tiny_vit / "open_clip_model.safetensors")
    torch.save({name: value.bfloat16() for name, value in state.items()}, directory / "open_clip_pytorch_model.bin")
    folder, onnx, torch_clip = both(directory)
    agree(onnx, torch_clip)
    assert (folder / "weights.safetensors").is_file()
    assert onnx.weights_hash == file_sha256(directory / "open_clip_pytorch_model.bin")[:12]


def test_no_torch_in_the_process(tiny_resnet, isolated):
    """Loading and encoding with graphs imports neither torch nor open_clip, torchvision, onnx or transformers."""
    export(resolve(str(tiny_resnet)))
    printed = isolated(
        "import sys, numpy as np\n"
        "from clipkit.models.loader import load_clip\n"
        f"clip = load_clip({str(tiny_resnet)!r})\n"
        "clip.encode_texts(['a cat']), clip.encode_images(np.zeros((1, 3, 64, 64), np.float32))\n"
        "heavy = ('torch', 'open_clip', 'torchvision', 'onnx', 'transformers', 'huggingface_hub', 'scipy')\n"
        "print(clip.engine, [m for m in heavy if m in sys.modules])"
    )
    assert printed.strip() == "onnx []"


def test_changed_weights_are_noticed(tiny_vit, tmp_path):
    """A graph set never reads a weights file it was not made for: the loader finds no graphs, the engine refuses."""
    directory = shutil.copytree(tiny_vit, tmp_path / "model")
    folder = export(resolve(str(directory)))
    make_tiny_clip(directory, "vit", seed=7)
    assert load_clip(str(directory)).engine == "torch"
    for kind in ("vit", "resnet"):  # other values in the same layout, and another layout
        make_tiny_clip(directory, kind, seed=8)
        with pytest.raises(ModelError, match="not the file"):
            OnnxClip(folder, "x")
    (directory / "open_clip_model.safetensors").unlink()
    with pytest.raises(ModelError, match="missing"):
        OnnxClip(folder, "x")


def test_damaged_description_is_named(tiny_vit, tmp_path):
    """A broken graphs.json or a missing graph says what to do."""
    directory = shutil.copytree(tiny_vit, tmp_path / "model")
    folder = export(resolve(str(directory)))
    (folder / "image.onnx").write_bytes(b"nothing")
    clip = OnnxClip(folder, "x")
    with pytest.raises(ModelError, match="export or install"):
        clip.encode_images(np.zeros((1, 3, 32, 32), np.float32))
    (folder / META).write_text("{")
    with pytest.raises(ModelError, match=META):
        OnnxClip(folder, "x")


def test_insisting_on_a_graph(tiny_vit):
    """`engine="onnx"` without a graph names the command that writes one; with another device it makes no sense."""
    with pytest.raises(ModelUnavailableError, match="models export"):
        load_clip(str(tiny_vit), engine="onnx")
    with pytest.raises(UsageError, match="cpu in fp32"):
        load_clip(str(tiny_vit), precision="bf16", engine="onnx")


def test_export_says_which_extra(tiny_vit, monkeypatch):
    """Without onnx the export names the extra that brings it."""
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnx" else find(name, *a))
    with pytest.raises(ModelUnavailableError, match=r"clipkit-vision\[export\]"):
        export(resolve(str(tiny_vit)))


def test_a_wrong_graph_is_not_kept_quiet(tiny_vit, tmp_path, monkeypatch):
    """If both engines disagreed, export would fail."""
    from clipkit.models import export as module

    monkeypatch.setattr(module, "TOLERANCE", -1.0)
    with pytest.raises(ModelError, match="differ from torch"):
        export(resolve(str(tiny_vit)))


def test_widening_is_exact():
    """Every finite half-precision number becomes the single-precision number of its value."""
    half = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    half = half[np.isfinite(half)]
    assert len(half) == (1 << 16) - 2 * 1024
    assert widen(half).tobytes() == half.astype(np.float32).tobytes()


def test_recipes(tmp_path):
    """Each recipe is its formula; an unknown one is an error."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    conv, norm = torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.BatchNorm2d(4).eval()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    state = {f"c.{k}": v for k, v in conv.state_dict().items()} | {f"b.{k}": v for k, v in norm.state_dict().items()}
    save_file({k: v.detach() for k, v in state.items()}, tmp_path / "w.safetensors")
    weights = Safetensors(tmp_path / "w.safetensors")
    x = torch.randn(2, 3, 8, 8)
    folded = torch.nn.functional.conv2d(
        x, torch.from_numpy(cook("fold(c.weight,b,1e-05)", weights)), torch.from_numpy(cook("shift(b,1e-05)", weights))
    )
    torch.testing.assert_close(folded, norm(conv(x)), atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(cook("causal(3)", weights), [[0, -np.inf, -np.inf], [0, 0, -np.inf], [0, 0, 0]])
    assert tensor_names("fold(c.weight,b,1e-05)") == [
        "c.weight",
        "b.weight",
        "b.bias",
        "b.running_mean",
        "b.running_var",
    ]
    with pytest.raises(ModelError, match="twist"):
        cook("twist(c.weight)", weights)
    with pytest.raises(ModelError, match="absent"):
        cook("absent", weights)


@pytest.mark.skipif(not (BUILTIN_DIR / META).is_file(), reason="no built-in model in this checkout")
def test_builtin_graphs_are_in_step_with_the_weights():
    """The shipped graphs name the shipped weights file by its hash and are what an export would write today."""
    meta = GraphMeta.read(BUILTIN_DIR)
    weights = BUILTIN_DIR / meta.weights
    assert weights.parent == BUILTIN_DIR
    assert meta.sha256 == file_sha256(weights), "run: clipkit models export builtin"
    assert meta.fingerprint == Safetensors(weights).fingerprint
    from clipkit.models.export import _image_graph, _text_graph

    clip = load_clip("builtin", engine="torch")
    for tower, graph in (("image", _image_graph(clip)), ("text", _text_graph(clip, half=True))):
        assert (BUILTIN_DIR / f"{tower}.onnx").read_bytes() == graph.SerializeToString()
        assert meta.initializers[tower] == [t.name for t in graph.graph.initializer if t.data_location == 1]
    agree(load_clip("builtin", engine="onnx"), clip)
    assert json.loads((BUILTIN_DIR / META).read_text())["model"] == "builtin"
