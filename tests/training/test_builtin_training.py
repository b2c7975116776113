"""The built-in model's training: its formulas, its repeatability, and its resumption after a kill."""

import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip import CLIP, get_tokenizer
from open_clip.modified_resnet import ModifiedResNet
from PIL import Image

from clipkit.training import pack
from clipkit.training.augment import crop, jitter
from clipkit.training.builtin import export, image_trainer, main
from clipkit.training.copies import copies
from clipkit.training.data import batch, load_training_data
from clipkit.training.loop import Recipe, Trainer
from clipkit.training.model import CONFIG, build, encode_image, load, resized_positions, save
from clipkit.training.names import Names, clean, load_names
from clipkit.training.objective import allowed_negatives, image_loss, text_loss
from clipkit.training.phrases import Phrases, plural
from clipkit.training.text import UNKNOWN, TextRecipe, TextTrainer, encode_text

CPU = torch.device("cpu")


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def names():
    vectors = unit(np.random.default_rng(0).standard_normal((6, 16)))
    return Names(("dog", "beagle", "cat", "car", "boat", "grass"), vectors, np.zeros(16, np.float32), 6, (), {1: 0})


@pytest.fixture
def packed(tmp_path):
    rng = np.random.default_rng(1)
    for name, side, labels in (("small", 16, ["dog", "cat", "car"]), ("large", 64, ["beagle", "boat"])):
        words = [labels[i % len(labels)] for i in range(24)]
        np.save(tmp_path / f"{name}.train.images.npy", rng.integers(0, 256, (24, side, side, 3), dtype=np.uint8))
        (tmp_path / f"{name}.train.labels.json").write_text(json.dumps(words))
    return tmp_path


def test_image_loss_equals_a_triple_loop():
    """The cross-entropy over the allowed names, written out."""
    rng = np.random.default_rng(0)
    features, targets = rng.standard_normal((5, 8)).astype(np.float32), unit(rng.standard_normal((4, 8)))
    labels, allowed, scale = [0, 1, 2, 3, 1], rng.random((4, 4)) < 0.6, 7.0
    shown = [[0, -1], [3, 1], [2, 0], [-1, -1], [-1, 2]]
    np.fill_diagonal(allowed, True)  # noqa: FBT003
    total = 0.0
    for feature, label, also in zip(features, labels, shown, strict=True):
        logits = [scale * float(np.dot(feature, t)) / float(np.linalg.norm(feature)) for t in targets]
        competing = {j for j in range(4) if allowed[label][j] and j not in also} | {label}
        total -= logits[label] - np.log(sum(np.exp(logits[j]) for j in competing))
    found = image_loss(
        torch.from_numpy(features),
        torch.tensor(labels),
        torch.tensor(shown),
        torch.from_numpy(targets),
        torch.from_numpy(allowed),
        torch.tensor(scale),
    )
    assert float(found) == pytest.approx(total / 5, rel=1e-5)


def test_text_loss_is_the_target_entropys_gap():
    """Zero for the target itself; for another vector, 1 - cosine plus the divergence, written out."""
    rng = np.random.default_rng(0)
    vocabulary = torch.from_numpy(unit(rng.standard_normal((7, 8))))
    target, other = vocabulary[:2], torch.from_numpy(unit(rng.standard_normal((2, 8))))
    assert float(text_loss(3 * target, target, vocabulary)) == pytest.approx(0, abs=1e-5)
    expected = 0.0
    for t, f in zip(target.double(), other.double(), strict=True):
        p = torch.softmax(20 * vocabulary.double() @ t, 0)
        q = torch.softmax(20 * vocabulary.double() @ f, 0)
        expected += float(1 - t @ f + (p * (p / q).log()).sum()) / 2
    assert float(text_loss(other, target, vocabulary)) == pytest.approx(expected, rel=1e-4)


def test_kinds_and_rare_names_are_no_negatives(names):
    """A beagle is no mistake for a dog, a dog is one for a cat, and a rare name is one for nobody."""
    rare = np.array([False, False, False, False, True, False])
    allowed = allowed_negatives(names.vectors, names.kinds, rare)
    assert not allowed[0, 1]
    assert not allowed[1, 0]
    assert allowed[0, 2]
    assert allowed[4, 4]
    assert not allowed[[0, 1, 2, 3, 5], 4].any()


