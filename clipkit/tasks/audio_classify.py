"""`audio-classify`: name the sounds in files and long recordings by their nearness to label texts (or to pictures)."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from clipkit.audio.segments import Segment, merge_windows
from clipkit.errors import InputError, UsageError
from clipkit.media import audio
from clipkit.media.prefetch import prefetch
from clipkit.prompts.ensemble import ClassVectors, Reduction, class_vectors
from clipkit.prompts.labels import Label
from clipkit.prompts.scores import Scoring, class_scores
from clipkit.results import Failure, Prediction, header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from clipkit.audio.model import AudioModel
    from clipkit.media.paths import Source
    from clipkit.models.clip import Clip

TASK = "audio-classify"
NEUTRAL = Label("sound", ("sound",))
BATCH = 8
"""Windows a forward pass, and windows decoded ahead of each file."""


@dataclass(frozen=True, slots=True)
class AudioClassifyOptions:
    """What to ask of each recording.

    Attributes:
        labels: the classes.
        templates: prompt templates with `{}`; None takes those of the model's authors.
        reduction: how a label's prompts become one score.
        scoring: `softmax` (one of the labels holds), `sigmoid` (each for itself), `cosine` (plain).
        top_k: at most this many predictions; None keeps all.
        threshold: predictions below it are dropped.
        window: seconds of a window that gets an answer of its own; None answers for the recording as a whole.
        hop: seconds from one window's start to the next; None for a window's length.
        silence: windows quieter than this many dB of full scale name nothing and do not count.
        workers: decoding threads; 0 decodes in the calling thread, None chooses by the machine.
    """

    labels: tuple[Label, ...]
    templates: tuple[str, ...] | None = None
    reduction: Reduction = "embed"
    scoring: Scoring = "softmax"
    top_k: int | None = 5
    threshold: float | None = None
    window: float | None = None
    hop: float | None = None
    silence: float = -80.0
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class WindowAnswer:
    """What is heard between `start` and `end` seconds: predictions, best first; none for silence."""

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
class AudioClassification:
    """What is heard in one recording.

    `predictions` are the mean of the windows' scores. With windows asked for, `windows` holds each answer and `segments`
    the stretches in which one label stays the best.
    """

    path: str
    model: str
    weights: str
    seconds: float
    predictions: tuple[Prediction, ...] = field(default=())
    windows: tuple[WindowAnswer, ...] | None = None
    segments: tuple[Segment, ...] | None = None

    columns: ClassVar[tuple[str, ...]] = ("path", "start", "end", "rank", "label", "score")

    @property
    def label(self) -> str | None:
        """The best label, or None for silence and where no label passed the threshold."""
        return self.predictions[0].label if self.predictions else None

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        record = header(TASK, self.path, self.model, self.weights) | {
            "seconds": round(self.seconds, 3),
            "predictions": [p.record() for p in self.predictions],
        }
        if self.windows is not None:
            record["windows"] = [window.record() for window in self.windows]
            record["segments"] = [segment.record() for segment in self.segments or ()]
        return record

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """One row a prediction of each window, or of the whole; one row with empty cells where there is none."""
        answers = self.windows
        if answers is None:
            answers = (WindowAnswer(0.0, self.seconds, self.predictions),)
        for answer in answers:
            place = (self.path, round(answer.start, 3), round(answer.end, 3))
            if not answer.predictions:
                yield (*place, "", "", "")
            for rank, p in enumerate(answer.predictions, 1):
                yield (*place, rank, p.label, round(p.score, 6))


def run(
    inputs: Iterable[Source | Failure],
    options: AudioClassifyOptions,
    model: AudioModel,
    pictures: Iterable[Source | Failure] | None = None,
) -> Iterator[AudioClassification | Failure]:
    """One outcome an input, in order. Memory holds a few windows of each recording that is being read, however long.

    Args:
        inputs: recordings.
        options: what to ask; with `pictures`, `labels` are not looked at.
        model: AudioCLIP, CLAP or the built-in tower.
        pictures: rank these against each recording in the labels' place; each label is then a picture's name. A bad
            picture is a failure before the first recording's outcome.

    Raises:
        UsageError: the model knows no pictures, or none of them can be read.
    """
    classes = None
    if pictures is not None:
        classes, failures = picture_classes(pictures, model)
        yield from failures
    listener = Listener(model, options, classes)

    def begin(item: Source | Failure) -> tuple[list[audio.AudioWindow], Iterator[audio.AudioWindow]] | Failure:
        """The first windows, decoded in a thread; most files have no more."""
        if isinstance(item, Failure):
            return item
        rest = listener.windows(item)
        return list(islice(rest, BATCH)), rest

    for item, begun in prefetch(inputs, begin, workers=options.workers):
        if isinstance(item, Failure):
            yield item.within(TASK, model.id, model.weights_hash)
            continue
        try:
            if isinstance(begun, InputError):
                raise begun
            assert not isinstance(begun, Failure)
            yield listener.answer(item.name, *begun)
        except InputError as error:
            yield Failure(item.name, error.kind, str(error), TASK, model.id, model.weights_hash)


class Listener:
    """A model with its class vectors ready, and the answers they give."""

    def __init__(self, model: AudioModel, options: AudioClassifyOptions, pictures: ClassVectors | None = None) -> None:
        """Encode the class vectors, or find them in the cache; `pictures` take their place."""
        self.model, self.options = model, options
        self.scale = model.logit_scale if pictures is None else model.image_scale
        # of a Clip, the ensemble asks for no more than an AudioModel has
        text = cast("Clip", model)
        templates = options.templates or model.templates
        self.classes = pictures or class_vectors(text, options.labels, templates, reduction=options.reduction)
        self.neutral = None
        if options.scoring == "sigmoid":
            self.neutral = class_vectors(text, (NEUTRAL,), templates).vectors[0, 0]

    def windows(self, source: Source) -> Iterator[audio.AudioWindow]:
        """The recording in the windows asked for, else in the model's own."""
        window = self.options.window or self.model.seconds
        data = source.path if source.data is None else source.data
        assert data is not None
        return audio.windows(data, self.model.rate, window, self.options.hop or window)

    def scores(self, windows: list[audio.AudioWindow]) -> NDArray[np.float32]:
        """(N, C) scores of N windows."""
        return class_scores(
            self.model.encode_audio([window.samples for window in windows]),
            self.classes,
            scoring=self.options.scoring,
            logit_scale=self.scale,
            neutral=self.neutral,
        )

    def answer(
        self, name: str, first: list[audio.AudioWindow], rest: Iterator[audio.AudioWindow]
    ) -> AudioClassification:
        """Listen to a recording to its end.

        Raises:
            InputError: it is damaged further on.
        """
        total = np.zeros(len(self.classes.labels))
        heard, end = 0, 0.0
        answers: list[WindowAnswer] = []
        batch = first
        while batch:
            loud = [window for window in batch if audio.level_db(window.samples) >= self.options.silence]
            found = dict(zip(map(id, loud), self.scores(loud) if loud else (), strict=True))
            for window in batch:
                scores = found.get(id(window))
                end = max(end, window.end)
                if scores is not None:
                    total += scores
                    heard += 1
                if self.options.window is not None:
                    answers.append(WindowAnswer(window.start, window.end, self.predictions(scores)))
            batch = list(islice(rest, BATCH))
        predictions = self.predictions(total / heard if heard else None)
        if self.options.window is None:
            return AudioClassification(name, self.model.id, self.model.weights_hash, end, predictions)
        segments = merge_windows((a.start, a.end, a.predictions[0] if a.predictions else None) for a in answers)
        return AudioClassification(
            name, self.model.id, self.model.weights_hash, end, predictions, tuple(answers), tuple(segments)
        )

    def predictions(self, scores: NDArray[Any] | None) -> tuple[Prediction, ...]:
        """(C,) scores -> predictions, best first; equal scores keep the order of the labels; nothing for silence."""
        if scores is None:
            return ()
        order = np.argsort(-scores, kind="stable")[: self.options.top_k]
        names, threshold = self.classes.names, self.options.threshold
        return tuple(
            Prediction(names[i], float(scores[i])) for i in order if threshold is None or scores[i] >= threshold
        )


def picture_classes(pictures: Iterable[Source | Failure], model: AudioModel) -> tuple[ClassVectors, list[Failure]]:
    """Pictures as classes, each named by its file, and those that cannot be read.

    Raises:
        UsageError: the model knows no pictures, or none of them can be read.
    """
    from clipkit.tasks.images import ImageOptions, embed_images

    if model.clip is None:
        raise UsageError(f"{model.id} knows no pictures; --images goes with --method builtin or audioclip")
    labels, vectors, failures = [], [], []
    for outcome in embed_images(pictures, model.clip, ImageOptions()):
        if isinstance(outcome, Failure):
            failures.append(outcome.within(TASK, model.id, model.weights_hash))
        else:
            labels.append(Label(outcome[0].name, (outcome[0].name,)))
            vectors.append(outcome[1])
    if not vectors:
        raise UsageError("none of the pictures can be read" if failures else "no pictures to rank")
    stacked = np.stack(vectors).astype(np.float32)[:, None]
    return ClassVectors(tuple(labels), stacked, np.arange(len(labels)), "embed"), failures
