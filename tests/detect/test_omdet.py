"""OmDet-Turbo on tiny random models: its scores by formula, its task, its vocabulary in parts, its timm backbone."""

import json

import numpy as np
import pytest
import torch

transformers = pytest.importorskip("transformers")

from grounding_tiny import make_omdet  # noqa: E402

from clipkit.detection.grounded import open_grounded  # noqa: E402
from clipkit.errors import ModelError, ModelUnavailableError, UsageError  # noqa: E402
from clipkit.models.grounding import load  # noqa: E402
from clipkit.models.offline import no_network  # noqa: E402
from clipkit.models.omdet_turbo import backbone_config  # noqa: E402
from clipkit.prompts.labels import load_labels  # noqa: E402

KIND = "OmDetTurboForObjectDetection"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model."""
    return make_omdet(tmp_path_factory.mktemp("omdet"))


def noise(height, width):
    """A picture."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def watched(backend, monkeypatch):
    """Every call of the model: what it was given and what it said."""
    calls, real = [], backend.parts.model.forward

    def forward(*args, **kwargs):
        found = real(*args, **kwargs)
        calls.append((kwargs, found))
        return found

    monkeypatch.setattr(backend.parts.model, "forward", forward)
    return calls


def test_scores_and_boxes_are_transformers_own(folder):
    """Every box above nothing, as transformers' processor decodes it, has our score for its label and our place."""
    backend, _ = load("omdet-turbo", folder, "cpu")
    image = noise(64, 96)
    ((part, (boxes, scores)),) = backend.answers(image, ["cat", "dog"])
    processor = transformers.OmDetTurboProcessor(backend.parts.image_processor, backend.parts.tokenizer)
    inputs = processor(image, text=["cat", "dog"], return_tensors="pt", text_kwargs={"max_length": 24})
    with torch.inference_mode():
        raw = backend.parts.model(**inputs)
    assert list(part) == [0, 1]
    theirs = processor.post_process_grounded_object_detection(
        raw, [["cat", "dog"]], threshold=0.0, nms_threshold=1.0, target_sizes=[(64, 96)], max_num_det=40
    )[0]
    assert len(theirs["scores"]) == 40
    for box, score, label in zip(theirs["boxes"].numpy(), theirs["scores"].numpy(), theirs["text_labels"], strict=True):
        near = np.abs(np.clip(boxes, 0, [96, 64, 96, 64]) - box).max(axis=1) < 1e-3
        assert np.abs(scores[near, ["cat", "dog"].index(label)] - score).min() < 1e-6


