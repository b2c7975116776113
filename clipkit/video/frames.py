"""Videos -> frame embeddings: decoded, cropped and encoded in chunks, with flat memory however long the video."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from clipkit.errors import InputError
from clipkit.media.video import PATIENCE, Decoder, read_frames
from clipkit.results import Failure
from clipkit.video.ahead import decode_ahead
from clipkit.video.sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray
    from PIL import Image

    from clipkit.media.paths import Source
    from clipkit.media.video import Frame, Plan, VideoInfo
    from clipkit.models.clip import Clip, Preprocess

    Crop = Callable[[Image.Image], NDArray[np.uint8]]

CHUNK = 32
"""Frames a forward pass. Chunks never span videos, so that an embedding does not depend on its neighbours."""


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """How videos are read.

    Attributes:
        sampling: which frames.
        decoder: see `clipkit.media.video.read_frames`.
        patience: seconds of decoding without a wanted frame after which a file is given up.
        workers: videos decoded at a time; None chooses by the machine, 0 decodes in the calling thread.
    """

    sampling: Sampling = field(default_factory=Sampling)
    decoder: Decoder = "auto"
    patience: float = PATIENCE
    workers: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class VideoFrames:
    """A video as the model sees it: `times` (N,) seconds ascending, `embeddings` (N, D) float32, not normalised."""

    duration: float
    rate: float
    times: NDArray[np.float64]
    embeddings: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class _Chunk:
    info: VideoInfo
    times: list[float]
    crops: NDArray[np.uint8]


def embed_videos(
    inputs: Iterable[Source | Failure],
    clip: Clip,
    options: VideoOptions,
    *,
    plan: Plan | None = None,
    crop: Crop | None = None,
) -> Iterator[tuple[Source, VideoFrames] | Failure]:
    """One outcome an input, in order; decoding runs ahead of the model.

    Args:
        inputs: from `clipkit.media.paths.expand`.
        clip: the model.
        options: how videos are read.
        plan: chooses the times; the options' sampling by default.
        crop: a PIL image -> (H, W, 3) uint8; the model's own preprocessing by default.
    """
    crop = crop or clip.preprocess.crop

    def pieces(item: Source | Failure) -> Iterator[_Chunk]:
        if isinstance(item, Failure):
            return iter(())
        return _chunks(item, options, plan, crop)

    for item, chunks in decode_ahead(inputs, pieces, workers=options.workers):
        if isinstance(item, Failure):
            yield item
            continue
        try:
            yield item, _encoded(chunks, clip)
        except InputError as error:
            yield Failure(item.name, error.kind, str(error))


def scale_and_crop(preprocess: Preprocess, scale: float = 256 / 224) -> Crop:
    """ActionCLIP's test crop: resize the short side to 256 for a 224 model (in proportion for others), crop the middle."""
    height, width = preprocess.size
    larger = replace(preprocess, size=(int(height * scale), int(width * scale)), resize_mode="shortest")
    top, left = (larger.size[0] - height) // 2, (larger.size[1] - width) // 2

    def crop(image: Image.Image) -> NDArray[np.uint8]:
        return np.ascontiguousarray(larger.crop(image)[top : top + height, left : left + width])

    return crop


def _chunks(source: Source, options: VideoOptions, plan: Plan | None, crop: Crop) -> Iterator[_Chunk]:
    from PIL import Image

    seen: list[VideoInfo] = []

    def told(info: VideoInfo) -> list[float]:
        seen[:] = [info]
        return list((plan or options.sampling.times)(info))

    times: list[float] = []
    crops: list[NDArray[np.uint8]] = []
    last: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None
    for frame in _frames(source, options, told):
        if last is None or last[0] is not frame.pixels:
            last = (frame.pixels, crop(Image.fromarray(frame.pixels)))
        times.append(frame.time)
        crops.append(last[1])
        if len(crops) == CHUNK:
            yield _Chunk(seen[0], times, np.stack(crops))
            times, crops = [], []
    if crops:
        yield _Chunk(seen[0], times, np.stack(crops))


def _frames(source: Source, options: VideoOptions, plan: Plan) -> Iterator[Frame]:
    where = source.data if source.path is None else source.path
    assert where is not None
    if options.sampling.method == "clip4clip-index":
        from clipkit.video.legacy import read_by_index

        return read_by_index(where, plan, options.sampling)
    return read_frames(where, plan, decoder=options.decoder, patience=options.patience)


def _encoded(chunks: Iterator[_Chunk], clip: Clip) -> VideoFrames:
    times: list[float] = []
    embeddings = []
    info: VideoInfo | None = None
    for chunk in chunks:
        info = chunk.info
        times += chunk.times
        embeddings.append(clip.encode_images(clip.preprocess.normalize(chunk.crops), normalize=False))
    if info is None:
        raise InputError("corrupt", "it gave no frame")
    return VideoFrames(info.duration, info.rate, np.asarray(times, np.float64), np.concatenate(embeddings))