def trainer(packed, names, steps=6):
    data = load_training_data(packed, names)
    torch.manual_seed(0)
    visual = ModifiedResNet(layers=[1, 1, 1, 1], output_dim=16, heads=2, image_size=64, width=8)
    vectors = names.vectors[data.vocabulary]
    allowed = allowed_negatives(vectors, {1: 0}, np.zeros(len(vectors), bool))
    recipe = Recipe(steps=steps, batch_size=8, phases=((32, 0.5), (64, 1.0)), warmup=2, save_every=2, averaging=0.5)
    return Trainer(visual, torch.from_numpy(vectors), allowed, data, recipe, CPU)


def test_a_killed_image_run_goes_on_to_the_same_weights(packed, names, tmp_path):
    """Kill after step 3, take up the checkpoint of step 2: the average ends bit-equal to the uninterrupted run's."""
    whole = trainer(packed, names)
    whole.run(tmp_path / "whole.pt", tmp_path / "whole.log")
    killed = trainer(packed, names)
    for _ in range(2):
        killed.train_step()
    killed.save(tmp_path / "killed.pt")
    killed.train_step()  # lost with the process
    resumed = trainer(packed, names)
    resumed.load(tmp_path / "killed.pt")
    resumed.run(tmp_path / "killed.pt", tmp_path / "killed.log")
    assert resumed.step == whole.step == 6
    for key, value in whole.average.items():
        assert torch.equal(value, resumed.average[key]), key


def test_the_teachers_classes_are_drawn_to_their_own_names(packed, names):
    """In the teacher's order, whether or not a set has pictures of them, beside the targets of the trained names."""
    some = replace(names, imagenet=(5, 1, 4))
    found = image_trainer(packed, some, Recipe(), CPU)
    np.testing.assert_array_equal(found.targets, names.vectors[found.data.vocabulary])
    np.testing.assert_array_equal(found.teacher_targets, names.vectors[[5, 1, 4]])
    assert 5 not in found.data.vocabulary