def test_scores_are_scaled_cosines(folder):
    """The sigmoid of cos / .07 between the last layer's queries and the classes' texts at their ends, by hand."""
    backend, _ = load("omdet-turbo", folder, "cpu")
    model = backend.parts.model
    seen = []
    model.decoder.layers[-1].register_forward_hook(lambda _module, _inputs, output: seen.append(output[0][0]))
    ((_, (_, scores)),) = backend.answers(noise(64, 96), ["cat", "dog"])
    ids = backend.parts.tokenizer(["cat", "dog"], return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        ends = model.language_backbone.model(ids).last_hidden_state[:, -1]
        classes = model.decoder.decoder_class_head[-1](ends @ model.language_backbone.text_projection)
    cosines = torch.nn.functional.cosine_similarity(seen[0][:, None], classes[None], dim=-1)
    assert np.allclose(scores, (cosines / 0.07).sigmoid().numpy(), atol=1e-5)


def test_long_vocabularies_are_asked_in_parts(folder, monkeypatch):
    """Each part's task holds all of its classes and its end; the parts together are the vocabulary, none lost."""
    backend, _ = load("omdet-turbo", folder, "cpu")
    calls = watched(backend, monkeypatch)
    phrases = [f"th{i:02d}" for i in range(12)]
    parts = list(backend.answers(noise(64, 64), phrases))
    assert len(parts) == len(calls) > 2
    assert [i for part, _ in parts for i in part] == list(range(12))
    decode = backend.parts.tokenizer.decode
    for (part, (_, scores)), (given, _) in zip(parts, calls, strict=True):
        assert scores.shape == (20, len(part))
        said = decode(given["tasks_input_ids"][0], skip_special_tokens=True).replace(" ", "").lower()
        assert said == f"detect{','.join(phrases[i] for i in part)}."
        assert given["tasks_input_ids"][0, -1] == backend.parts.tokenizer.eos_token_id
    with pytest.raises(UsageError, match="shorten it"):
        list(backend.answers(noise(64, 64), ["a" * 40]))


def test_a_class_scores_the_same_alone_when_the_task_is_given(folder):
    """With one task for all parts, a class's text does not depend on its neighbours."""
    backend, _ = load("omdet-turbo", folder, "cpu")
    backend.ask("Detect everything.")
    phrases = [f"{a}{b}" for a in "abcdefghij" for b in "klmnopq"]
    parts = list(backend.answers(noise(64, 64), phrases))
    assert [len(part) for part, _ in parts] == [64, 6]
    assert backend.parts.model.language_cache_class.capacity >= 70


def test_the_caption_is_the_task(folder, monkeypatch):
    """`--caption` becomes the task's text; labels still are what is scored, and without any it is refused."""
    common = {"folder": folder, "device": "cpu"}
    detector = open_grounded("omdet-turbo", load_labels("boat|ship,cat"), caption="Detect all  boats.", **common)
    calls = watched(detector.backend, monkeypatch)
    found = detector.detect(noise(64, 96))
    assert detector.labels == ("boat", "cat")
    assert set(found.classes) <= {0, 1}
    decode = detector.backend.parts.tokenizer.decode
    said = decode(calls[0][0]["tasks_input_ids"][0], skip_special_tokens=True)
    assert said.replace(" ", "").lower() == "detectallboats."
    with pytest.raises(UsageError, match="--labels"):
        open_grounded("omdet-turbo", (), caption="Detect boats.", **common)
    for wrong in (" ", "a" * 30):
        with pytest.raises(UsageError, match="1 to 22"):
            open_grounded("omdet-turbo", load_labels("cat"), caption=wrong, **common)


@pytest.mark.parametrize("old", [False, True])
def test_a_timm_backbone_loads_without_network(tmp_path, capfd, old):
    """The weights of a timm backbone come from the folder, also where its config is in transformers 4's form."""
    folder = make_omdet(tmp_path, timm=True)
    image = noise(64, 96)
    ((_, (boxes, scores)),) = load("omdet-turbo", folder, "cpu")[0].answers(image, ["cat"])
    if old:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kept = {"out_indices": values.pop("backbone_config")["out_indices"]}
        values |= {"backbone_config": None, "backbone": "test_resnet", "backbone_kwargs": kept}
        values |= {"use_timm_backbone": True, "use_pretrained_backbone": False}
        (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    capfd.readouterr()
    with no_network():
        backend, _ = load("omdet-turbo", folder, "cpu")
        ((_, (again, same)),) = backend.answers(image, ["cat"])
    assert capfd.readouterr() == ("", "")
    assert type(backend.parts.model.vision_backbone.vision_backbone).__name__ == "TimmBackbone"
    assert np.allclose(boxes, again, atol=1e-4) and np.allclose(scores, same, atol=1e-6)
    saved = transformers.modeling_utils.load_state_dict(folder / "model.safetensors")
    own = backend.parts.model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in saved.items() if "_backbone.conv1" in name)


def test_missing_and_bad_files_are_told(folder, tmp_path):
    """No weights: how to get them; a config that is none: which file."""
    with pytest.raises(ModelUnavailableError, match="hf download omlab/omdet-turbo-swin-tiny-hf"):
        load("omdet-turbo", None, "cpu")
    (tmp_path / "config.json").write_text('{"backbone_kwargs": {"out_indices": [1]}}', encoding="utf-8")
    with pytest.raises(ModelError, match=r"config\.json"):
        backbone_config(KIND, tmp_path)
    (tmp_path / "config.json").write_text("[", encoding="utf-8")
    with pytest.raises(ModelError, match=r"config\.json"):
        backbone_config(KIND, tmp_path)
