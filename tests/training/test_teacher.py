"""The teacher's soft labels: the network, what is stored of it, and the loss that listens to it."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import mobilenet_v2

from clipkit.training import teacher
from clipkit.training.data import batch, load_training_data
from clipkit.training.names import Names
from clipkit.training.objective import image_loss, teacher_loss
from clipkit.training.teacher import KEPT, TEMPERATURE, MobileNetV2, SameConv, load_teacher, soft_labels, teacher_file


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def folded(conv, norm):
    """Weight and bias of a convolution and the batch normalisation behind it, as one."""
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    return conv.weight * factor[:, None, None, None], norm.bias - norm.running_mean * factor


def test_mobilenet_equals_torchvisions_with_its_normalisation_folded():
    """With an odd side both pad alike."""
    torch.manual_seed(0)
    theirs = mobilenet_v2(num_classes=7).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.2)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    ours = MobileNetV2(7).eval()
    state = {}
    stem, *blocks, head = theirs.features
    state["stem.weight"], state["stem.bias"] = folded(stem[0], stem[1])
    state["head.weight"], state["head.bias"] = folded(head[0], head[1])
    state["fc.weight"], state["fc.bias"] = theirs.classifier[1].weight, theirs.classifier[1].bias
    for number, block in enumerate(blocks):
        *activated, conv, norm = block.conv
        for name, part in zip(("expand", "depthwise")[-len(activated) :], activated, strict=True):
            state[f"blocks.{number}.{name}.weight"], state[f"blocks.{number}.{name}.bias"] = folded(part[0], part[1])
        state[f"blocks.{number}.project.weight"], state[f"blocks.{number}.project.bias"] = folded(conv, norm)
    ours.load_state_dict(state)
    pictures = torch.randn(2, 3, 65, 65)
    with torch.no_grad():
        torch.testing.assert_close(ours(pictures), theirs(pictures), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [6, 7])
def test_the_odd_pixel_of_padding_comes_last(side):
    """Stride 2 over an even side pads behind only, as TensorFlow does; written out for each place."""
    conv = SameConv(1, 1, 3, 2)
    picture = torch.randn(1, 1, side, side)
    found = conv(picture)[0, 0]
    before = 0 if side % 2 == 0 else 1
    for y, x in np.ndindex(*found.shape):
        total = float(conv.bias.detach())
        for i, j in np.ndindex(3, 3):
            row, column = 2 * y + i - before, 2 * x + j - before
            if 0 <= row < side and 0 <= column < side:
                total += float(conv.weight.detach()[0, 0, i, j] * picture[0, 0, row, column])
        assert float(found.detach()[y, x]) == pytest.approx(total, abs=1e-5)


def test_soft_labels_are_the_likeliest_classes_without_the_background():
    """Class 0 of the network is none of the thousand; shares are those of the softened logits, and sum to one."""
    logits = torch.linspace(-3, 3, 40).repeat(3, 1)
    logits[:, 0] = 100
    logits[1, 5] = 9
    seen = []

    def network(pictures):
        seen.append(pictures)
        return logits[: len(pictures)]

    classes, shares = soft_labels(network, np.full((3, 96, 96, 3), 255, np.uint8))
    assert seen[0].shape == (3, 3, 160, 160)
    torch.testing.assert_close(seen[0], torch.ones_like(seen[0]))
    assert classes.shape == shares.shape == (3, KEPT)
    assert classes[0].tolist() == list(range(38, 38 - KEPT, -1))
    assert classes[1][0] == 4
    wanted = np.exp(logits[0, 1:].numpy()[classes[0]] / TEMPERATURE)
    np.testing.assert_allclose(shares[0], wanted / wanted.sum(), rtol=2e-3)


def test_every_set_of_large_pictures_is_labelled_once(tmp_path, capsys):
    """Thumbnails are left out; a second call finds nothing to do; --only names a set."""
    torch.manual_seed(0)
    save_file({k: v.half() for k, v in MobileNetV2().state_dict().items()}, tmp_path / "net.safetensors")
    rng = np.random.default_rng(0)
    for name, side in (("a", 64), ("b", 96), ("tiny", 32)):
        np.save(tmp_path / f"{name}.train.images.npy", rng.integers(0, 256, (3, side, side, 3), dtype=np.uint8))
    options = ["--data", str(tmp_path), "--weights", str(tmp_path / "net.safetensors")]
    teacher.main([*options, "--only", "b"])
    assert "3 pictures" in capsys.readouterr().out
    teacher.main(options)
    assert capsys.readouterr().out.split()[0] == "a"
    teacher.main(options)
    assert not capsys.readouterr().out
    with np.load(tmp_path / "b.train.teacher.npz") as z:
        again, _ = soft_labels(
            load_teacher(tmp_path / "net.safetensors"), np.load(tmp_path / "b.train.images.npy"), chunk=2
        )
        assert (z["classes"] == again).all()
    assert not teacher_file(tmp_path / "tiny.train.images.npy").exists()


def test_teacher_loss_is_the_softened_divergence_written_out():
    """Four times the mean KL at temperature 2; nothing for a picture that the teacher was not shown."""
    rng = np.random.default_rng(0)
    features, targets, scale = rng.standard_normal((3, 8)), unit(rng.standard_normal((6, 8))), 9.0
    classes = np.array([[1, 4], [5, 0], [0, 0]])
    shares = np.array([[0.75, 0.25], [1.0, 0.0], [0.0, 0.0]])
    total = 0.0
    for feature, some, parts in zip(features, classes, shares, strict=True):
        logits = [scale * float(feature @ t) / float(np.linalg.norm(feature)) / TEMPERATURE for t in targets]
        log_sum = np.log(sum(np.exp(z) for z in logits))
        total += sum(p * (np.log(p) - logits[c] + log_sum) for c, p in zip(some, parts, strict=True) if p)
    inputs = [torch.from_numpy(x).float() for x in (features, shares, targets)]
    inputs[0].requires_grad_()
    found = teacher_loss(inputs[0], torch.from_numpy(classes), inputs[1], inputs[2], torch.tensor(scale))
    assert float(found.detach()) == pytest.approx(TEMPERATURE**2 * total / 3, rel=1e-5)
    found.backward()
    assert not inputs[0].grad[2].any()
    assert inputs[0].grad[:2].any(dim=1).all()


def test_a_picture_without_a_name_counts_for_nothing():
    """The sum over the named is divided by all: a batch of few named pictures takes a smaller step, not a wilder one."""
    rng = np.random.default_rng(0)
    features, targets = torch.from_numpy(rng.standard_normal((4, 8))).float(), torch.eye(3, 8)
    allowed, scale = torch.ones(3, 3, dtype=torch.bool), torch.tensor(5.0)
    shown = torch.tensor([[0], [-1], [2], [-1]])
    some = image_loss(features, shown[:, 0], shown, targets, allowed, scale)
    named = image_loss(features[[0, 2]], torch.tensor([0, 2]), shown[[0, 2]], targets, allowed, scale)
    assert float(some) == pytest.approx(float(named) / 2)
    assert float(image_loss(features, torch.full((4,), -1), torch.full((4, 1), -1), targets, allowed, scale)) == 0


def test_pictures_labels_and_soft_labels_of_a_batch_belong_together(tmp_path):
    """Red, green and blue pictures of two sizes, in two sets of which one has no names and one no teacher."""
    names = Names(("red", "green", "blue"), np.eye(3, dtype=np.float32), np.zeros(3, np.float32), 3, (), {})
    rows = np.tile(np.arange(3), 20)
    for name, side, words in (("named", 32, ["red", "green", "blue"] * 20), ("unnamed", 64, [""] * 60)):
        pictures = np.zeros((60, side, side, 3), np.uint8)
        pictures[np.arange(60), ..., rows] = 200
        np.save(tmp_path / f"{name}.train.images.npy", pictures)
        (tmp_path / f"{name}.train.labels.json").write_text(json.dumps(words))
    classes = np.zeros((60, KEPT), np.int16)
    shares = np.zeros((60, KEPT), np.float16)
    classes[:, 0], shares[:, 0] = 10 + rows, 1
    np.savez(tmp_path / "unnamed.train.teacher.npz", classes=classes, shares=shares)
    data = load_training_data(tmp_path, names)
    assert data.counts.tolist() == [20, 20, 20]
    drawn = batch(data, 0, 32, 32, 0, torch.device("cpu"))
    colours = drawn.images.mean(dim=(2, 3)).argmax(dim=1)
    named = drawn.labels >= 0
    assert 0 < int(named.sum()) < 32
    assert torch.equal(drawn.labels[named], colours[named])
    assert torch.equal(drawn.classes[~named, 0], 10 + colours[~named])
    assert not drawn.shares[named].any()
    assert (drawn.shares[~named].sum(dim=1) == 1).all()
