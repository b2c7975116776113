"""The task and the command, on tiny random models: files, bad input, repeats, interruption and resumption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from clipkit.cli.app import app
from clipkit.errors import UsageError
from clipkit.media.paths import Source
from clipkit.models.loader import load_clip
from clipkit.results import Failure
from clipkit.sketching.draw import Nobody
from clipkit.sketching.files import SketchFiles, replay
from clipkit.sketching.recipe import Recipe, preset
from clipkit.sketching.svg import svg
from clipkit.tasks.sketch import SketchOptions, run

SAMPLES = os.environ.get("CLIPKIT_SAMPLE_PHOTOS", "")
QUICK = Recipe(strokes=4, seeds=2, steps=6, augmentations=1, resolution=64, halve_at=0.5, contours=0.5)


class Stage:
    """An audience that keeps states in a folder and may stop after some steps."""

    def __init__(self, folder, stop_after=None):
        self.folder, self.left = folder, stop_after

    def begin(self, name):
        return self

    def state(self, name):
        return self.folder / "state.npz"

    def on_step(self, fit, done, total, under):
        if self.left is not None:
            self.left -= 1

    def should_stop(self):
        return self.left is not None and self.left <= 0


def draw(folder, path, recipe=QUICK, audience=None, **options):
    clip = load_clip(str(folder), "cpu", "fp32", engine="torch")
    source = Source(str(path), Path(path))
    return next(run([source], SketchOptions(recipe, **options), clip, audience))


@pytest.mark.parametrize("kind", ["tiny_resnet", "tiny_vit"])
def test_same_seed_same_bytes(kind, photo_file, request):
    """Two runs give byte-identical SVGs, another seed another one; both architectures."""
    folder = request.getfixturevalue(kind)
    first, second = draw(folder, photo_file), draw(folder, photo_file)
    other = draw(folder, photo_file, replace(QUICK, seed=7))
    assert svg(first.drawing.strokes) == svg(second.drawing.strokes)
    assert svg(first.drawing.strokes) != svg(other.drawing.strokes)
    assert first.drawing.loss <= first.drawing.first_loss
    assert len(first.drawing.strokes) == 4


@pytest.mark.parametrize(
    "recipe",
    [
        QUICK,
        replace(QUICK, sequential=2, steps=8),
        replace(QUICK, color=True, optimize_width=True),
        replace(QUICK, strokes=None, steps=8),
    ],
    ids=["plain", "sequential", "colour", "auto"],
)
def test_resuming_equals_not_stopping(recipe, tiny_resnet, photo_file, tmp_path):
    """Stopped after five steps, there is a drawing; resumed, it ends as the uninterrupted run; the state is gone then."""
    whole = draw(tiny_resnet, photo_file, recipe)
    stopped = draw(tiny_resnet, photo_file, recipe, Stage(tmp_path, stop_after=5))
    assert not stopped.drawing.complete
    assert stopped.record()["interrupted"]
    assert len(stopped.drawing.strokes)
    assert (tmp_path / "state.npz").is_file()
    resumed = draw(tiny_resnet, photo_file, recipe, Stage(tmp_path), resume=True)
    assert svg(resumed.drawing.strokes) == svg(whole.drawing.strokes)
    assert resumed.drawing.loss == whole.drawing.loss
    assert resumed.drawing.history == whole.drawing.history
    assert not (tmp_path / "state.npz").exists()


def test_a_state_of_other_options_is_refused(tiny_resnet, photo_file, tmp_path):
    """Resuming with another number of strokes is a failure that says what to do."""
    draw(tiny_resnet, photo_file, QUICK, Stage(tmp_path, stop_after=2))
    outcome = draw(tiny_resnet, photo_file, replace(QUICK, strokes=5), Stage(tmp_path), resume=True)
    assert isinstance(outcome, Failure)
    assert "other options" in outcome.message


def test_sequential_freezes_what_it_drew(tiny_resnet, photo_file):
    """With 3 strokes at a time the first three of six are those that three strokes alone end with."""
    six = draw(tiny_resnet, photo_file, replace(QUICK, strokes=6, sequential=3, steps=8, contours=0.0))
    three = draw(tiny_resnet, photo_file, replace(QUICK, strokes=3, steps=4, contours=0.0))
    assert len(six.drawing.strokes) == 6
    assert np.array_equal(six.drawing.strokes.points[:3], three.drawing.strokes.points)
    assert len(six.drawing.history) == 8


def test_starts(tiny_resnet, photo_file):
    """First guesses may be chosen apart from the loss: long curves along contours or CLIPasso's short ones, as the record says."""

    def first(**wishes):
        result = draw(tiny_resnet, photo_file, replace(QUICK, steps=1, seeds=1, **wishes))
        points = result.drawing.strokes.points
        return result.record()["starts"], np.linalg.norm(np.diff(points, axis=1), axis=-1).sum(1).max()

    assert first()[0] == "contours"
    assert first(contours=0.0)[0] == "saliency"
    assert first() == first(starts="contours")
    for weight in (0.0, 0.5):
        name, length = first(contours=weight, starts="saliency")
        assert name == "saliency"
        assert length < 3 * np.hypot(0.025, 0.025) * 224 + 12  # three chained steps, and one of the optimiser's
        name, length = first(contours=weight, starts="contours")
        assert name == "contours"
        assert length > 36


