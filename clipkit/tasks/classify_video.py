"""`classify-video`: name the action in a video, as ActionCLIP does (Wang et al. 2021), whole or window by window."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

from clipkit.audio.segments import Segment, merge_windows
from clipkit.prompts.ensemble import ClassVectors, Reduction, class_vectors
from clipkit.prompts.scores import class_scores
from clipkit.results import Failure, Prediction, header
from clipkit.video.frames import VideoFrames, VideoOptions, embed_videos, scale_and_crop
from clipkit.video.pooling import plain_mean
from clipkit.video.sampling import segment_centres, windows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from clipkit.media.paths import Source
    from clipkit.media.video import VideoInfo
    from clipkit.models.clip import Clip
    from clipkit.prompts.labels import Label

TASK = "classify-video"

SEGMENTS = 8
"""Frames a video, or a window of it, is judged by (the paper's 8-frame models)."""

TEMPLATES = (
    "a photo of action {}",
    "a picture of action {}",
    "Human action of {}",
    "{}, an action",
    "{} this is an action",
    "{}, a video of action",
    "Playing action of {}",
    "{}",
    "Playing a kind of action, {}",
    "Doing a kind of action, {}",
    "Look, the human is {}",
    "Can you recognize the action of {}?",
    "Video classification of {}",
    "A video of {}",
    "The man is {}",
    "The woman is {}",
)
"""ActionCLIP's 16 prompts (section 3.2; the authors' `text_prompt`)."""


class Fusion(Protocol):
    """What makes one vector of frames in time order."""

    @property
    def logit_scale(self) -> float | None:
        """The multiplier of cosines it was trained with; None for the model's own."""

    def fuse(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """(W, T, D) frame embeddings, not normalised -> (W, D) unit vectors."""


class MeanFusion:
    """The plain mean over time of frames that are not normalised; needs no weights and no torch."""

    logit_scale: float | None = None

    def fuse(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `clipkit.video.pooling.plain_mean`."""
        return plain_mean(frames)


@dataclass(frozen=True, slots=True)
class ClassifyVideoOptions:
    """What to ask of each video.

    Attributes:
        labels: the classes.
        templates: prompts with `{}`; ActionCLIP's 16 by default.
        reduction: how a label's prompts become one score; ActionCLIP averages probabilities.
        scoring: `softmax` (one of the labels holds) or `cosine` (plain).
        top_k: at most this many predictions; None keeps all.
        threshold: predictions below it are dropped.
        frames: frames a video or a window is judged by, at the middles of so many equal parts.
        window: seconds of a window that gets an answer of its own; None answers for the video as a whole.
        hop: seconds from one window's start to the next; None for a window's length.
        video: how videos are read; its sampling is not looked at.
    """

    labels: tuple[Label, ...]
    templates: tuple[str, ...] = TEMPLATES
    reduction: Reduction = "prob"
    scoring: Literal["softmax", "cosine"] = "softmax"
    top_k: int | None = 5
    threshold: float | None = None
    frames: int = SEGMENTS
    window: float | None = None
    hop: float | None = None
    video: VideoOptions = field(default_factory=VideoOptions)


@dataclass(frozen=True, slots=True)
class WindowAnswer:
    """What happens between `start` and `end` seconds: predictions, best first."""

    start: float
    end: float
    predictions: tuple[Prediction, ...]

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "predictions": [p.record() for p in self.predictions],
        }


@dataclass(frozen=True, slots=True)
class VideoClassification:
    """What happens in one video.

    With windows asked for, `windows` holds each answer, `segments` the stretches in which one label stays the best, and
    `predictions` are the mean of the windows' scores.
    """

    path: str
    model: str
    weights: str
    seconds: float
    predictions: tuple[Prediction, ...] = field(default=())
    windows: tuple[WindowAnswer, ...] | None = None
    segments: tuple[Segment, ...] | None = None
    task: str = TASK

    columns: ClassVar[tuple[str, ...]] = ("path", "start", "end", "rank", "label", "score")

    @property
    def label(self) -> str | None:
        """The best label, or None where no label passed the threshold."""
        return self.predictions[0].label if self.predictions else None

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        record = header(self.task, self.path, self.model, self.weights) | {
            "seconds": round(self.seconds, 3),
            "predictions": [p.record() for p in self.predictions],
        }
        if self.windows is not None:
            record["windows"] = [window.record() for window in self.windows]
            record["segments"] = [segment.record() for segment in self.segments or ()]
        return record

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """One row a prediction of each window, or of the whole; one row with empty cells where there is none."""
        whole = (WindowAnswer(0.0, self.seconds, self.predictions),)
        for answer in whole if self.windows is None else self.windows:
            place = (self.path, round(answer.start, 3), round(answer.end, 3))
            if not answer.predictions:
                yield (*place, "", "", "")
            for rank, p in enumerate(answer.predictions, 1):
                yield (*place, rank, p.label, round(p.score, 6))


def run(
    inputs: Iterable[Source | Failure], options: ClassifyVideoOptions, clip: Clip, fusion: Fusion | None = None
) -> Iterator[VideoClassification | Failure]:
    """One outcome an input, in order."""
    judge = Judge(clip, options, fusion or MeanFusion())
    crop = scale_and_crop(clip.preprocess)
    for outcome in embed_videos(inputs, clip, options.video, plan=judge.plan, crop=crop):
        if isinstance(outcome, Failure):
            yield outcome.within(TASK, clip.id, clip.weights_hash)
        else:
            yield judge.answer(outcome[0].name, outcome[1])


class Judge:
    """Class vectors ready for one model, and the answers they give."""

    def __init__(self, clip: Clip, options: ClassifyVideoOptions, fusion: Fusion) -> None:
        """Encode the class vectors, or find them in the cache."""
        self.clip, self.options, self.fusion = clip, options, fusion
        self.classes: ClassVectors = class_vectors(clip, options.labels, options.templates, reduction=options.reduction)

    def plan(self, info: VideoInfo) -> list[float]:
        """The times to look at, each once even where windows overlap."""
        return [float(t) for t in self._union(self._times(info.duration, info.rate))]

    def answer(self, name: str, video: VideoFrames) -> VideoClassification:
        """The whole video's answer, and the windows' where they are asked for."""
        times = self._times(video.duration, video.rate)
        rows = np.searchsorted(self._union(times), np.stack(times))
        scores = self.scores(video.embeddings[rows])
        told = (name, self.clip.id, self.clip.weights_hash, video.duration, self.predictions(scores.mean(axis=0)))
        if self.options.window is None:
            return VideoClassification(*told)
        answers = tuple(
            WindowAnswer(start, end, self.predictions(row))
            for (start, end), row in zip(self._parts(video.duration), scores, strict=True)
        )
        segments = merge_windows((a.start, a.end, a.predictions[0] if a.predictions else None) for a in answers)
        return VideoClassification(*told, answers, tuple(segments))

    def scores(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """(W, T, D) frames of W windows -> (W, C) scores."""
        scale = self.fusion.logit_scale
        return class_scores(
            self.fusion.fuse(frames),
            self.classes,
            scoring=self.options.scoring,
            logit_scale=self.clip.logit_scale if scale is None else scale,
        )

    def predictions(self, scores: NDArray[np.float32]) -> tuple[Prediction, ...]:
        """(C,) scores -> predictions, best first; equal scores keep the order of the labels."""
        order = np.argsort(-scores, kind="stable")[: self.options.top_k]
        names, threshold = self.classes.names, self.options.threshold
        return tuple(
            Prediction(names[i], float(scores[i])) for i in order if threshold is None or scores[i] >= threshold
        )

    def _parts(self, duration: float) -> list[tuple[float, float]]:
        window = self.options.window
        return [(0.0, duration)] if window is None else windows(duration, window, self.options.hop or window)

    def _times(self, duration: float, rate: float) -> list[list[float]]:
        """The times of each window's frames."""
        return [segment_centres(start, end, self.options.frames, rate) for start, end in self._parts(duration)]

    @staticmethod
    def _union(times: list[list[float]]) -> NDArray[np.float64]:
        return np.unique(np.concatenate(times))
