"""The numpy preprocessing is open_clip's transform, pixel for pixel."""

import numpy as np
import pytest
from PIL import Image

from clipkit.errors import ModelError
from clipkit.models.clip import Preprocess
from clipkit.models.preprocess import make_preprocess, read_preprocess, resize_and_crop

MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
SIZES = [(1, 1), (2, 7), (31, 33), (32, 32), (33, 31), (61, 47), (64, 64), (101, 200), (257, 96), (640, 3)]


def picture(width, height, seed=0):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(1, height // 3 + 1), max(1, width // 3 + 1), 3), np.uint8)
    noisy = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.NEAREST)).copy()
    noisy ^= rng.integers(0, 8, noisy.shape, np.uint8)
    return Image.fromarray(noisy)


def reference(image, size, mode, interpolation, fill):
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from torchvision.transforms import Normalize, ToTensor

    cfg = PreprocessCfg(size=size, interpolation=interpolation, resize_mode=mode, fill_color=fill, mean=MEAN, std=STD)
    transform = image_transform_v2(cfg, is_train=False)
    crop = image
    for step in transform.transforms:
        if not isinstance(step, (ToTensor, Normalize)):
            crop = step(crop)
    return np.asarray(crop), transform(image).numpy()


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "random"])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [32, 33, (32, 48), (47, 31)], ids=str)
def test_equal_to_open_clip(size, mode, interpolation):
    """Every mode, over odd and even sizes, gives open_clip's pixels and its normalised tensor."""
    preprocess = make_preprocess(
        {"mean": MEAN, "std": STD, "interpolation": interpolation, "resize_mode": mode, "fill_color": 7}, size
    )
    for width, height in SIZES:
        image = picture(width, height)
        if (
            mode == "longest"
            and min(round(s / max(height / preprocess.size[0], width / preprocess.size[1])) for s in image.size) < 1
        ):
            continue  # open_clip fails on these; see test_thin_pictures
        crop, tensor = reference(image, size, mode, interpolation, 7)
        ours = preprocess.crop(image)
        assert ours.dtype == np.uint8
        np.testing.assert_array_equal(ours, crop, err_msg=f"{width}x{height}")
        np.testing.assert_allclose(preprocess.normalize(ours[None])[0], tensor, atol=2e-6)


def test_thin_pictures():
    """A strip thinner than open_clip can resize is padded, not refused."""
    preprocess = make_preprocess({"resize_mode": "longest", "fill_color": 9}, 32)
    crop = resize_and_crop(picture(640, 3), preprocess)
    assert crop.shape == (32, 32, 3)
    assert (crop[0] == 9).all()


def test_extreme_aspect_keeps_memory_small():
    """Beyond the size that is reasonable to hold, the centre window alone is resized, and it is the same picture."""
    from clipkit.models import preprocess as module

    plain = make_preprocess({}, 32)
    image = picture(400, 3, seed=4)
    whole = resize_and_crop(image, plain)
    limit = module._MAX_INTERMEDIATE
    try:
        module._MAX_INTERMEDIATE = 1
        window = resize_and_crop(image, plain)
    finally:
        module._MAX_INTERMEDIATE = limit
    assert np.abs(whole.astype(int) - window).max() <= 1
    assert resize_and_crop(Image.new("RGB", (1, 60000), "red"), plain).shape == (32, 32, 3)


def test_read_from_config():
    """The size is the vision tower's; absent values are OpenAI's; scalars are broadcast."""
    preprocess = read_preprocess({"vision_cfg": {"image_size": 64}}, {"size": 224, "mean": 0, "std": 1.0})
    assert preprocess == Preprocess((64, 64), (0.48145466, 0.4578275, 0.40821073), (1.0, 1.0, 1.0))
    assert read_preprocess({"vision_cfg": {"image_size": [24, 48]}}, {}).size == (24, 48)


def test_undefined_modes_are_refused():
    """A resize mode or interpolation nobody defined is a model error, not a guess."""
    with pytest.raises(ModelError, match="resize_mode 'stretch'"):
        make_preprocess({"resize_mode": "stretch"}, 32)
