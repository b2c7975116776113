"""The task: one outcome a recording, the same for every format, windows with times, bad files as one line."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from sound_files import RATE, encode, tone

from clipkit.errors import UsageError
from clipkit.media.paths import Source
from clipkit.prompts.ensemble import ClassVectors
from clipkit.prompts.labels import Label, load_labels
from clipkit.results import Failure
from clipkit.tasks.audio_classify import AudioClassifyOptions, Listener, run

PITCHES = {"low": 300.0, "mid": 800.0, "high": 2000.0}


class Ear:
    """Hears pitch: the embedding is the share of power in three bands, the text vectors are the bands."""

    id = "ear"
    weights_hash = "0" * 12
    rate = RATE
    seconds = 2.0
    templates = ("a {} sound",)
    logit_scale = 10.0
    image_scale = 5.0
    clip = None

    def __init__(self):
        self.heard = []
        self.text_key = f"ear-{id(self)}"

    def encode_audio(self, clips):
        out = []
        for clip in clips:
            self.heard.append(len(clip))
            power = np.abs(np.fft.rfft(clip, 16_000)) ** 2
            bands = [power[a:b].sum() for a, b in ((100, 500), (500, 1200), (1200, 4000))]
            out.append(np.sqrt(bands) / max(np.linalg.norm(np.sqrt(bands)), 1e-9))
        return np.array(out, np.float32).reshape(-1, 3)

    def encode_texts(self, texts, *, normalize=True):
        names = list(PITCHES)
        return np.array([[float(name in text) for name in names] for text in texts], np.float32)


def options(**changes):
    return AudioClassifyOptions(labels=load_labels("low,mid,high"), **changes)


def ask(*paths, model=None, **changes):
    sources = [p if isinstance(p, (Source, Failure)) else Source(str(p), Path(p)) for p in paths]
    return list(run(sources, options(**changes), model or Ear()))


def test_names_the_sound(write):
    """The label of the pitch that sounds, with softmax scores that sum to one."""
    (answer,) = ask(write("a.wav", tone(1.0, hertz=800)))
    assert answer.label == "mid"
    assert sum(p.score for p in answer.predictions) == pytest.approx(1)
    assert (answer.model, answer.weights, answer.seconds) == ("ear", "0" * 12, 1.0)


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.mp3", "a.m4a", "a.mkv"])
def test_formats_answer_alike(write, name):
    """The same sound as WAV and in another format: the same label, scores within 0.02."""
    sound = tone(3.0, 48_000, hertz=2000) + tone(3.0, 48_000, hertz=300, level=0.2)
    wav, other = ask(write("a.wav", sound, 48_000), write(name, sound, 48_000, picture=name == "a.mkv"))
    assert wav.label == other.label == "high"
    by_label = {p.label: p.score for p in other.predictions}
    assert all(abs(by_label[p.label] - p.score) < 0.02 for p in wav.predictions)


def test_the_whole_is_the_mean_of_its_windows(write):
    """Without windows asked for, the scores are the mean over the model's own windows."""
    path = write("a.wav", np.concatenate([tone(2, hertz=300), tone(4, hertz=2000)]))
    (whole,) = ask(path)
    (windowed,) = ask(path, window=2.0)
    assert [w.predictions[0].label for w in windowed.windows] == ["low", "high", "high"]
    assert whole.predictions == windowed.predictions
    for p in whole.predictions:
        parts = [q.score for w in windowed.windows for q in w.predictions if q.label == p.label]
        assert p.score == pytest.approx(np.mean(parts), abs=1e-6)
    assert whole.windows is None


def test_windows_have_times_and_segments(write):
    """Start and end of each window, and neighbours of one label joined."""
    path = write("a.wav", np.concatenate([tone(4, hertz=300), tone(3, hertz=2000)]))
    (answer,) = ask(path, window=1.0, hop=1.0, top_k=1)
    record = json.loads(json.dumps(answer.record()))
    assert [(w["start"], w["end"]) for w in record["windows"]] == [(i, i + 1) for i in range(7)]
    assert [(s["start"], s["end"], s["label"]) for s in record["segments"]] == [(0, 4, "low"), (4, 7, "high")]
    assert {"schema", "task", "path", "model", "weights", "seconds", "predictions"} <= record.keys()
    assert record["task"] == "audio-classify"
    rows = list(answer.rows())
    assert len(rows) == 7
    assert all(len(row) == len(answer.columns) for row in rows)
    assert rows[4][1:5] == (4.0, 5.0, 1, "high")


def test_silence_names_nothing(write):
    """A silent recording has no predictions; silent windows do not count in the mean."""
    silent, partly = ask(
        write("a.wav", np.zeros(RATE * 4)), write("b.wav", np.concatenate([np.zeros(RATE * 4), tone(4, hertz=800)]))
    )
    assert silent.predictions == ()
    assert silent.label is None
    assert list(silent.rows()) == [(silent.path, 0.0, 4.0, "", "", "")]
    assert partly.predictions == ask(write("c.wav", tone(4, hertz=800)))[0].predictions
    (windowed,) = ask(partly.path, window=2.0)
    assert [bool(w.predictions) for w in windowed.windows] == [False, False, True, True]