def text_trainer(names, captions):
    torch.manual_seed(0)
    tower = {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    model = CLIP(embed_dim=16, vision_cfg=vision, text_cfg=tower)
    return TextTrainer(model, names, captions, TextRecipe(steps=4, batch_size=8, warmup=2, save_every=2), CPU)


def test_a_killed_text_run_goes_on_to_the_same_weights(names, tmp_path):
    """As for the image tower; and a token never shown ends with the unknown token's vector."""
    captions = tmp_path / "captions.txt"
    captions.write_text(
        "Two dogs running on grass\nA cat in a car\nnothing known here\n" + "a dog chasing sticks\n" * 6
    )
    whole = text_trainer(names, captions)
    whole.run(tmp_path / "whole.pt", tmp_path / "log")
    killed = text_trainer(names, captions)
    for _ in range(2):
        killed.train_step()
    killed.save(tmp_path / "killed.pt")
    resumed = text_trainer(names, captions)
    resumed.load(tmp_path / "killed.pt")
    resumed.run(tmp_path / "killed.pt", tmp_path / "log")
    final = resumed.finished()
    for key, value in whole.finished().items():
        assert torch.equal(value, final[key]), key
    table = final["token_embedding.weight"]
    assert torch.equal(table[12_345], table[UNKNOWN])


def test_the_trimmed_text_tower_is_clips_own(names):
    """Trimming to the longest phrase changes nothing: the mask is causal and the pool is the end token."""
    model = text_trainer(names, None).model.eval()
    tokens = get_tokenizer("ViT-B-32", context_length=20)(["a dog", "a photo of a red car"])
    trimmed = tokens[:, : int(tokens.argmax(-1).max()) + 1]
    torch.testing.assert_close(encode_text(model, trimmed), model.encode_text(tokens))


def test_the_image_tower_runs_at_other_sides():
    """At its own side the call is the plain one; at another, the positions are resized and the mean token's is kept."""
    torch.manual_seed(0)
    visual = ModifiedResNet(layers=[1, 1, 1, 1], output_dim=16, heads=2, image_size=64, width=8).eval()
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(encode_image(visual, x), visual(x))
    assert encode_image(visual, torch.randn(2, 3, 32, 32)).shape == (2, 16)
    resized = resized_positions(visual.attnpool.positional_embedding, 3)
    assert resized.shape == (10, 256)
    assert torch.equal(resized[0], visual.attnpool.positional_embedding[0])


def test_a_model_moves_to_larger_pictures_and_answers_the_same(tmp_path):
    """A tower of 64 pixels exported for 96 is what training at 96 saw: the same features, to half precision."""
    torch.manual_seed(0)
    small = build(64).eval()
    save(small, tmp_path / "small")
    large = build(96).eval()
    large.load_state_dict(load(tmp_path / "small", 96), strict=False)
    out = tmp_path / "large"
    out.mkdir()
    torch.save({"step": 1, "average": large.visual.state_dict()}, out / "image.pt")
    export(out, 20.0, tmp_path / "small", 96)
    config = json.loads((out / CONFIG.name).read_text())
    assert config["model_cfg"]["vision_cfg"]["image_size"] == 96
    made = build(96).eval()
    made.load_state_dict(load(out), strict=False)
    pixels = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        assert torch.allclose(made.visual(pixels), encode_image(small.visual, pixels), atol=2e-2)


def test_training_goes_on_from_a_model_as_it_stands(packed, names, tmp_path):
    """With a model to begin from, the tower and the sharpness are its own, the positions made to fit."""
    torch.manual_seed(1)
    before = build(64)
    with torch.no_grad():
        before.logit_scale.fill_(3.5)
    save(before, tmp_path)
    some = replace(names, imagenet=(5, 1, 4))
    found = image_trainer(packed, some, Recipe(), CPU, init=tmp_path, side=96)
    assert found.log_scale.item() == pytest.approx(3.5)
    assert torch.allclose(found.visual.layer4[1].conv3.weight, before.visual.layer4[1].conv3.weight, atol=1e-3)
    assert found.visual.attnpool.positional_embedding.shape[0] == 10


@pytest.mark.parametrize("wrong", [["--share", "0.5"], ["--share", "1.5", "--init", "."], ["--share", "nan"]])
def test_a_share_needs_a_model_to_begin_from(wrong, tmp_path, capsys):
    """A share that could not be honoured is refused before anything is made."""
    out = tmp_path / "out"
    with pytest.raises(SystemExit):
        main(["--data", ".", "--embeddings", "none.npz", "--out", str(out), *wrong])
    assert "--share" in capsys.readouterr().err
    assert not out.exists()


def test_a_share_of_the_way_is_between_the_two_models(tmp_path):
    """Half of the way is the mean of the weights before and after; the counters of batch normalisation stay whole."""
    torch.manual_seed(2)
    before, after = build(64), build(64)
    save(before, tmp_path / "before")
    torch.save({"step": 1, "average": after.visual.state_dict()}, tmp_path / "image.pt")
    export(tmp_path, 20.0, tmp_path / "before", 64, share=0.5)
    made = load(tmp_path)
    for name in ("conv1.weight", "layer4.1.conv3.weight", "attnpool.positional_embedding"):
        mean = (before.visual.state_dict()[name] + after.visual.state_dict()[name]) / 2
        assert torch.allclose(made[f"visual.{name}"], mean, atol=1e-3), name
        assert not torch.allclose(made[f"visual.{name}"], after.visual.state_dict()[name], atol=1e-3), name
    assert made["visual.bn1.num_batches_tracked"] == 0
    export(tmp_path, 20.0, tmp_path / "before", 64)
    assert torch.allclose(load(tmp_path)["visual.conv1.weight"], after.visual.state_dict()["conv1.weight"], atol=1e-3)


@pytest.mark.skipif(sys.platform != "linux", reason="training with several workers is for Linux")
def test_workers_draw_apart_and_stay_alike(packed, tmp_path):
    """Two workers see different pictures, and end with the same weights, which come from the mean of their gradients."""
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}"]
    subprocess.run([*command, str(script), str(packed)], check=True, timeout=120)
    first, second = (torch.load(packed / f"worker{i}.pt", weights_only=True) for i in (0, 1))
    assert not torch.equal(first["pictures"], second["pictures"])
    assert torch.equal(first["weight"], second["weight"])
    assert torch.allclose(first["shared"], (first["own"] + second["own"]) / 2, atol=1e-7)


WORKERS = """
import sys
from pathlib import Path
import torch
from torch import distributed, nn
from clipkit.training.loop import share_gradients, worker

distributed.init_process_group("gloo")
rank, workers = worker()
assert workers == 2
torch.manual_seed(0)
layer = nn.Linear(4, 3, bias=False)
pictures = torch.randn(5, 4, generator=torch.Generator().manual_seed(rank))
layer(pictures).square().sum().backward()
own = layer.weight.grad.clone()
share_gradients(list(layer.parameters()), workers)
shared = layer.weight.grad.clone()
torch.optim.SGD(layer.parameters(), 0.1).step()
torch.save({"pictures": pictures, "own": own, "shared": shared, "weight": layer.weight.detach()}, Path(sys.argv[1]) / f"worker{rank}.pt")
distributed.barrier()
distributed.destroy_process_group()
"""


