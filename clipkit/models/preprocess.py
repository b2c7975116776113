"""open_clip's evaluation transform with Pillow and numpy alone, pixel for pixel, so embedding tasks need no torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image

from clipkit.errors import ModelError
from clipkit.models.clip import Preprocess

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

# A 1x10000 strip resized to its short side would be 500 megapixels; beyond this only the window that is kept is computed.
_MAX_INTERMEDIATE = 1 << 26


def resize_and_crop(image: Image.Image, preprocess: Preprocess) -> NDArray[np.uint8]:
    """An RGB image resized, cropped or padded as `preprocess` says: (H, W, 3) uint8.

    Equal to `open_clip.transform.image_transform_v2(cfg, is_train=False)` before its `ToTensor`, including torchvision's
    roundings: the long side is truncated for square targets, rounded for others, crops start at `round(excess / 2)`.
    """
    target_h, target_w = preprocess.size
    width, height = image.size
    resample = _resample(preprocess)
    if preprocess.resize_mode == "squash":
        return np.asarray(_resize(image, target_w, target_h, resample))
    if preprocess.resize_mode == "longest":
        ratio = max(height / target_h, width / target_w)
        resized = _resize(image, max(1, round(width / ratio)), max(1, round(height / ratio)), resample)
        return _centre(np.asarray(resized), target_h, target_w, preprocess.fill_color)
    if target_h == target_w:
        new_w, new_h = (
            (target_w, int(target_w * height / width))
            if width <= height
            else (int(target_h * width / height), target_h)
        )
    else:
        ratio = min(height / target_h, width / target_w)
        new_w, new_h = round(width / ratio), round(height / ratio)
    if new_w * new_h > _MAX_INTERMEDIATE:
        return _resize_window(image, (new_w, new_h), (target_w, target_h), resample)
    return _centre(np.asarray(_resize(image, new_w, new_h, resample)), target_h, target_w, 0)


def read_preprocess(model_cfg: Mapping[str, Any], preprocess_cfg: Mapping[str, Any]) -> Preprocess:
    """The `Preprocess` that open_clip would derive from a model's config (its `model_cfg` and `preprocess_cfg`).

    The size is the vision tower's `image_size`; the rest comes from `preprocess_cfg`, and OpenAI's values where absent.

    Raises:
        ModelError: a value that no transform is defined for.
    """
    vision = model_cfg.get("vision_cfg", {})
    size = vision.get("image_size") or preprocess_cfg.get("size") or 224
    return make_preprocess(preprocess_cfg, size)


def make_preprocess(preprocess_cfg: Mapping[str, Any], size: Any) -> Preprocess:
    """A checked `Preprocess` from open_clip's `preprocess_cfg` fields and a size (an int or (height, width)).

    Raises:
        ModelError: a value that no transform is defined for.
    """
    interpolation = preprocess_cfg.get("interpolation") or "bicubic"
    resize_mode = preprocess_cfg.get("resize_mode") or "shortest"
    if interpolation not in {"bicubic", "bilinear", "random"} or resize_mode not in {"shortest", "longest", "squash"}:
        raise ModelError(
            f"the model's preprocess_cfg asks for interpolation {interpolation!r} and resize_mode {resize_mode!r}, "
            "which open_clip does not define: correct open_clip_config.json"
        )
    return Preprocess(
        size=_pair(size),
        mean=_triple(preprocess_cfg.get("mean") or OPENAI_MEAN),
        std=_triple(preprocess_cfg.get("std") or OPENAI_STD),
        interpolation=cast("Any", interpolation),
        resize_mode=cast("Any", resize_mode),
        fill_color=int(preprocess_cfg.get("fill_color") or 0),
    )


def _resample(preprocess: Preprocess) -> Image.Resampling:
    # open_clip resizes to a non-square target with its helper's default, bicubic, whatever the config says.
    square = preprocess.size[0] == preprocess.size[1]
    if preprocess.interpolation == "bilinear" and (square or preprocess.resize_mode != "shortest"):
        return Image.Resampling.BILINEAR
    return Image.Resampling.BICUBIC


def _resize(image: Image.Image, width: int, height: int, resample: Image.Resampling) -> Image.Image:
    return image if image.size == (width, height) else image.resize((width, height), resample)


def _resize_window(
    image: Image.Image, full: tuple[int, int], target: tuple[int, int], resample: Image.Resampling
) -> NDArray[np.uint8]:
    """Only the centre window of a resize to `full` (width, height), for aspect ratios that would exhaust memory."""
    (full_w, full_h), (width, height) = full, target
    left, top = round((full_w - width) / 2.0), round((full_h - height) / 2.0)
    scale_x, scale_y = image.width / full_w, image.height / full_h
    box = (left * scale_x, top * scale_y, (left + width) * scale_x, (top + height) * scale_y)
    box = (box[0], box[1], min(box[2], image.width), min(box[3], image.height))
    return np.asarray(image.resize((width, height), resample, box=box))


def _centre(pixels: NDArray[np.uint8], height: int, width: int, fill: int) -> NDArray[np.uint8]:
    """Torchvision's CenterCrop: pad what is missing (the odd pixel goes right and below), then crop at round(excess / 2)."""
    missing_h, missing_w = max(0, height - pixels.shape[0]), max(0, width - pixels.shape[1])
    if missing_h or missing_w:
        pads = ((missing_h // 2, (missing_h + 1) // 2), (missing_w // 2, (missing_w + 1) // 2), (0, 0))
        pixels = np.pad(pixels, pads, constant_values=fill)
    top, left = round((pixels.shape[0] - height) / 2.0), round((pixels.shape[1] - width) / 2.0)
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def _pair(size: Any) -> tuple[int, int]:
    values = [int(size)] if isinstance(size, (int, float)) else [int(value) for value in size]
    return (values[0], values[-1])


def _triple(value: Any) -> tuple[float, float, float]:
    values = [float(value)] * 3 if isinstance(value, (int, float)) else [float(item) for item in value]
    return (values[0], values[1], values[2])
