"""classify-video: the authors' prompts and averaging, the right frames, windows and their timeline."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image
from test_video_index import clip, colour_films, coloured  # noqa: F401 (a fixture)

from clipkit.media.paths import Source, expand
from clipkit.media.video import VideoInfo, probe
from clipkit.models.clip import Preprocess
from clipkit.prompts.ensemble import class_vectors
from clipkit.prompts.labels import load_labels
from clipkit.prompts.templates import fill
from clipkit.results import Failure
from clipkit.tasks.classify_video import TEMPLATES, ClassifyVideoOptions, Judge, MeanFusion, run
from clipkit.video.frames import scale_and_crop
from clipkit.video.sampling import Sampling, thinned, windows

LABELS = load_labels("red,green,blue,yellow")


def bare(**options):
    """Options whose prompts are the bare words the fake model knows."""
    return ClassifyVideoOptions(LABELS, templates=("{}",), **options)


def test_the_sixteen_prompts_are_the_authors():
    """Filled with a name and joined by newlines, the prompts hash to what the authors' `text_prompt` gave."""
    lines = "".join(f"{fill(template, 'abseiling')}\n" for template in TEMPLATES)
    assert len(TEMPLATES) == 16
    assert (
        hashlib.sha256(lines.encode()).hexdigest() == "359f36ae3f96b21ff456be8f50e302334e80a929974040b778157e4176a558d7"
    )


def test_films_of_one_colour_are_named(colour_films):  # noqa: F811
    """Each film's own colour is the best label; the broken file is a failure in its place."""
    outcomes = list(run(expand([str(colour_films)], extensions=frozenset({".mp4"})), bare(), clip()))
    found = {o.path.rsplit("/", 1)[1]: o for o in outcomes}
    assert isinstance(found["broken.mp4"], Failure)
    assert found["broken.mp4"].task == "classify-video"
    for name in ("red", "green", "blue", "yellow"):
        assert found[f"{name}.mp4"].label == name
        assert sum(p.score for p in found[f"{name}.mp4"].predictions) == pytest.approx(1, abs=1e-5)
    assert found["blue-yellow-blue.mp4"].label == "blue"


def test_frames_are_averaged_before_they_are_normalised(tmp_path):
    """The score is the softmax of the cosines of the plain mean, computed by hand from the film's frames."""
    path = coloured(tmp_path / "a.mp4", "blue", "yellow", "blue")
    model = clip()
    (answer,) = run([Source("a", path)], bare(frames=6, top_k=None), model)
    mean = np.mean([model.vector(w) for w in ("blue", "blue", "yellow", "yellow", "blue", "blue")], axis=0)
    cosines = [
        model.vector(w) @ mean / np.linalg.norm(model.vector(w)) / np.linalg.norm(mean)
        for w in ("red", "green", "blue", "yellow")
    ]
    expected = np.exp(20 * np.array(cosines))
    expected /= expected.sum()
    scores = {p.label: p.score for p in answer.predictions}
    np.testing.assert_allclose([scores[w] for w in ("red", "green", "blue", "yellow")], expected, atol=1e-4)


def test_probabilities_and_vectors_are_averaged_differently(tmp_path):
    """prob is the mean of 16 softmaxes by hand; embed is another number."""
    path = coloured(tmp_path / "a.mp4", "blue", "yellow")
    model = clip()
    scores = {}
    for how in ("prob", "embed"):
        options = ClassifyVideoOptions(LABELS, reduction=how, top_k=None)
        (answer,) = run([Source("a", path)], options, model)
        scores[how] = {p.label: p.score for p in answer.predictions}
    vectors = class_vectors(model, LABELS, TEMPLATES, reduction="prob").vectors
    frames = np.mean([model.vector(w) for w in ["blue"] * 4 + ["yellow"] * 4], axis=0)
    logits = 20 * vectors @ (frames / np.linalg.norm(frames))
    by_hand = (np.exp(logits) / np.exp(logits).sum(axis=0)).mean(axis=1)
    np.testing.assert_allclose([scores["prob"][label.name] for label in LABELS], by_hand, atol=1e-4)
    assert max(abs(scores["prob"][k] - scores["embed"][k]) for k in scores["prob"]) > 0.01


