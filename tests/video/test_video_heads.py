"""The temporal heads are the authors': frozen outputs of their code, on weights drawn from parameter names."""

from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import fill, given, state_of
from torch.nn.functional import cosine_similarity

from clipkit.prompts.ensemble import ClassVectors
from clipkit.prompts.labels import Label
from clipkit.prompts.scores import class_scores
from clipkit.video import actionclip, clip4clip
from clipkit.video.pooling import mean_pool, plain_mean, unit
from clipkit.video.sampling import segment_centres

GOLDEN = Path(__file__).parent / "golden"
D = 128
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def frozen():
    """The authors' outputs."""
    return np.load(GOLDEN / "clip4clip.npz"), np.load(GOLDEN / "actionclip.npz"), np.load(GOLDEN / "sampling.npz")


def videos():
    """3 texts, 5 videos of 12 frames, and how many of them are real."""
    mask = torch.zeros(5, 12)
    for row, count in enumerate((12, 7, 1, 12, 4)):
        mask[row, :count] = 1
    return given("texts", (3, 1, D))[:, 0], given("frames", (5, 12, D)), mask


def test_mean_pooling_is_the_authors(frozen):
    """meanP in torch and in numpy gives the authors' logits."""
    texts, frames, mask = videos()
    ours = clip4clip.mean_similarity(texts, frames, mask, 50.0).numpy()
    np.testing.assert_allclose(ours, frozen[0]["meanP"], **CLOSE)
    in_numpy = 50.0 * unit(texts.numpy()) @ mean_pool(frames.numpy(), mask.numpy().astype(bool)).T
    np.testing.assert_allclose(in_numpy, frozen[0]["meanP"], **CLOSE)


@pytest.mark.parametrize(
    ("name", "module"), [("seqTransf", clip4clip.SeqTransf(D, 4, 77)), ("seqLSTM", clip4clip.SeqLSTM(D))]
)
def test_sequential_heads_are_the_authors(frozen, name, module):
    """seqTransf and seqLSTM, padding included, and picked from a checkpoint by their keys."""
    texts, frames, mask = videos()
    found, head = clip4clip.build(state_of(module))
    assert found == name
    with torch.no_grad():
        ours = clip4clip.mean_similarity(texts, head(frames, mask), mask, 50.0)
    np.testing.assert_allclose(ours, frozen[0][name], **CLOSE)


def test_the_tight_head_is_the_authors(frozen):
    """tightTransf with its cross model and linear similarity."""
    texts, frames, mask = videos()
    found, head = clip4clip.build(state_of(clip4clip.TightTransf(D, 4, 77)))
    assert found == "tightTransf"
    with torch.no_grad():
        np.testing.assert_allclose(head(texts, frames, mask), frozen[0]["tightTransf"], **CLOSE)


def test_no_head_in_the_keys_is_mean_pooling():
    """A checkpoint with nothing but CLIP's weights is meanP."""
    assert clip4clip.build({"clip.logit_scale": torch.zeros(())}) == ("meanP", None)


@pytest.mark.parametrize("module", [clip4clip.SeqTransf(D, 2, 77), clip4clip.SeqLSTM(D), None])
def test_a_video_without_frames_scores_zero_and_not_nan(module):
    """Full padding gives 0 for the loose heads, and every other video keeps its score."""
    texts, frames, mask = videos()
    mask[2] = 0
    with torch.no_grad():
        hidden = frames if module is None else fill(module)(frames, mask)
        scores = clip4clip.mean_similarity(texts, hidden, mask, 50.0)
    assert torch.isfinite(scores).all()
    assert (scores[:, 2] == 0).all()
    assert mean_pool(frames.numpy(), mask.numpy().astype(bool))[2].tolist() == [0.0] * D


def test_a_video_without_frames_is_no_nan_for_the_tight_head():
    """The cross model still sees the text token, so the logit is a number."""
    texts, frames, mask = videos()
    mask[:] = 0
    with torch.no_grad():
        assert torch.isfinite(fill(clip4clip.TightTransf(D, 2, 77))(texts, frames, mask)).all()


def test_padding_changes_nothing():
    """A video of 4 frames scores the same alone and padded to 12 beside longer ones."""
    texts, frames, mask = videos()
    for module in (fill(clip4clip.SeqTransf(D, 2, 77)), fill(clip4clip.SeqLSTM(D))):
        with torch.no_grad():
            padded = clip4clip.mean_similarity(texts, module(frames, mask), mask, 1.0)[:, 4]
            alone = clip4clip.mean_similarity(texts, module(frames[4:, :4], mask[4:, :4]), mask[4:, :4], 1.0)[:, 0]
        torch.testing.assert_close(padded, alone, rtol=1e-5, atol=1e-6)


