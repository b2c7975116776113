"""Dense CLIP in one call: an image in, patch features or class maps out. Segmentation, detection and depth use it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from clipkit.dense import methods
from clipkit.models.clip import Clip

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


MAX_SIDE = 2048


class DenseClip(Clip, Protocol):
    """What dense features need of a model: the torch engine's `Clip` has it."""

    @property
    def model(self) -> Any:
        """The open_clip module; its `visual` is the image tower."""

    @property
    def torch_device(self) -> Any:
        """Where the module lives."""


@dataclass(frozen=True, slots=True)
class DenseOptions:
    """How patch tokens are made. None takes the method's (for ResNets: the tower's) own value.

    `size` is the working image's short side in pixels (its long side is at most 2048), `window` 0 is the whole image
    at once, `flip` averages with the mirror image (which makes the result turn with the image exactly), `alpha` is
    PEARL's share of key-key similarity, `sigma` NACLIP's reach in patches.
    """

    method: str = "auto"
    size: int | None = None
    window: int | None = None
    stride: int | None = None
    flip: bool = False
    alpha: float = 0.08
    sigma: float = 5.0


@dataclass(frozen=True, slots=True)
class Frame:
    """Everything settled for one model: the method, the window, the pixels a patch covers."""

    method: methods.Method
    tower: methods.Tower
    size: int
    window: int
    stride: int
    patch: int