def test_masks(tiny_resnet, photo_file, tmp_path):
    """Alpha wins over a file, a file over attention; --no-mask draws everything; an empty mask warns."""
    whole = np.zeros((90, 120), np.uint8)
    Image.fromarray(whole).save(tmp_path / "empty.png")
    whole[20:70, 30:90] = 255
    Image.fromarray(whole).save(tmp_path / "mask.png")
    given = draw(tiny_resnet, photo_file, mask_file=tmp_path / "mask.png")
    assert given.record()["mask"] == "file"
    assert (given.drawing.photo[:8] == 1).all()
    empty = draw(tiny_resnet, photo_file, mask_file=tmp_path / "empty.png")
    assert "almost nothing" in empty.record()["warning"]
    assert draw(tiny_resnet, photo_file, replace(QUICK, mask=False)).record()["mask"] == "none"
    cut = Image.open(photo_file).convert("RGBA")
    cut.putalpha(Image.fromarray(whole))
    cut.save(tmp_path / "cut.png")
    assert draw(tiny_resnet, tmp_path / "cut.png", mask_file=tmp_path / "empty.png").record()["mask"] == "alpha"


def test_order_and_replay(tiny_resnet, photo_file, tmp_path):
    """The JSON replay has every stroke, an order of all of them and a loss for each length of drawing."""
    result = draw(tiny_resnet, photo_file, ordered=True)
    saved = SketchFiles(tmp_path, size=64, animate=True, sheets=True).save(result)
    record = json.loads((tmp_path / "photo.sketch.json").read_text())
    assert sorted(record["order"]) == [0, 1, 2, 3]
    assert len(record["order_losses"]) == 5
    assert record["order_losses"][-1] == pytest.approx(record["loss"], abs=1e-4)
    assert len(record["drawing"]) == 4
    assert record == json.loads(json.dumps(replay(saved)))
    names = {p.name.removeprefix("photo.sketch.") for p in tmp_path.glob("photo.sketch.*")}
    assert names == {"svg", "png", "json", "animated.svg", "gif", "seeds.png"}


def test_presets_and_limits():
    """Presets exist; counts outside the limits, and wishes that exclude each other, are usage errors."""
    assert preset("paper") == Recipe()
    assert preset("paper").steps == 2001
    assert preset("draft").steps < preset("normal").steps
    for bad in ({"strokes": 0}, {"strokes": 10_000}, {"seeds": 0}, {"width": 99.0}, {"strokes": None, "sequential": 4}):
        with pytest.raises(UsageError):
            replace(Recipe(), **bad).checked()
    with pytest.raises(UsageError):
        preset("hasty")


def invoke(*arguments):
    return CliRunner().invoke(app, ["sketch", *map(str, arguments)])


def options(folder, out):
    few = ["--model", folder, "--steps", 4, "--seeds", 1, "--resolution", 64, "--strokes", 3, "--threads", 1]
    return [*few, "--save-to", out, "--png-size", 64, "--format", "jsonl"]


