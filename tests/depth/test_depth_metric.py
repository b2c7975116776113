"""The transformers backends on tiny random models: sizes, units, the field of view, and files that are refused."""

import json
import math

import numpy as np
import pytest
import torch

from clipkit.depth.upsample import depth_map
from clipkit.errors import ModelError, ModelUnavailableError
from clipkit.models import depth_metric
from clipkit.models.depth_metric import load_metric

transformers = pytest.importorskip("transformers")


def depth_anything(**changes):
    backbone = transformers.Dinov2Config(
        image_size=28,
        patch_size=14,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        out_indices=[1, 2],
        reshape_hidden_states=False,
    )
    settings = {"depth_estimation_type": "metric", "max_depth": 20, "reassemble_factors": [4, 2]}
    settings |= {"neck_hidden_sizes": [8, 8], "reassemble_hidden_size": 16, "fusion_hidden_size": 8}
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone, patch_size=14, head_hidden_size=4, **settings | changes
    )
    processor = transformers.DPTImageProcessor(
        size={"height": 56, "width": 56}, ensure_multiple_of=14, keep_aspect_ratio=True
    )
    return transformers.DepthAnythingForDepthEstimation(config), processor


def zoedepth():
    backbone = transformers.BeitConfig(
        image_size=32,
        patch_size=16,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        use_relative_position_bias=True,
        reshape_hidden_states=False,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = transformers.ZoeDepthConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        num_relative_features=4,
        bottleneck_features=8,
        bin_embedding_dim=8,
        num_attractors=[4, 4, 2, 1],
        bin_configurations=[{"n_bins": 8, "min_depth": 1e-3, "max_depth": 10.0, "name": "nyu"}],
    )
    processor = transformers.ZoeDepthImageProcessor(size={"height": 64, "width": 96}, ensure_multiple_of=32)
    return transformers.ZoeDepthForDepthEstimation(config), processor