def test_windows_give_a_timeline(tmp_path):
    """Every window is answered, and windows that agree are joined into segments with the right borders."""
    path = coloured(tmp_path / "a.mp4", "red", "red", "blue", "blue", "red", "red")
    (answer,) = run([Source("a", path)], bare(window=0.5, hop=0.5, frames=4), clip())
    assert [w.predictions[0].label for w in answer.windows] == ["red", "red", "blue", "blue", "red", "red"]
    assert [s.label for s in answer.segments] == ["red", "blue", "red"]
    np.testing.assert_allclose([(s.start, s.end) for s in answer.segments], [(0, 1), (1, 2), (2, 3)], atol=0.05)
    record = json.loads(json.dumps(answer.record()))
    assert len(record["windows"]) == 6
    assert len(list(answer.rows())) == 6 * 4


def test_overlapping_windows_look_at_each_frame_once(tmp_path):
    """With a hop of half a window no time is decoded or encoded twice, and borders stay right to a hop."""
    path = coloured(tmp_path / "a.mp4", "red", "red", "blue", "blue")
    model = clip()
    options = bare(window=1.0, hop=0.5, frames=4)
    judge = Judge(model, options, MeanFusion())
    times = judge.plan(probe(path))
    assert times == sorted(set(times))
    (answer,) = run([Source("a", path)], options, model)
    assert model.images_encoded == len(times)
    np.testing.assert_allclose([(w.start, w.end) for w in answer.windows], [(0, 1), (0.5, 1.5), (1, 2)], atol=0.05)
    assert (answer.segments[0].label, answer.segments[-1].label) == ("red", "blue")


def test_windows_cover_the_video():
    """The last window ends with the video; a short video is one window."""
    assert windows(10.0, 4.0, 4.0) == [(0.0, 4.0), (4.0, 8.0), (6.0, 10.0)]
    assert windows(3.0, 4.0, 4.0) == [(0.0, 3.0)]
    assert windows(8.0, 4.0, 4.0) == [(0.0, 4.0), (4.0, 8.0)]
    assert windows(5.0, 4.0, 1.0) == [(0.0, 4.0), (1.0, 5.0)]


def test_a_threshold_can_leave_nothing(tmp_path):
    """Below the threshold no label is given, and the row has empty cells."""
    path = coloured(tmp_path / "a.mp4", "red")
    (answer,) = run([Source("a", path)], bare(threshold=2.0), clip())
    assert answer.label is None
    assert next(iter(answer.rows()))[3:] == ("", "", "")


def test_the_crop_is_torchvisions():
    """Scaled to 256 and cropped to 224 as ActionCLIP's test transform does, pixel for pixel."""
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    image = Image.fromarray(noise).resize((500, 300), Image.Resampling.BICUBIC)
    ours = scale_and_crop(Preprocess((224, 224), (0.0,) * 3, (1.0,) * 3))(image)
    theirs = CenterCrop(224)(Resize(256, InterpolationMode.BICUBIC)(image))
    assert np.array_equal(ours, np.asarray(theirs))


def info(duration, rate=30.0):
    """A video that says no more than its length."""
    return VideoInfo(duration, rate, None, 64, 48, 0, "h264", "yuv420p", "mov")


def test_frames_by_time():
    """One a second from the start, thinned evenly with both ends where there are more than allowed."""
    assert Sampling(fps=1, frames=12).times(info(5.4)) == [0, 1, 2, 3, 4, 5]
    assert Sampling(fps=2, frames=None).times(info(1.0)) == [0, 0.5]
    assert Sampling(fps=1, frames=12).times(info(0.2)) == [0]
    many = Sampling(fps=1, frames=12).times(info(60.0))
    assert many == np.linspace(0, 59, 12, dtype=int).tolist()
    assert thinned(5, None) == range(5)
    assert Sampling(least=4).times(info(2.0)) == [0, 0.5, 1.0, 1.5]
    assert Sampling(least=4).times(info(4.0)) == [0, 1, 2, 3]
    assert Sampling(frames=2, least=4).times(info(0.5)) == [0, 0.25]


def test_sampling_keys_tell_what_differs():
    """Different frames, different keys: the index never mixes them."""
    rules = [
        Sampling(),
        Sampling(fps=2),
        Sampling(frames=12),
        Sampling(frames=None),
        Sampling("segments", frames=8),
        Sampling(least=8),
    ]
    rules.append(Sampling("clip4clip-index", frames=12))
    assert len({rule.key for rule in rules}) == len(rules)
    assert Sampling("segments", fps=3.0, frames=8).key == Sampling("segments", frames=8).key
