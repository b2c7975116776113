"""Checkpoints in the authors' layouts load whole, pick their head by their keys, and answer as the authors' code does."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import drawn, given, state_of
from typer.testing import CliRunner
from video_clips import film, steady

from clipkit.cli.app import app
from clipkit.errors import ModelError, UsageError
from clipkit.video import actionclip, clip4clip
from clipkit.video.checkpoints import load_action, load_retrieval
from clipkit.video.pooling import mean_pool, unit

GOLDEN = np.load(Path(__file__).parent / "golden" / "clip4clip.npz")
D = 128
HEADS = {
    "meanP": None,
    "seqTransf": clip4clip.SeqTransf(D, 4, 77),
    "seqLSTM": clip4clip.SeqLSTM(D),
    "tightTransf": clip4clip.TightTransf(D, 4, 77),
}


@pytest.fixture(scope="module")
def clip_state():
    """A small CLIP in OpenAI's layout, every tensor drawn from its name."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(layers=2, width=64, patch_size=16, image_size=32)
    text = CLIPTextCfg(context_length=77, vocab_size=49408, width=D, heads=2, layers=2)
    model = CLIP(D, vision, text, quick_gelu=True)
    return {k: torch.from_numpy(drawn(f"clip.{k}", tuple(v.shape))) for k, v in model.named_parameters()}


@pytest.fixture
def save(tmp_path, clip_state):
    """A function: head state and prefix -> a CLIP4Clip checkpoint file."""

    def write(head=None, prefix="", **extra):
        state = {f"{prefix}clip.{k}": v for k, v in clip_state.items()}
        state |= {f"{prefix}{k}": v for k, v in (head or {}).items()} | extra
        torch.save(state, tmp_path / "pytorch_model.bin.4")
        return tmp_path / "pytorch_model.bin.4"

    return write


@pytest.mark.parametrize("name", HEADS)
def test_a_checkpoint_answers_as_the_authors_do(save, name):
    """From pixels and token ids to the score, through CLIP and the head, within 1e-5 of the frozen answers."""
    module = HEADS[name]
    loaded = load_retrieval(save(state_of(module) if module is not None else None, prefix="module."))
    assert loaded.head.name == name
    ids = torch.zeros(2, 77, dtype=torch.long)
    for row, tokens in enumerate(([49406, 320, 1929, 9703, 320, 3365, 49407], [49406, 518, 2368, 533, 14626, 49407])):
        ids[row, : len(tokens)] = torch.tensor(tokens)
    with torch.no_grad():
        texts = loaded.clip.model.encode_text(ids).numpy()
    frames = loaded.clip.encode_images(given("pixels", (8, 3, 32, 32)).numpy(), normalize=False).reshape(2, 4, D)
    np.testing.assert_allclose(texts, GOLDEN["end_texts"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(frames, GOLDEN["end_frames"], rtol=1e-4, atol=1e-5)
    videos = [loaded.head.contextualise(video) for video in (frames[0], frames[1, :2])]
    for row, text in enumerate(texts):
        scores = loaded.head.rerank(text, videos)
        if scores is None:
            scores = loaded.clip.logit_scale * np.stack([mean_pool(v) for v in videos]) @ unit(text)
        # logits reach 6 in size; the bound is 1e-5 of a cosine
        np.testing.assert_allclose(scores, GOLDEN[f"end_{name}"][row], rtol=1e-5, atol=5e-5)


def test_positions_bound_the_frames(save):
    """Heads with position embeddings say how many frames they can take; meanP and seqLSTM take any number."""
    assert load_retrieval(save(state_of(HEADS["seqTransf"]))).head.max_frames == 77
    assert load_retrieval(save(state_of(HEADS["tightTransf"]))).head.max_frames == 76
    assert load_retrieval(save(state_of(HEADS["seqLSTM"]))).head.max_frames is None


def test_long_texts_are_cut_to_32_tokens(save):
    """As in the paper a text has at most 32 tokens, the end token included."""
    clip = load_retrieval(save()).clip
    rows = clip.tokenize(["a dog " * 40, "a dog"])
    assert rows.shape == (2, 77)
    assert np.count_nonzero(rows[0]) == 32
    assert rows[0, 31] == 49407
    assert np.isfinite(clip.encode_texts(["a dog " * 40])).all()


def test_half_precision_and_tensorflow_names_load(save, clip_state):
    """float16 tensors and norms called gamma and beta (early releases) give the same model."""
    head = state_of(HEADS["seqTransf"])
    plain = load_retrieval(save(head)).head
    renamed = {(k.replace("ln_1.weight", "ln_1.gamma").replace("ln_1.bias", "ln_1.beta")): v for k, v in head.items()}
    frames = given("frames", (5, 12, D))[0].numpy()
    np.testing.assert_array_equal(load_retrieval(save(renamed)).head.contextualise(frames), plain.contextualise(frames))
    half = {k: v.half() for k, v in head.items()}
    np.testing.assert_allclose(
        load_retrieval(save(half)).head.contextualise(frames), plain.contextualise(frames), atol=5e-3
    )


@pytest.fixture
def save_action(tmp_path, clip_state):
    """A function: fusion state -> an ActionCLIP checkpoint file, its fusion part saved under DataParallel."""

    def write(fusion, **extra):
        found = {
            "epoch": 3,
            "model_state_dict": clip_state | extra,
            "fusion_model_state_dict": {f"module.{k}": v for k, v in fusion.items()},
            "optimizer_state_dict": {},
        }
        torch.save(found, tmp_path / "model_best.pt")
        return tmp_path / "model_best.pt"

    return write


def test_an_action_checkpoint_answers_as_the_authors_do(save_action):
    """The published head (Transf) from its checkpoint gives the authors' vectors, and their scale of 100."""
    golden = np.load(Path(__file__).parent / "golden" / "actionclip.npz")
    loaded = load_action(save_action(state_of(actionclip.TransfFusion(D, 2, 6, 77), "fusion.")))
    assert loaded.fusion.name == "Transf"
    assert loaded.fusion.logit_scale == 100.0
    frames = given("action", (4, 8, D)).numpy()
    np.testing.assert_allclose(loaded.fusion.fuse(frames), unit(golden["Transf"]), rtol=1e-5, atol=1e-6)
    assert loaded.clip.encode_images(given("pixels", (8, 3, 32, 32)).numpy()).shape == (8, D)


def test_a_class_token_head_takes_its_own_number_of_frames(save_action):
    """Transf_cls has positions for one length only, and says which."""
    loaded = load_action(save_action(state_of(actionclip.TransfClsFusion(D, 1, 8), "fusion.")))
    with pytest.raises(UsageError, match="--frames 8"):
        loaded.fusion.fuse(given("action", (4, 8, D)).numpy()[:, :5])


def test_wrong_files_say_what_they_are(tmp_path, save, save_action, clip_state):
    """Missing, damaged, foreign, swapped and unsupported checkpoints each give one clear line."""
    with pytest.raises(UsageError, match="no such checkpoint"):
        load_retrieval(tmp_path / "none.bin")
    (tmp_path / "noise.bin").write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="is the file whole"):
        load_retrieval(tmp_path / "noise.bin")
    with pytest.raises(ModelError, match="classify-video"):
        load_retrieval(save_action({}))
    with pytest.raises(ModelError, match="fusion_model_state_dict"):
        load_action(save())
    head = state_of(HEADS["seqTransf"])
    del head["transformerClip.resblocks.1.mlp.c_fc.weight"]
    with pytest.raises(ModelError, match="temporal head is incomplete"):
        load_retrieval(save(head))
    with pytest.raises(ModelError, match="linear_patch 3d"):
        load_retrieval(save(**{"clip.visual.conv2.weight": torch.zeros(1)}))
    with pytest.raises(ModelError, match="tsm"):
        load_action(save_action({}, **{"visual.transformer.resblocks.0.net.ln_1.weight": torch.zeros(1)}))
    broken = {k: v for k, v in clip_state.items() if k != "visual.proj"}
    torch.save({f"clip.{k}": v for k, v in broken.items()}, tmp_path / "broken.bin")
    with pytest.raises(ModelError, match="no ViT in OpenAI's layout"):
        load_retrieval(tmp_path / "broken.bin")


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    """Checkpoints are data: a pickle that would call something is refused, not run."""

    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"clip.x": Trap()}, tmp_path / "trap.bin")
    with pytest.raises(ModelError):
        load_retrieval(tmp_path / "trap.bin")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("name", ["seqTransf", "tightTransf"])
