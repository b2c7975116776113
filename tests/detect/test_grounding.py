"""The grounding family on tiny random models: where boxes come out, what they are called, what is told."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

transformers = pytest.importorskip("transformers")

from grounding_tiny import make_grounding, make_omdet, make_owlv2  # noqa: E402

from clipkit.cli.app import app  # noqa: E402
from clipkit.detection.grounded import GroundedDetector, open_grounded  # noqa: E402
from clipkit.detection.spans import free_caption  # noqa: E402
from clipkit.errors import ModelError, ModelUnavailableError, UsageError  # noqa: E402
from clipkit.media.paths import Source  # noqa: E402
from clipkit.models.grounding import load  # noqa: E402
from clipkit.prompts.labels import load_labels  # noqa: E402
from clipkit.tasks.detect import DetectOptions, boxes, run  # noqa: E402

METHODS = ("grounding-dino", "mm-grounding-dino", "llmdet", "owlv2", "omdet-turbo")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One folder a method."""
    made = {
        "grounding-dino": make_grounding(tmp_path_factory.mktemp("gdino")),
        "mm-grounding-dino": make_grounding(tmp_path_factory.mktemp("mm"), "MMGroundingDino"),
        "owlv2": make_owlv2(tmp_path_factory.mktemp("owl")),
        "omdet-turbo": make_omdet(tmp_path_factory.mktemp("omdet")),
    }
    return made | {"llmdet": made["mm-grounding-dino"]}


def picture(height, width, box):
    """White on black."""
    image = np.zeros((height, width, 3), np.uint8)
    x0, y0, x1, y1 = box
    image[y0:y1, x0:x1] = 255
    return image


def seeing(model, monkeypatch):
    """Let the model answer with the white shape in the pixels it is given; everything around it stays."""
    real = model.forward

    def forward(*args, **kwargs):
        found = real(*args, **kwargs)
        pixels = kwargs["pixel_values"][0].mean(dim=0)
        middle = (pixels.max() + pixels.min()) / 2
        rows, columns = (torch.nonzero((pixels > middle).any(dim=d))[:, 0] for d in (1, 0))
        y0, y1 = rows[0] / len(pixels), (rows[-1] + 1) / len(pixels)
        x0, x1 = columns[0] / pixels.shape[1], (columns[-1] + 1) / pixels.shape[1]
        omdet = "decoder_class_logits" in found
        boxes = found["decoder_coord_logits" if omdet else "pred_boxes"]
        logits = found["decoder_class_logits" if omdet else "logits"]
        boxes[0, 0] = torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0])
        logits[0] = -9
        logits[0, 0] = 9
        return found

    monkeypatch.setattr(model, "forward", forward)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("height", "width", "orientation"), [(96, 144, 1), (144, 96, 1), (96, 144, 6)])
def test_boxes_come_back_to_the_pixels(folders, monkeypatch, method, height, width, orientation):
    """A shape the model sees in its own frame is told within 1 px in the upright picture, in any format."""
    backend, digest = load(method, folders[method], "cpu")
    seeing(backend.parts.model, monkeypatch)
    detector = GroundedDetector(backend, load_labels("shape"), method=method, digest=digest)
    truth = (24, 33, 66, 75)
    upright = picture(height, width, truth)
    stored = upright if orientation == 1 else np.ascontiguousarray(np.rot90(upright, 1))
    data, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(data, "PNG", exif=exif)
    (outcome,) = run([Source("a", None, data.getvalue())], DetectOptions(), detector)
    assert [d.label for d in outcome.detections] == ["shape"]
    assert np.abs(np.array(outcome.detections[0].box) - truth).max() <= 1


@pytest.mark.parametrize("method", METHODS)
def test_random_answers_have_the_labels_asked_for(folders, method):
    """Whatever a random model says: labels of the input only, boxes inside, scores in [0, 1], also for aliases."""
    detector = open_grounded(
        method, load_labels("cat|kitten,dog,red car"), folder=folders[method], device="cpu", caption=None
    )
    image = np.random.default_rng(0).integers(0, 256, (70, 110, 3), dtype=np.uint8)
    found = boxes(image, DetectOptions(min_score=0.0, nms=1.0), detector)
    assert len(found)
    assert set(found.classes) <= {0, 1, 2}
    assert detector.labels == ("cat", "dog", "red car")
    assert (found.boxes >= 0).all() and (found.boxes <= [110, 70, 110, 70]).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert set(detector.detect(image, only=[1]).classes) <= {1}