def test_mean_pooling_by_loops():
    """meanP is the cosine of the text with the mean of unit frames, written as loops."""
    texts, frames, mask = videos()
    ours = clip4clip.mean_similarity(texts, frames, mask, 1.0)
    for t in range(3):
        for v in range(5):
            real = [frames[v, i] / frames[v, i].norm() for i in range(12) if mask[v, i]]
            expected = cosine_similarity(texts[t], sum(real) / len(real), dim=0)
            assert float(ours[t, v]) == pytest.approx(float(expected), abs=1e-6)


FUSIONS = {
    "meanP": actionclip.MeanFusion(),
    "LSTM": actionclip.LSTMFusion(D),
    "Conv_1D": actionclip.ConvFusion(D),
    "Transf": actionclip.TransfFusion(D, 2, 6, 77),
    "Transf_cls": actionclip.TransfClsFusion(D, 6, 8),
}


@pytest.mark.parametrize("name", FUSIONS)
def test_fusion_heads_are_the_authors(frozen, name):
    """All five fusion heads, picked from a checkpoint by their keys."""
    found, head = actionclip.build(state_of(FUSIONS[name], "fusion."), heads=2)
    assert found == name
    with torch.no_grad():
        np.testing.assert_allclose(head(given("action", (4, 8, D))), frozen[1][name], **CLOSE)


def test_the_plain_mean_is_not_mean_pooling(frozen):
    """ActionCLIP averages frames as they are, CLIP4Clip unit frames: the directions differ."""
    frames = given("action", (4, 8, D)).numpy() * np.linspace(0.2, 3, 8, dtype=np.float32)[:, None]
    assert np.abs(plain_mean(frames) - mean_pool(frames)).max() > 0.05
    np.testing.assert_allclose(
        plain_mean(given("action", (4, 8, D)).numpy()), unit(frozen[1]["meanP"]), rtol=1e-4, atol=1e-6
    )


def pairs():
    """Logits of 6 pairs as the authors' `create_logits` makes them, and their labels."""
    a, b = given("a", (6, D)), given("b", (6, D))
    a, b = a / a.norm(dim=-1, keepdim=True), b / b.norm(dim=-1, keepdim=True)
    return 10 * a @ b.T, torch.tensor([3, 1, 3, 2, 1, 0])


def test_the_loss_is_the_authors(frozen):
    """The two-way KL loss, against the frozen number and against its definition in loops."""
    logits, labels = pairs()
    ours = float(actionclip.kl_loss(logits, logits.T, labels))
    assert ours == pytest.approx(float(frozen[1]["kl"]), abs=1e-5)
    total = 0.0
    for matrix in (logits.double(), logits.T.double()):
        for i in range(6):
            weights = [np.exp(10.0 * float(labels[i] == labels[j])) for j in range(6)]
            norm = float(torch.logsumexp(matrix[i], 0))
            for j in range(6):
                target = weights[j] / sum(weights)
                total += target * (np.log(target) - (float(matrix[i, j]) - norm)) / 6 / 2
    assert ours == pytest.approx(total, rel=1e-5)


def test_the_loss_has_the_right_gradient():
    """The gradient agrees with finite differences."""
    logits, labels = pairs()
    logits = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: actionclip.kl_loss(x, x.T, labels), logits)


def classes(prompts, count, reduction):
    """Prompt vectors in the authors' order (template-major) as the project's class vectors."""
    vectors = unit(prompts).reshape(16, count, D).transpose(1, 0, 2)
    if reduction == "embed":
        vectors = unit(vectors.mean(axis=1, keepdims=True))
    labels = tuple(Label(f"c{i}", (f"c{i}",)) for i in range(count))
    return ClassVectors(labels, np.ascontiguousarray(vectors), np.arange(count), reduction)


def test_probabilities_are_averaged_as_the_authors_do(frozen):
    """16 softmaxes averaged give the authors' probabilities; averaging vectors first gives others."""
    images = unit(frozen[1]["Transf"])
    prompts = given("prompts", (16 * 5, D)).numpy()
    scores = {
        how: class_scores(images, classes(prompts, 5, how), scoring="softmax", logit_scale=100.0)
        for how in ("prob", "embed")
    }
    np.testing.assert_allclose(scores["prob"], frozen[1]["probabilities"], **CLOSE)
    assert np.abs(scores["prob"] - scores["embed"]).max() > 0.05


@pytest.mark.parametrize("rate", [25.0, 30000 / 1001])
def test_segment_centres_are_the_authors_frames(frozen, rate):
    """At a constant frame rate the times fall into exactly the frames ActionCLIP's sampling names."""
    for name in frozen[2].files:
        count = int(name[1:])
        times = segment_centres(0.0, count / rate, 8, rate)
        assert [int(t * rate + 1e-9) for t in times] == frozen[2][name].tolist(), name