def settle(clip: DenseClip, options: DenseOptions) -> Frame:
    """Method and sizes for this model.

    Raises:
        ModelError: the tower has no patch tokens, or the method does not fit it.
    """
    visual = clip.model.visual
    method = methods.resolve(visual, options.method, clip.id)
    kind = methods.tower(visual)
    assert kind is not None
    if kind == "vit":
        patch = int(visual.patch_size[0])
        size, window, stride = method.size, method.window, method.stride
    else:
        patch = 32
        native = int(clip.preprocess.size[0])
        size, window, stride = RESNET_ZOOM * native, 0, native
    window = window if options.window is None else options.window
    return Frame(
        method=method,
        tower=kind,
        size=options.size or size,
        window=0 if window == 0 else max(window // patch, 1) * patch,
        stride=max(options.stride or (stride if options.window is None else window // 2), 1),
        patch=patch,
    )


# ResNets answer once every 32 pixels and may have been trained on small images: at twice the trained side there are four
# times the cells, and objects are still of a size that was seen. Chosen by mIoU (docs/segment.md).
RESNET_ZOOM = 2


def dense_features(
    clip: DenseClip,
    image: NDArray[np.uint8],
    *,
    method: str = "auto",
    size: int | None = None,
    window: int | None = None,
    stride: int | None = None,
    flip: bool = False,
) -> NDArray[np.float32]:
    """Patch features of one image in the joint space: their products with text vectors are cosines.

    Args:
        clip: a model of the torch engine.
        image: `(H, W, 3)` RGB uint8, any size.
        method: `auto` or a key of `clipkit.dense.methods.METHODS`.
        size: short side of the working image, pixels.
        window: side of the sliding window, pixels, rounded down to whole patches; 0 for none.
        stride: step of the window, pixels, rounded down to whole patches.
        flip: average with the mirror image.

    Returns:
        `(h, w, D)` float32, L2-normalised; cell (i, j) covers the same share of the image as pixel (i, j) would in a
        picture of h x w.

    Raises:
        ModelError: the tower has no patch tokens, or the method does not fit it.
    """
    import torch
    from torch.nn import functional

    from clipkit.dense.windows import average, lay

    options = DenseOptions(method=method, size=size, window=window, stride=stride, flip=flip)
    frame = settle(clip, options)
    aligned = replace(frame, stride=max(frame.stride // frame.patch, 1) * frame.patch)
    with torch.inference_mode():
        pixels = working_pixels(clip, image, aligned, whole_patches=True)
        windows = lay(pixels.shape[1], pixels.shape[2], aligned.window, aligned.stride)

        def encode(x: Tensor) -> Tensor:
            return window_tokens(clip, x, aligned, options).permute(0, 3, 1, 2)

        tokens = average(pixels, windows, encode, cell=aligned.patch)
        if flip:
            tokens = (tokens + average(pixels.flip(2), windows, encode, cell=aligned.patch).flip(2)) / 2
        return functional.normalize(tokens.permute(1, 2, 0), dim=-1).cpu().numpy()


def dense_cosines(
    clip: DenseClip, image: NDArray[np.uint8], vectors: NDArray[np.float32], options: DenseOptions
) -> Tensor:
    """Cosines of every working pixel with every text vector, as the methods' authors stitch them.

    Each window's patch cosines are brought to the window's pixels bilinearly and averaged where windows overlap.

    Args:
        clip: a model of the torch engine.
        image: `(H, W, 3)` RGB uint8.
        vectors: `(Q, D)`, L2-normalised.
        options: method and frame.

    Returns:
        The cosines `(Q, h, w)` at the working image's size, torch float32.

    Raises:
        ModelError: the tower has no patch tokens, or the method does not fit it.
    """
    import torch

    from clipkit.dense.windows import average, lay

    frame = settle(clip, options)
    with torch.inference_mode():
        pixels = working_pixels(clip, image, frame)
        text = torch.from_numpy(np.ascontiguousarray(vectors, np.float32)).to(clip.torch_device)
        windows = lay(pixels.shape[1], pixels.shape[2], frame.window, frame.stride)

        def encode(x: Tensor) -> Tensor:
            return (window_tokens(clip, x, frame, options) @ text.T).permute(0, 3, 1, 2)

        cosines = average(pixels, windows, encode)
        if options.flip:
            cosines = (cosines + average(pixels.flip(2), windows, encode).flip(2)) / 2
        return cosines


def window_tokens(clip: DenseClip, pixels: Tensor, frame: Frame, options: DenseOptions) -> Tensor:
    """Patch tokens of equally large windows `(N, 3, H, W)`: `(N, h, w, D)` float32, L2-normalised."""
    from torch.nn import functional

    from clipkit.dense import resnet, vit

    visual = clip.model.visual
    tokens_of = vit.patch_tokens if frame.tower == "vit" else resnet.patch_tokens
    pixels = pixels.to(visual.conv1.weight.dtype)
    tokens = tokens_of(visual, pixels, frame.method.name, alpha=options.alpha, sigma=options.sigma)
    return functional.normalize(tokens.float(), dim=-1)


def working_size(
    height: int, width: int, *, size: int, window: int, patch: int, whole_patches: bool = False
) -> tuple[int, int]:
    """The working image's height and width: short side `size`, long side at most 2048.

    Sides that one window covers are rounded to whole patches (all sides with `whole_patches`), so that no border
    pixel goes unseen; no side is less than one patch.
    """
    scale = min(size / min(height, width), MAX_SIDE / max(height, width))

    def side(length: int) -> int:
        scaled = max(round(length * scale), 1)
        if whole_patches or window == 0 or scaled <= window:
            scaled = max(round(scaled / patch), 1) * patch
        return scaled

    return side(height), side(width)


def working_pixels(clip: DenseClip, image: NDArray[np.uint8], frame: Frame, *, whole_patches: bool = False) -> Tensor:
    """The image at its working size, normalised by the model's mean and deviation: `(3, h, w)` on its device."""
    import torch

    size = working_size(
        image.shape[0],
        image.shape[1],
        size=frame.size,
        window=frame.window,
        patch=frame.patch,
        whole_patches=whole_patches,
    )
    normalized = clip.preprocess.normalize(resize(image, size)[None])[0]
    return torch.from_numpy(normalized).to(clip.torch_device)


def resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """An `(H, W, 3)` image brought to `size` (height, width) bilinearly, smoothed where it shrinks."""
    from PIL import Image

    resized = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(resized)