def test_a_batch_depends_on_seed_and_step_alone(packed, names):
    """The same twice, another at the next step, and within the trained vocabulary."""
    data = load_training_data(packed, names)
    first, again, other = (batch(data, step, 16, 32, 0, CPU) for step in (5, 5, 6))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.images, other.images)
    assert first.images.shape == (16, 3, 32, 32)
    assert int(first.labels.max()) < len(data.vocabulary)
    assert data.kind_of[list(data.vocabulary).index(1)] == list(data.vocabulary).index(0)


def test_crops_of_a_flat_picture_are_flat():
    """No crop reaches outside the picture: a constant stays constant."""
    found = crop(torch.full((8, 3, 48, 48), 0.25), 32, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, torch.full((8, 3, 32, 32), 0.25))


def test_jitter_is_saturation_then_contrast_then_brightness():
    """Each written out, picture by picture."""
    pictures, generator = torch.rand(4, 3, 5, 6), torch.Generator()
    drawn = (torch.rand(4, 3, 1, 1, 1, generator=generator.manual_seed(3)) * 2 - 1).flatten(1) * 0.2
    found = jitter(pictures.clone(), generator.manual_seed(3))
    for picture, (saturation, contrast, brightness), one in zip(pictures, drawn.tolist(), found, strict=True):
        grey = picture.mean(dim=0)
        saturated = torch.stack([grey + (channel - grey) * (1 + saturation) for channel in picture])
        contrasted = grey.mean() + (saturated - grey.mean()) * (1 + contrast)
        torch.testing.assert_close(one, (contrasted + brightness / 2).clamp(0, 1))


def test_names_read_clean_compose_and_borrow(tmp_path):
    """A parenthesis is dropped, a list's repetition averaged, a synonym equal, a composed name near its parts but no one's twin."""
    rng = np.random.default_rng(0)
    lists = {
        "imagenet": ["cat", "dog"],
        "lvis": ["cat", "Crane_(bird)", "car"],
        "oid": ["Tree"],
        "o365": ["Car"],
        "coco": ["cat"],
    }
    arrays = {}
    for key, words in lists.items():
        arrays[f"{key}_names"], arrays[key] = (
            np.array(words),
            unit(rng.standard_normal((len(words), 32))).astype(np.float16),
        )
    np.savez(tmp_path / "text.npz", **arrays)
    table = {
        "synonyms": {"kitten": "cat"},
        "composed": {"treehouse": ["tree", "car"]},
        "kinds": {"cat": ["dog"], "car": "imagenet:0-1"},
    }
    (tmp_path / "names.json").write_text(json.dumps(table))
    names = load_names(tmp_path / "text.npz", tmp_path / "names.json")
    assert names.names == ("cat", "dog", "crane", "car", "tree", "treehouse", "kitten")
    assert names.given == 5
    assert clean("Crane_(bird)") == "crane"
    np.testing.assert_array_equal(names.vectors[6], names.vectors[0])
    likeness = names.vectors[:6] @ names.vectors[5]
    assert set(np.argsort(-likeness)[:3]) == {5, 3, 4}
    with pytest.raises(KeyError, match="add it to names"):
        names.index("unheard of")


def test_phrases_know_plurals_and_mentions(names, tmp_path):
    """Captions are read longest match first, plurals included; frequent unknown words get a place."""
    captions = tmp_path / "captions.txt"
    captions.write_text("Two dogs running on grass\n" * 3 + "a dog chasing sticks\n" * 6 + "a cat in a car\n" * 6)
    phrases = Phrases(names, captions)
    assert [names.names[i] for i in phrases.mentions("Two dogs running on grass")] == ["dog", "grass"]
    assert "sticks" in phrases.words
    meaning = phrases.meaning("two dogs running on grass")
    assert meaning @ names.vectors[0] > meaning @ names.vectors[2]
    assert [plural(w) for w in ("fire engine", "bus", "berry", "policeman", "sheep", "person")] == [
        "fire engines",
        "buses",
        "berries",
        "policemen",
        "sheep",
        "people",
    ]
    assert phrases.batch(3, 16, 0)[0] == phrases.batch(3, 16, 0)[0]