def test_command_writes_files_and_records(tiny_resnet, photo_file, tmp_path):
    """One record a picture on stdout; a bad picture is told, the rest is drawn, the exit code is 3."""
    blank = tmp_path / "blank.png"
    Image.new("RGB", (40, 40), "white").save(blank)
    done = invoke(photo_file, blank, *options(tiny_resnet, tmp_path / "out"))
    assert done.exit_code == 3
    first, second = map(json.loads, done.stdout.splitlines())
    assert Path(first["svg"]).is_file()
    assert Path(first["png"]).is_file()
    assert first["strokes"] == 3
    assert first["schema"] == 1
    assert second["error"]["kind"] == "blank"


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["--strokes", "0"], 2, "--strokes 0"),
        (["--strokes", "10000"], 2, "--strokes 10000"),
        (["--strokes", "many"], 2, "auto"),
        (["--steps", "0"], 2, "--steps 0"),
        (["--mask", "x.png", "--no-mask"], 2, "exclude"),
        (["--renderer", "triton"], 2, "CUDA"),
        (["--layers", "layer9"], 2, "layer9"),
        (["--save-to", "{photo}/below"], 1, "cannot make the folder"),
    ],
)
def test_bad_wishes_are_one_line(arguments, code, word, tiny_resnet, photo_file, tmp_path):
    """What cannot be done is refused at once, in one line that says what is wrong."""
    wished = [a.format(photo=photo_file) for a in arguments]
    done = invoke(photo_file, *options(tiny_resnet, tmp_path), *wished)
    assert done.exit_code == code
    assert word in done.output
    assert "Traceback" not in done.output


def test_interrupt_leaves_a_drawing_and_a_state(tiny_resnet, photo_file, tmp_path):
    """SIGINT: exit code 130, a whole SVG, a state to go on from, and no half-written file."""
    command = [sys.executable, "-m", "clipkit", "sketch", str(photo_file), *map(str, options(tiny_resnet, tmp_path))]
    command += ["--preview"]
    process = subprocess.Popen(
        [*command, "--steps", "100000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "photo.sketch.preview.png").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "--resume goes on" in errors
    assert (tmp_path / "photo.sketch.svg").read_text().endswith("</svg>\n")
    assert (tmp_path / "photo.sketch.state.npz").is_file()
    assert not list(tmp_path.glob(".*.part"))


def test_a_stop_before_the_first_step_still_has_a_drawing(tiny_resnet, photo_file, tmp_path):
    """Even then the first guess is a drawing with a finite loss."""
    result = draw(tiny_resnet, photo_file, QUICK, Stage(tmp_path, stop_after=0))
    assert np.isfinite(result.drawing.loss)
    assert len(result.drawing.strokes) == 4
    assert Nobody().should_stop() is False


@pytest.mark.slow
def test_a_draft_with_the_built_in_model():
    """The photograph of the docs, drawn with all defaults: at most 0.6 of a blank page's loss and of random guesses'."""
    import torch

    from clipkit.sketching.paint import tensors
    from clipkit.sketching.rasterize import render
    from clipkit.sketching.saliency import draw_starts
    from clipkit.sketching.strokes import CANVAS, Strokes

    path = Path(__file__).parents[2] / "docs" / "images" / "cat.jpg"
    result = draw("builtin", path, replace(preset("draft"), contours=1.0))
    objective = result.drawing.objective
    side = objective.size
    blank = float(objective.plain(torch.ones(1, 1, side, side))[0])
    chance = np.full((side, side), side**-2.0)
    guess = Strokes.black(draw_starts(chance, 16, CANVAS, np.random.default_rng(0)), 3.0)
    random = float(objective.plain(render(*tensors(guess, side), side, side))[0])
    assert result.drawing.loss <= 0.6 * min(blank, random)


@pytest.mark.slow
@pytest.mark.skipif(not SAMPLES, reason="CLIPKIT_SAMPLE_PHOTOS is not set")
@pytest.mark.parametrize("name", ["astronaut.png", "chelsea.png", "coffee.png", "camera.png", "rocket.jpg"])
def test_the_loss_falls_on_photographs(name):
    """scikit-image's photographs: from CLIPasso's starts the loss falls to at most 0.6; along contours it ends no higher than that."""
    path = Path(SAMPLES, name)
    recipe = replace(preset("draft"), contours=1.0)
    far = draw("builtin", path, replace(recipe, starts="saliency")).drawing
    near = draw("builtin", path, recipe).drawing
    assert far.loss <= 0.6 * far.first_loss
    assert near.loss <= 0.6 * far.first_loss
