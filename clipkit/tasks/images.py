"""Pictures to embeddings: decoding runs ahead of the model, order is kept, a bad file is told and passed over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from clipkit.errors import InputError
from clipkit.media.image import DEFAULT_MAX_PIXELS, open_image
from clipkit.media.prefetch import prefetch
from clipkit.results import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray
    from PIL import Image

    from clipkit.media.paths import Source
    from clipkit.models.clip import Clip


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture that is in memory already: its name in records, and the image."""

    name: str
    image: Image.Image


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How pictures are read and batched.

    Attributes:
        decode: `fast` lets large JPEGs be scaled while decoding, `exact` decodes every pixel.
        max_pixels: larger pictures are refused before decoding.
        batch_size: pictures a forward pass.
        workers: decoding threads; 0 decodes in the calling thread, None chooses by the machine.
    """

    decode: Literal["fast", "exact"] = "fast"
    max_pixels: int = DEFAULT_MAX_PIXELS
    batch_size: int = 32
    workers: int | None = None


def embed_images(
    inputs: Iterable[Source | Picture | Failure], clip: Clip, options: ImageOptions
) -> Iterator[tuple[Source | Picture, NDArray[np.float32]] | Failure]:
    """One outcome an input, in order: the source and its (D,) unit embedding, or the failure.

    At most two batches of crops are in memory, one filling while the other is computed, whatever the number of inputs.
    """
    pending: list[tuple[Source | Picture, NDArray[np.uint8]] | Failure] = []
    waiting = 0

    def crop(item: Source | Picture | Failure) -> NDArray[np.uint8] | Failure:
        if isinstance(item, Failure):
            return item
        if isinstance(item, Picture):
            return clip.preprocess.crop(item.image)
        image = open_image(item, decode=options.decode, min_side=min_side(clip), max_pixels=options.max_pixels)
        return clip.preprocess.crop(image)

    for item, cropped in prefetch(inputs, crop, workers=options.workers, ahead=options.batch_size):
        if isinstance(item, Failure):
            pending.append(item)
        elif isinstance(cropped, InputError):
            pending.append(Failure(item.name, cropped.kind, str(cropped)))
        elif not isinstance(cropped, Failure):
            pending.append((item, cropped))
            waiting += 1
        if waiting == options.batch_size or len(pending) >= 4 * options.batch_size or not waiting:
            yield from _flush(pending, clip)
            pending, waiting = [], 0
    yield from _flush(pending, clip)


def min_side(clip: Clip) -> int | None:
    """The smallest side a decoded picture must keep for this model's crop; None where scaling early would distort."""
    return max(clip.preprocess.size) if clip.preprocess.resize_mode == "shortest" else None


def _flush(
    pending: list[tuple[Source | Picture, NDArray[np.uint8]] | Failure], clip: Clip
) -> Iterator[tuple[Source | Picture, NDArray[np.float32]] | Failure]:
    crops = [item[1] for item in pending if not isinstance(item, Failure)]
    if crops:
        embeddings = iter(clip.encode_images(clip.preprocess.normalize(np.stack(crops))))
    for item in pending:
        yield item if isinstance(item, Failure) else (item[0], next(embeddings))