def test_pack_reads_a_repository(tmp_path, monkeypatch):
    """A clone's labelled pictures become arrays; a broken one and a held-out duplicate are left out."""
    home = tmp_path / "clones" / "someone+pictures"
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)).resize((90, 60)) for _ in range(3)]
    for i, photo in enumerate(photos):
        (home / "train" / "cats").mkdir(parents=True, exist_ok=True)
        photo.save(home / "train" / "cats" / f"{i}.jpg", quality=95)
    (home / "train" / "cats" / "broken.jpg").write_bytes(b"not a picture")
    held = tmp_path / "held"
    held.mkdir()
    photos[0].save(held / "photo.jpg", quality=80)
    git = ["git", "-C", str(home), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "pictures"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    source = {
        "name": "pets",
        "repository": "someone/pictures",
        "commit": head,
        "train": "train/(?P<label>\\w+)/",
        "classes": {"cats": "cat"},
    }
    banned = pack._excluded([held], 32)
    pack.pack_split(source, "train", tmp_path / "clones", tmp_path, 32, source["classes"], banned)
    assert np.load(tmp_path / "pets.train.images.npy").shape == (2, 32, 32, 3)
    assert json.loads((tmp_path / "pets.train.labels.json").read_text()) == ["cat", "cat"]
    with pytest.raises(FileNotFoundError, match="git clone"):
        pack.git_directory(tmp_path / "clones", "someone/else")


def test_a_held_out_thumbnail_is_known_in_another_crop():
    """A picture squeezed from 4:3 to a square is the one whose middle square was held out; another picture is not."""
    rng = np.random.default_rng(0)
    photos = [
        Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((160, 120), Image.Resampling.BICUBIC)
        for _ in range(4)
    ]
    squeezed = np.stack([np.asarray(photo.resize((84, 84))) for photo in photos])
    held_out = np.stack([np.asarray(photo.crop((20, 0, 140, 120)).resize((64, 64))) for photo in photos[:2]])
    assert copies(squeezed, ["cat"] * 4, held_out, ["cat", "cat"]).tolist() == [True, True, False, False]
    assert copies(squeezed, ["cat"] * 4, held_out, ["cat", "dog"]).tolist() == [True, False, False, False]
    assert not copies(squeezed, ["car"] * 4, held_out, ["cat", "dog"]).any()


def test_packing_leaves_out_copies_of_held_out_pictures(tmp_path):
    """A set said to hold pictures of another's held-out split loses exactly those; labels by file and number are read."""
    home = tmp_path / "clones" / "someone+pictures"
    (home / "val").mkdir(parents=True)
    rng = np.random.default_rng(0)
    photos = [
        Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((96, 96), Image.Resampling.BICUBIC)
        for _ in range(3)
    ]
    for i, photo in enumerate(photos):
        photo.save(home / "val" / f"{i}.png")
    (home / "val.txt").write_text("./val/0.png, 1\n./val/1.png, 1\n./val/2.png, 0\n")
    git = ["git", "-C", str(home), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "pictures"]):
        subprocess.run([*git, *command], check=True)
    np.save(tmp_path / "thumbs.held-out.images.npy", np.stack([np.asarray(photos[0].resize((64, 64)))]))
    (tmp_path / "thumbs.held-out.labels.json").write_text('["cat"]')
    source = {
        "name": "more", "repository": "someone/pictures", "commit": "HEAD", "may_hold": "thumbs",
        "train": "val/(?P<file>.+)", "train_labels": "val.txt",
    }  # fmt: skip
    pack.pack_split(source, "train", tmp_path / "clones", tmp_path, 32, {"0": "car", "1": "cat"}, pack.NO_HASHES)
    assert json.loads((tmp_path / "more.train.labels.json").read_text()) == ["cat", "car"]
    assert len(np.load(tmp_path / "more.train.images.npy")) == 2


def test_every_source_is_whole():
    """Each public set names its repository, commit and licence, and its expressions compile."""
    sources = json.loads(pack.SOURCES.read_text())
    assert len({s["name"] for s in sources}) == len(sources)
    for source in sources:
        assert {"repository", "commit", "licence", "train", "classes"} <= set(source)
        assert len(source["commit"]) == 40
        assert source.get("may_hold", "tiny-imagenet") in {s["name"] for s in sources if "held_out" in s}


def test_the_rate_warms_up_holds_and_decays():
    """A trapezoid from 0 to 0."""
    recipe = replace(Recipe(), steps=100, warmup=10, decay=0.5, learning_rate=1.0)
    assert [recipe.rate(s) for s in (4, 20, 50, 75)] == [0.5, 1.0, 1.0, 0.5]
    assert Path(pack.SOURCES).is_file()