def test_top_k_and_threshold(write):
    """At most k predictions, none below the threshold; cosine and sigmoid scores are per label."""
    path = write("a.wav", tone(1, hertz=800))
    assert len(ask(path, top_k=1)[0].predictions) == 1
    assert [p.label for p in ask(path, threshold=0.5)[0].predictions] == ["mid"]
    cosine = {p.label: p.score for p in ask(path, scoring="cosine")[0].predictions}
    assert cosine["mid"] == pytest.approx(1, abs=1e-3)
    sigmoid = {p.label: p.score for p in ask(path, scoring="sigmoid")[0].predictions}
    assert sigmoid["mid"] == pytest.approx(1 / (1 + np.exp(-10)), abs=1e-3)


def test_templates_default_to_the_authors(write):
    """The model's own prompts are used unless others are given."""
    ear = Ear()
    asked = []
    encode_texts = ear.encode_texts
    ear.encode_texts = lambda texts: asked.extend(texts) or encode_texts(texts)
    Listener(ear, options())
    Listener(ear, options(templates=("the {}",)))
    assert asked == ["a low sound", "a mid sound", "a high sound", "the low", "the mid", "the high"]


def test_bad_files_are_failures_in_their_place(write, tmp_path):
    """One failure each, in order, with task and model; the batch goes on, also past damage far inside a file."""
    good = write("a.wav", tone(1, hertz=300))
    text = tmp_path / "b.wav"
    text.write_text("no sound")
    late = tmp_path / "c.flac"
    import soundfile

    soundfile.write(late, np.random.default_rng(0).normal(0, 0.1, 60 * RATE), RATE)
    late.write_bytes(late.read_bytes()[: late.stat().st_size // 2])
    early = Failure("d", "not_found", "no such file")
    results = ask(good, text, late, early, good)
    assert [getattr(r, "kind", "ok") for r in results] == ["ok", "not_audio", "corrupt", "not_found", "ok"]
    for failure in results[1:4]:
        assert (failure.task, failure.model) == ("audio-classify", "ear")
        assert "\n" not in failure.message


def test_bytes_are_heard(write):
    """Standard input: the file's bytes under the name `-`."""
    path = write("a.wav", tone(1, hertz=2000))
    (answer,) = ask(Source("-", None, path.read_bytes()))
    assert (answer.path, answer.label) == ("-", "high")


def test_long_recordings_stay_small(write):
    """Ten minutes take no more memory than one, windows listed or not, apart from the list of answers."""
    short, long = write("a.wav", np.zeros(RATE * 60) + 0.01), write("b.wav", np.zeros(RATE * 600) + 0.01)

    def peak(path):
        tracemalloc.start()
        ask(path, workers=0)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(short)
    assert peak(long) < 1.2 * peak(short)


class Eye:
    """A picture's brightness as one of the three bands."""

    id = "eye"
    weights_hash = "1" * 12
    embed_dim = 3

    class preprocess:  # noqa: N801
        size = (8, 8)
        resize_mode = "squash"

        @staticmethod
        def crop(image):
            return np.asarray(image.resize((8, 8)))

        @staticmethod
        def normalize(crops):
            return crops.astype(np.float32)

    def encode_images(self, pixels):
        level = (pixels.mean(axis=(1, 2, 3)) / 86).astype(int).clip(0, 2)
        return np.eye(3, dtype=np.float32)[level]


def test_pictures_are_ranked_by_the_sound(write, tmp_path):
    """With pictures in the labels' place the best prediction is the file that fits; a bad picture is a failure first."""
    from PIL import Image

    ear = Ear()
    ear.clip = Eye()
    for name, level in (("dark", 10), ("grey", 128), ("light", 250)):
        Image.new("RGB", (16, 16), (level,) * 3).save(tmp_path / f"{name}.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    pictures = [Source(p.name, p) for p in sorted(tmp_path.glob("*.png"))]
    sounds = [Source(n, write(f"{n}.wav", tone(1, hertz=h))) for n, h in PITCHES.items()]
    failure, *answers = run(sounds, AudioClassifyOptions(labels=()), ear, pictures)
    assert (failure.path, failure.task) == ("bad.png", "audio-classify")
    assert [a.label for a in answers] == ["dark.png", "grey.png", "light.png"]
    assert answers[0].predictions[0].score == pytest.approx(np.exp(5) / (np.exp(5) + 2), abs=1e-3)


def test_pictures_need_a_model_that_sees(write, tmp_path):
    """CLAP knows no pictures, and an unreadable set is told before any sound."""
    sound = [Source("a", write("a.wav", tone(1)))]
    with pytest.raises(UsageError, match="knows no pictures"):
        list(run(sound, AudioClassifyOptions(labels=()), Ear(), []))
    ear = Ear()
    ear.clip = Eye()
    with pytest.raises(UsageError, match="no pictures"):
        list(run(sound, AudioClassifyOptions(labels=()), ear, []))


def test_class_vectors_may_be_given():
    """Classes made elsewhere take the labels' place with the image scale."""
    classes = ClassVectors((Label("x", ("x",)),), np.ones((1, 1, 3), np.float32), np.arange(1), "embed")
    listener = Listener(Ear(), AudioClassifyOptions(labels=()), classes)
    assert listener.scale == 5.0
    assert listener.classes.names == ("x",)


def test_a_video_is_heard(tmp_path):
    """The audio track of an mp4, pictures and all."""
    path = tmp_path / "v.mp4"
    encode(path, tone(2, 48_000, hertz=300), 48_000, "aac", picture=True)
    assert ask(path)[0].label == "low"