def test_scores_are_those_of_the_tokens(folders):
    """Span scores equal the means over the tokens transformers' own tokenizer gives the phrase."""
    backend, _ = load("grounding-dino", folders["grounding-dino"], "cpu")
    image = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    ((_, (found, scores)),) = backend.answers(image, ["cat", "dog"])
    ids = backend.parts.tokenizer("cat . dog .", return_tensors="pt")
    with torch.inference_mode():
        raw = backend.parts.model(**backend.parts.pixels(image), **ids)
    probabilities = raw.logits[0].sigmoid().numpy()
    # One token a letter: [CLS] c a t . d o g . [SEP]
    assert np.allclose(scores[:, 0], probabilities[:, 1:4].mean(axis=1), atol=1e-6)
    assert np.allclose(scores[:, 1], probabilities[:, 5:8].mean(axis=1), atol=1e-6)
    theirs = backend.parts.image_processor.post_process_object_detection(raw, 0.0, target_sizes=[(64, 96)])[0]
    assert np.allclose(found, theirs["boxes"].numpy(), atol=1e-3)


def test_long_vocabularies_are_asked_in_parts(folders):
    """More labels than the text holds: all are scored, each part within the text's length."""
    backend, _ = load("grounding-dino", folders["grounding-dino"], "cpu")
    phrases = [f"thing{i:02d}" for i in range(30)]
    image = np.zeros((64, 64, 3), np.uint8)
    parts = list(backend.answers(image, phrases))
    assert len(parts) > 1
    assert [i for part, _ in parts for i in part] == list(range(30))
    assert all(scores.shape == (20, len(part)) and (scores > 0).any(axis=0).all() for part, (_, scores) in parts)


def test_what_the_model_would_not_read_is_refused(folders):
    """A label or a caption longer than the text is told, not cut."""
    backend, _ = load("grounding-dino", folders["grounding-dino"], "cpu")
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(UsageError, match="label 2 has .* more than the model reads"):
        list(backend.answers(image, ["cat", "x" * 80]))
    with pytest.raises(UsageError, match="caption has 80 tokens"):
        backend.answer(image, free_caption("x" * 79, None))


def test_captions_are_asked_whole(folders):
    """Labels of a caption are its words; without labels the caption is the label; OWLv2 refuses."""
    image = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    common = {"folder": folders["grounding-dino"], "device": "cpu", "caption": "a dog left of a cat"}
    named = open_grounded("grounding-dino", load_labels("cat,dog"), **common)
    assert set(boxes(image, DetectOptions(min_score=0.0), named).classes) <= {0, 1}
    whole = open_grounded("grounding-dino", (), **common)
    assert whole.labels == ("a dog left of a cat",)
    assert len(whole.detect(image))
    with pytest.raises(UsageError, match="Grounding DINO family"):
        open_grounded("owlv2", (), folder=folders["owlv2"], device="cpu", caption="a dog")


def test_the_command_asks_a_caption(folders, tmp_path):
    """`clipkit detect --caption` answers with the caption's words, and says which method answered."""
    Image.fromarray(picture(60, 90, (10, 10, 50, 50))).save(tmp_path / "a.png")
    done = CliRunner().invoke(
        app,
        [
            "detect", str(tmp_path / "a.png"), "--method", "mm-grounding-dino", "--weights", str(folders["llmdet"]),
            "--caption", "a dog left of a cat", "-l", "dog", "--min-score", "0", "--nms", "1",
        ],
        prog_name="clipkit",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["model"] == "mm-grounding-dino"
    assert {found["label"] for found in record["detections"]} == {"dog"}


def test_missing_files_are_told(folders, tmp_path):
    """No weights: how to get them; a folder of another model: that it is one."""
    with pytest.raises(ModelUnavailableError, match="hf download google/owlv2"):
        load("owlv2", None, "cpu")
    with pytest.raises(ModelError):
        load("owlv2", tmp_path, "cpu")
    with pytest.raises(ModelError):
        load("owlv2", folders["grounding-dino"], "cpu")