def test_the_commands_take_checkpoints(save, name, tmp_path):
    """retrieve-video indexes twelve frames by the checkpoint's CLIP and head, and ranks by them; the bench too."""
    film(tmp_path / "a.mp4", steady(60), size=(96, 64))
    film(tmp_path / "b.mp4", steady(60), size=(96, 64), draw=lambda n, w, h: np.full((h, w, 3), 4 * n % 256, np.uint8))
    (tmp_path / "c.csv").write_text("video,caption\na.mp4,a dog runs\nb.mp4,a fade to white\n")
    checkpoint = ["--checkpoint", str(save(state_of(HEADS[name])))]
    run = CliRunner().invoke(app, ["retrieve-video", "a dog runs", str(tmp_path), *checkpoint])
    assert run.exit_code == 0, run.output
    first, second = [json.loads(line) for line in run.stdout.splitlines()]
    assert first["model"] == "clip4clip/pytorch_model.bin.4"
    assert first["score"] >= second["score"]
    stats = CliRunner().invoke(app, ["index", "stats"])
    assert (json.loads(stats.stdout)["head"], json.loads(stats.stdout)["sampling"]) == (name, "fps-12-1fps")
    bench = CliRunner().invoke(app, ["bench", "retrieve-video", str(tmp_path / "c.csv"), *checkpoint])
    assert json.loads(bench.stdout)["count"] == 2
    many = CliRunner().invoke(app, ["retrieve-video", "a dog", str(tmp_path), *checkpoint, "--frames", "100"])
    assert many.exit_code == 2


def test_classify_takes_a_checkpoint(save_action, tmp_path):
    """classify-video answers with the checkpoint's CLIP and fusion head."""
    film(tmp_path / "a.mp4", steady(60), size=(96, 64))
    checkpoint = ["--checkpoint", str(save_action(state_of(actionclip.TransfFusion(D, 2, 6, 77), "fusion.")))]
    run = CliRunner().invoke(app, ["classify-video", str(tmp_path / "a.mp4"), "-l", "running,jumping", *checkpoint])
    assert run.exit_code == 0, run.output
    record = json.loads(run.stdout)
    assert record["model"] == "actionclip/model_best.pt"
    assert sum(p["score"] for p in record["predictions"]) == pytest.approx(1, abs=1e-4)
