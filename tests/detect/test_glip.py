"""GLIP against the authors' own code, and from a checkpoint file to boxes."""

import io
import json
from functools import partial

import numpy as np
import pytest
import torch
from dense_seeds import seeded_picture
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("tokenizers")

from glip_tiny import FOLDER, make_glip, weights

from clipkit.cli.app import app
from clipkit.detection.grounded import GroundedDetector, open_grounded
from clipkit.detection.spans import caption
from clipkit.errors import UsageError
from clipkit.media.paths import Source
from clipkit.models import glip, glip_boxes, glip_checkpoint, glip_head
from clipkit.prompts.labels import load_labels
from clipkit.tasks.detect import DetectOptions, boxes, run

GOLDEN = np.load(FOLDER / "glip.npz")
PHRASES = ["person", "bicycle", "red car"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A file of GLIP-T's layout and one of GLIP-T (A)'s."""
    return {variant: make_glip(tmp_path_factory.mktemp(f"glip_{variant}"), variant) for variant in ("c", "a")}


@pytest.fixture(scope="module")
def models(checkpoints):
    """Both, loaded."""
    return {variant: glip.load(path, "cpu")[0] for variant, path in checkpoints.items()}


@pytest.fixture
def small(monkeypatch):
    """A smaller working picture."""
    monkeypatch.setattr(glip, "working_size", partial(glip_boxes.working_size, short=96, most=160))


def padded():
    """The picture of the golden file in its frame."""
    pixels = np.zeros((3, 192, 256), np.float32)
    pixels[:, :180, :250] = seeded_picture(180, 250, seed=11)
    return pixels


def noise(height=70, width=110, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("variant", ["c", "a"])
def test_every_level_equals_the_authors_code(models, variant):
    """Pyramid, text, token logits, box deltas and centerness agree with microsoft/GLIP to 1e-4."""
    model = models[variant]
    ids, _ = model.tokenizer(caption(PHRASES).text)
    with torch.inference_mode():
        levels = model.net.look(torch.from_numpy(padded())[None])
        text = model.net.bert(torch.tensor([ids]))
        found = model.net(levels, torch.tensor([ids]))
    np.testing.assert_allclose(text[0].numpy(), GOLDEN[f"{variant}_text"], atol=1e-4)
    for number, (level, answer) in enumerate(zip(levels, found, strict=True)):
        step, places, cells = (3 if number < 2 else 1), (2 if number else 7), (1 if number else 2)
        deltas = answer.deltas[0].T.reshape(4, *answer.size)[:, ::cells, ::cells]
        for name, value in (
            ("fpn", level[0, :, ::step, ::step]),
            ("logits", answer.logits[0, ::places]),
            ("deltas", deltas),
            ("centerness", answer.centerness.reshape(1, *answer.size)),
        ):
            np.testing.assert_allclose(value.numpy(), GOLDEN[f"{variant}_{name}{number}"], atol=1e-4, err_msg=name)


@pytest.mark.parametrize("variant", ["c", "a"])
def test_boxes_equal_the_authors_code(models, monkeypatch, variant):
    """Candidates, scores, decoding, cutting and suppression give the authors' 100 boxes; theirs count both ends in."""
    monkeypatch.setattr(glip, "preprocess", lambda _: (padded(), (180, 250)))
    detector = GroundedDetector(models[variant], load_labels(",".join(PHRASES)), method="glip", digest="")
    found = boxes(np.zeros((180, 250, 3), np.uint8), DetectOptions(min_score=0.0), detector)
    assert (found.classes + 1).tolist() == GOLDEN[f"{variant}_labels"].tolist()
    np.testing.assert_allclose(found.scores, GOLDEN[f"{variant}_scores"], atol=1e-4)
    np.testing.assert_allclose(found.boxes - [0, 0, 1, 1], GOLDEN[f"{variant}_boxes"], atol=1e-3)


def test_preprocessing_equals_the_authors_code():
    """Sizes, smoothing, channel order and normalisation; what is filled up is zero."""
    for height, width, *size in GOLDEN["sizes"].tolist():
        assert glip_boxes.working_size(height, width) == tuple(size)
    picture = seeded_picture(60, 90, seed=12).transpose(1, 2, 0)
    pixels, size = glip.preprocess((np.clip(picture, -1, 1) * 127 + 128).astype(np.uint8))
    assert size == (800, 1200)
    assert pixels.shape == (3, 800, 1216)
    np.testing.assert_allclose(pixels[:, :800:40, :1200:40], GOLDEN["pixels"], atol=1e-4)
    assert (pixels[..., 1200:] == 0).all()
    assert glip_boxes.working_size(1, 5000)[0] == 1


def test_anchors_and_decoding_equal_the_authors_form():
    """With both ends counted in: centres of the anchors in the checkpoint, widths with the one that stays out here."""
    rng = np.random.default_rng(0)
    for number, stride in enumerate(glip_boxes.STRIDES):
        deltas = rng.normal(size=(12, 4)) * [3, 3, 2, 2]
        deltas[0, 2:] = 99
        found = glip_boxes.decode(deltas, np.arange(12), 4, stride)
        for place, (dx, dy, dw, dh) in enumerate(deltas):
            anchor = GOLDEN[f"anchors{number}"][0] + np.array([place % 4, place // 4] * 2) * stride
            w, h = anchor[2:] - anchor[:2] + 1
            x, y = (anchor[:2] + anchor[2:]) / 2
            x, y = x + dx / 10 * w, y + dy / 10 * h
            w, h = (np.exp(min(d / 5, np.log(1000 / 16))) * side for d, side in ((dw, w), (dh, h)))
            theirs = np.array([x - (w - 1) / 2, y - (h - 1) / 2, x + (w - 1) / 2, y + (h - 1) / 2])
            np.testing.assert_allclose(found[place] - [0, 0, 1, 1], theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("most", [30, 1000])
def test_candidates_equal_the_loop(most):
    """Pairs over .05 before centerness counts, the best of them by the product, sqrt of it as the score."""
    rng = np.random.default_rng(1)
    probabilities, centerness = rng.random((40, 5)) * 0.15, rng.random(40)
    places, scores = glip_boxes.candidates(probabilities, centerness, most=most)
    pairs = [
        (-((probabilities[i, p] * centerness[i]) ** 0.5), i, p)
        for i in range(40)
        for p in range(5)
        if probabilities[i, p] > 0.05
    ]
    assert 30 < len(pairs) < 200
    want = np.zeros((40, 5))
    for score, i, p in sorted(pairs)[:most]:
        want[i, p] = -score
    assert places.tolist() == np.flatnonzero(want.any(axis=1)).tolist()
    np.testing.assert_allclose(scores, want[places])
    none, empty = glip_boxes.candidates(np.zeros((4, 2)), np.ones(4))
    assert none.shape == (0,) and empty.shape == (0, 2)


def test_offsets_of_another_level_are_read_by_the_outputs_strides():
    """Row r, column c of channel k is number (k h + r) w + c of the picture's memory, as in the training kernel."""
    field = torch.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7)
    found = glip_head.reread(field, (3, 4))
    for n in range(2):
        memory = field[n].flatten().tolist()
        for k in range(3):
            for r in range(3):
                for c in range(4):
                    assert found[n, k, r, c] == memory[(k * 3 + r) * 4 + c]
    assert glip_head.reread(field, (5, 7)) is field


@pytest.mark.usefixtures("small")
def test_scores_are_those_of_the_tokens(models):
    """The score of a pair is sqrt(mean sigmoid over the phrase's tokens x centerness), level by level."""
    model, image = models["c"], noise()
    ((_, (found, scores)),) = model.answers(image, ["cat", "dog"])
    ids = [
        model.tokenizer.tokenizer.token_to_id(t)
        for t in ["[CLS]", "c", "##a", "##t", ".", "d", "##o", "##g", ".", "[SEP]"]
    ]
    pixels, _ = glip.preprocess(image)
    with torch.inference_mode():
        raw = model.net(model.net.look(torch.from_numpy(pixels)[None]), torch.tensor([ids]))
    logits, centre = (
        torch.cat(parts, dim=1)[0].sigmoid().numpy()
        for parts in zip(*[(level.logits, level.centerness) for level in raw], strict=True)
    )
    for phrase, tokens in enumerate((slice(1, 4), slice(5, 8))):
        means = logits[:, tokens].mean(axis=1)
        want = np.sqrt(means * centre)[means > 0.05]
        np.testing.assert_allclose(np.sort(scores[:, phrase][scores[:, phrase] > 0]), np.sort(want), atol=1e-6)
    assert len(found) == len(scores)


def seeing(model, monkeypatch):
    """Let the model answer with the white shape in the pixels it is given, by the published code of boxes."""

    def look(pixels):
        return [pixels]

    def forward(levels, ids):
        pixels = levels[0][0].mean(dim=0)
        middle = (pixels.max() + pixels.min()) / 2
        rows, columns = (torch.nonzero((pixels > middle).any(dim=d))[:, 0] for d in (1, 0))
        y0, y1, x0, x1 = (float(side) for side in (rows[0], rows[-1], columns[0], columns[-1]))
        out = []
        for stride in glip_boxes.STRIDES:
            size = (-(-pixels.shape[0] // stride), -(-pixels.shape[1] // stride))
            logits, deltas = (
                torch.full((1, size[0] * size[1], ids.shape[1]), -9.0),
                torch.zeros(1, size[0] * size[1], 4),
            )
            if stride == 8:
                row, column = int((y0 + y1) / 2 // stride), int((x0 + x1) / 2 // stride)
                place, side = row * size[1] + column, 8 * stride
                middles = ((x0 + x1) / 2 - (column * stride + 3.5), (y0 + y1) / 2 - (row * stride + 3.5))
                growth = [5 * np.log((b - a + 1) / side) for a, b in ((x0, x1), (y0, y1))]
                deltas[0, place] = torch.tensor([10 * middle / side for middle in middles] + growth)
                logits[0, place] = 9.0
            out.append(glip_head.Level(logits, deltas, torch.full(logits.shape[:2], 9.0), size))
        return out

    monkeypatch.setattr(model.net, "look", look)
    monkeypatch.setattr(model.net, "forward", forward)


@pytest.mark.parametrize(("height", "width", "orientation"), [(96, 144, 1), (144, 96, 1), (96, 144, 6), (110, 457, 1)])
def test_boxes_come_back_to_the_pixels(models, monkeypatch, height, width, orientation):
    """A shape the model sees in its own frame is told within 1 px in the upright picture, in any format."""
    seeing(models["c"], monkeypatch)
    detector = GroundedDetector(models["c"], load_labels("shape"), method="glip", digest="")
    truth = (24, 33, 66, 75)
    upright = np.zeros((height, width, 3), np.uint8)
    upright[truth[1] : truth[3], truth[0] : truth[2]] = 255
    stored = upright if orientation == 1 else np.ascontiguousarray(np.rot90(upright, 1))
    data, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(data, "PNG", exif=exif)
    (outcome,) = run([Source("a", None, data.getvalue())], DetectOptions(), detector)
    assert [d.label for d in outcome.detections] == ["shape"]
    assert np.abs(np.array(outcome.detections[0].box) - truth).max() <= 1


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("variant", ["c", "a"])
def test_random_answers_have_the_labels_asked_for(checkpoints, variant):
    """Whatever a random model says: labels of the input only, boxes inside, scores in (0, 1], also for aliases."""
    labels = load_labels("cat|kitten,dog,red car")
    detector = open_grounded("glip", labels, folder=checkpoints[variant], device="cpu", caption=None)
    found = boxes(noise(), DetectOptions(min_score=0.0), detector)
    assert 0 < len(found) <= 100
    assert set(found.classes) <= {0, 1, 2}
    assert detector.labels == ("cat", "dog", "red car")
    assert (found.boxes >= 0).all() and (found.boxes <= [110, 70, 110, 70]).all()
    assert ((found.scores > 0) & (found.scores <= 1)).all()
    assert set(detector.detect(noise(), only=[1]).classes) <= {1}


@pytest.mark.usefixtures("small")
def test_long_vocabularies_are_asked_in_parts(models, monkeypatch):
    """More labels than 40 or 256 tokens: all are scored, and the picture is encoded once."""
    model, looks = models["c"], []
    look = model.net.look
    monkeypatch.setattr(model.net, "look", lambda pixels: looks.append(1) or look(pixels))
    phrases = [f"thing{i:02d}" for i in range(50)]
    parts = list(model.answers(noise(64, 64), phrases))
    assert [i for part, _ in parts for i in part] == list(range(50))
    # Seven letters and a full stop each: 31 fit 254 tokens.
    assert [len(part) for part, _ in parts] == [31, 19]
    assert all((scores > 0).any(axis=0).all() for _, (_, scores) in parts)
    assert [len(part) for part, _ in model.answers(noise(64, 64), list("abcde" * 9))] == [40, 5]
    assert len(looks) == 2
    with pytest.raises(UsageError, match="label 1 has 301 tokens"):
        next(model.answers(noise(64, 64), ["x " * 300]))
    with pytest.raises(UsageError, match="caption has 301 tokens"):
        model.answer(noise(64, 64), caption(["x " * 300]))


@pytest.mark.usefixtures("small")
def test_captions_are_asked_whole(checkpoints):
    """Labels of a caption are its words; without labels the caption is the label."""
    common = {"folder": checkpoints["c"], "device": "cpu", "caption": "a dog left of a cat"}
    named = open_grounded("glip", load_labels("cat,dog"), **common)
    assert set(boxes(noise(), DetectOptions(min_score=0.0), named).classes) <= {0, 1}
    whole = open_grounded("glip", (), **common)
    assert whole.labels == ("a dog left of a cat",)
    assert len(whole.detect(noise()))


@pytest.mark.usefixtures("small")
def test_the_command_asks_a_caption(checkpoints, tmp_path):
    """`clipkit detect --method glip --caption` answers with the caption's words, and says which method answered."""
    Image.fromarray(noise()).save(tmp_path / "a.png")
    arguments = ["detect", str(tmp_path / "a.png"), "--method", "glip", "--caption", "a dog left of a cat", "-l", "dog"]
    done = CliRunner().invoke(
        app, [*arguments, "--weights", str(checkpoints["c"]), "--min-score", "0"], prog_name="clipkit"
    )
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["model"] == "glip"
    assert len(record["weights"]) == 12
    assert {found["label"] for found in record["detections"]} == {"dog"}


def test_published_variants_are_told_apart():
    """GLIP-T fuses, (A) does not; rounds, windows and heads are read from the tensors."""
    fused, bare = (glip_checkpoint.head_sizes(weights(variant)) for variant in ("c", "a"))
    assert (fused.rounds, fused.fusion) == (2, 64)
    assert (bare.rounds, bare.fusion) == (2, None)
    swin = glip_checkpoint.swin_sizes(weights())
    assert (swin.width, swin.depths, swin.heads, swin.window, swin.mlp) == (16, (2, 1, 2, 2), (1, 2, 2, 4), 5, 4)