def depth_pro():
    def encoder():
        return transformers.Dinov2Config(
            image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=1
        )

    config = transformers.DepthProConfig(
        patch_size=32,
        fusion_hidden_size=16,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[8, 8],
        scaled_images_ratios=[0.5, 1.0],
        scaled_images_overlap_ratios=[0.0, 0.5],
        scaled_images_feature_dims=[8, 8],
        use_fov_model=True,
        num_fov_head_layers=0,
        image_model_config=encoder(),
        patch_model_config=encoder(),
        fov_model_config=encoder(),
    )
    return transformers.DepthProForDepthEstimation(config), transformers.DepthProImageProcessor(
        size={"height": 64, "width": 64}
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One saved model a method, its weights pushed away from zero so that maps are not flat."""
    root = tmp_path_factory.mktemp("metric")
    torch.manual_seed(0)
    for name, make in (("depth-anything", depth_anything), ("zoedepth", zoedepth), ("depth-pro", depth_pro)):
        model, processor = make()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, (2 / parameter[0].numel()) ** 0.5)
        model.save_pretrained(root / name)
        processor.save_pretrained(root / name)
    return {path.name: str(path) for path in root.iterdir()}


def photo(height, width):
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, (x * y) % 256], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("method", ["depth-anything", "zoedepth", "depth-pro"])
@pytest.mark.parametrize("size", [(45, 61), (80, 30)])
def test_maps_have_the_photographs_size(folders, method, size):
    """Whatever the working size and padding inside, the map is float32 metres, one a pixel of the photograph."""
    estimator = load_metric(method, folders[method], "cpu", None)
    depth, _ = depth_map(photo(*size), estimator)
    assert depth.shape == size
    assert depth.dtype == np.float32
    assert np.isfinite(depth).all()
    assert depth.min() >= 0
    assert depth.max() > depth.min()
    assert estimator.metric
    assert estimator.id == f"{method}/{method}"
    assert len(estimator.weights_hash) == 12


def test_depth_anything_answers_in_metres(folders):
    """The head is `max_depth` times a sigmoid: with its last layer set to a known value, the metres are known."""
    estimator = load_metric("depth-anything", folders["depth-anything"], "cpu", None)
    with torch.no_grad():
        estimator._model.head.conv3.weight.zero_()
        estimator._model.head.conv3.bias.fill_(math.log(0.25 / 0.75))
    np.testing.assert_allclose(estimator.estimate(photo(40, 52)).depth, 20 * 0.25, rtol=1e-5)


def test_zoedepth_takes_its_padding_off(folders):
    """The network's map, enlarged to the padded picture and cut: as much as was added comes off again."""
    estimator = load_metric("zoedepth", folders["zoedepth"], "cpu", None)
    image = photo(45, 61)
    inputs = estimator._processor(images=[image], return_tensors="pt", input_data_format="channels_last")
    with torch.inference_mode():
        raw = estimator._model(**inputs).predicted_depth[None]
    rows, columns = int((45 / 2) ** 0.5 * 3), int((61 / 2) ** 0.5 * 3)
    whole = torch.nn.functional.interpolate(raw, (45 + 2 * rows, 61 + 2 * columns), mode="bicubic")
    expected = whole[0, 0, rows:-rows, columns:-columns].clamp(min=0).numpy()
    np.testing.assert_allclose(estimator.estimate(image).depth, expected, rtol=1e-4, atol=1e-5)


def test_depth_pro_turns_inverse_depth_into_metres(folders):
    """`d = f / (W c)` of the canonical inverse depth c, with the focal length of the field of view it saw."""
    estimator = load_metric("depth-pro", folders["depth-pro"], "cpu", None)
    image = photo(45, 61)
    inputs = estimator._processor(images=[image], return_tensors="pt", input_data_format="channels_last")
    with torch.inference_mode():
        out = estimator._model(**inputs)
    fov = float(out.field_of_view[0])
    focal = 0.5 * 61 / math.tan(math.radians(fov) / 2)
    inverse = torch.nn.functional.interpolate(out.predicted_depth[None], (45, 61), mode="bilinear")[0, 0].numpy()
    expected = 1 / np.clip(inverse * 61 / focal, 1e-4, 1e4)
    estimate = estimator.estimate(image)
    np.testing.assert_allclose(estimate.depth, expected, rtol=1e-3)
    assert estimate.fov == (pytest.approx(fov) if 0 < fov < 180 else None)


@pytest.mark.parametrize(("angle", "told"), [(41.5, 41.5), (-3.0, None), (200.0, None)])
def test_depth_pro_tells_a_field_of_view_that_can_be(folders, monkeypatch, angle, told):
    """The angle the model saw is passed on, and none where it is no angle of a pinhole."""
    estimator = load_metric("depth-pro", folders["depth-pro"], "cpu", None)
    forward = estimator._model.forward

    def seen(*args, **kwargs):
        outputs = forward(*args, **kwargs)
        outputs.field_of_view = torch.tensor([angle])
        return outputs

    monkeypatch.setattr(estimator._model, "forward", seen)
    assert estimator.estimate(photo(45, 61)).fov == (None if told is None else pytest.approx(told))


def test_loading_is_silent(folders, capfd, recwarn):
    """No progress bars and no warnings of the library reach the terminal."""
    image = photo(45, 61)
    image.setflags(write=False)  # as decoded pictures are
    load_metric("zoedepth", folders["zoedepth"], "cpu", None).estimate(image)
    out, err = capfd.readouterr()
    assert out == err == ""
    assert not recwarn.list


def test_mirror_averaging_is_off_unless_asked(folders):
    """Metric models see a picture once; `--flip` makes their maps turn with it."""
    estimator = load_metric("depth-anything", folders["depth-anything"], "cpu", None)
    image = photo(42, 56)
    mirrored = np.ascontiguousarray(image[:, ::-1])
    once, _ = depth_map(image, estimator)
    np.testing.assert_array_equal(once, estimator.estimate(image).depth)
    one, _ = depth_map(image, estimator, flip=True)
    other, _ = depth_map(mirrored, estimator, flip=True)
    np.testing.assert_allclose(one, other[:, ::-1], rtol=1e-4, atol=1e-5)
    assert np.abs(once - one).max() > 1e-6


def test_models_that_are_refused(folders, tmp_path, monkeypatch):
    """Relative models, another method's files, missing weights and models that are not here: one line and the way out."""
    model, processor = depth_anything(depth_estimation_type="relative")
    model.save_pretrained(tmp_path / "relative")
    processor.save_pretrained(tmp_path / "relative")
    with pytest.raises(ModelError, match="relative inverse depth"):
        load_metric("depth-anything", str(tmp_path / "relative"), "cpu", None)
    with pytest.raises(ModelError, match="take --method zoedepth"):
        load_metric("depth-pro", folders["zoedepth"], "cpu", None)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        load_metric("zoedepth", str(tmp_path / "bare"), "cpu", None)
    with pytest.raises(ModelUnavailableError, match="hf download apple/DepthPro-hf"):
        load_metric("depth-pro", None, "cpu", None)
    monkeypatch.setattr(depth_metric.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelUnavailableError, match=r"clipkit-vision\[hf\]"):
        load_metric("depth-pro", None, "cpu", None)


def test_weights_that_are_not_all_there(folders, tmp_path):
    """A file without some weights would be filled up with random numbers; it is an error instead."""
    from pathlib import Path

    from safetensors.torch import load_file, save_file

    source = Path(folders["depth-anything"])
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text((source / name).read_text(encoding="utf-8"), encoding="utf-8")
    state = load_file(source / "model.safetensors")
    state.pop("head.conv3.bias")
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"head\.conv3\.bias is missing"):
        load_metric("depth-anything", str(tmp_path), "cpu", None)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nobody"}), encoding="utf-8")
    with pytest.raises(ModelError, match="cannot load depth-anything"):
        load_metric("depth-anything", str(tmp_path), "cpu", None)
