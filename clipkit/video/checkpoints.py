"""Checkpoints in the layouts of CLIP4Clip's and ActionCLIP's authors: CLIP and a temporal head, told apart by their keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from clipkit.errors import ModelError, UsageError
from clipkit.models.device import resolve_device
from clipkit.models.tokenizer import CONTEXT_LENGTH, ClipTokenizer
from clipkit.models.weights import weights_hash
from clipkit.video import actionclip, clip4clip

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clipkit.models.torch_engine import TorchClip

CLIP4CLIP_WORDS = 32
"""Tokens a text is cut to, start and end included (section 4.1); tokens beyond change nothing in a causal tower."""

ACTIONCLIP_SCALE = 100.0
"""The authors score with 100 whatever the trained scale (`validate`)."""

BATCH = 32


@dataclass(frozen=True, slots=True)
class RetrievalCheckpoint:
    """A CLIP4Clip checkpoint: its CLIP and its head (a `clipkit.video.head.Head`)."""

    clip: TorchClip
    head: RetrievalHead


@dataclass(frozen=True, slots=True)
class ActionCheckpoint:
    """An ActionCLIP checkpoint: its CLIP and its fusion head (a `clipkit.tasks.classify_video.Fusion`)."""

    clip: TorchClip
    fusion: FusionHead


class RetrievalHead:
    """A CLIP4Clip head with weights behind the `Head` interface, numpy at the boundary."""

    def __init__(self, name: str, module: torch.nn.Module | None, device: str) -> None:
        """`module` as `clipkit.video.clip4clip.build` gives it, None for meanP."""
        self.name = name
        self._module = None if module is None else module.to(device)
        self._device = device
        tight, sequential = isinstance(module, clip4clip.TightTransf), isinstance(module, clip4clip.SeqTransf)
        positions = None
        if sequential:
            positions = cast("clip4clip.SeqTransf", module).frame_position_embeddings.num_embeddings
        elif tight:
            table = cast("clip4clip.TightTransf", module).cross.embeddings["position_embeddings"]
            positions = cast("torch.nn.Embedding", table).num_embeddings - 1
        self.max_frames: int | None = positions
        self._tight = tight

    def contextualise(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, D) -> (N, D): what seqTransf and seqLSTM make of the frames; meanP and tightTransf leave them."""
        if self._module is None or self._tight:
            return frames
        with torch.inference_mode():
            batch = torch.from_numpy(frames).to(self._device)[None]
            out = self._module(batch, torch.ones(batch.shape[:2], device=self._device))[0]
        return np.asarray(out.cpu().numpy(), np.float32)

    def rerank(self, query: NDArray[np.float32], videos: Iterable[NDArray[np.float32]]) -> NDArray[np.float32] | None:
        """Logits (V,) of tightTransf, the frames of some videos at a time; None for the other heads."""
        if not self._tight or self._module is None:
            return None
        text = torch.from_numpy(query).to(self._device)[None]
        scores: list[NDArray[np.float32]] = []
        pending: list[NDArray[np.float32]] = []
        for frames in videos:
            pending.append(frames)
            if len(pending) == BATCH:
                scores.append(self._logits(text, pending))
                pending = []
        if pending:
            scores.append(self._logits(text, pending))
        return np.concatenate(scores) if scores else np.zeros(0, np.float32)

    def _logits(self, text: torch.Tensor, videos: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        assert self._module is not None
        longest, width = max(len(frames) for frames in videos), text.shape[1]
        frames = np.zeros((len(videos), longest, width), np.float32)
        mask = np.zeros((len(videos), longest), np.float32)
        for row, video in enumerate(videos):
            frames[row, : len(video)] = video.reshape(len(video), width)
            mask[row, : len(video)] = 1
        with torch.inference_mode():
            places = torch.from_numpy(frames).to(self._device), torch.from_numpy(mask).to(self._device)
            logits = self._module(text, *places)[0]
        return np.asarray(logits.cpu().numpy(), np.float32)


class FusionHead:
    """An ActionCLIP fusion head with weights behind the `Fusion` interface."""

    logit_scale: float | None = ACTIONCLIP_SCALE

    def __init__(self, name: str, module: torch.nn.Module, device: str) -> None:
        """`module` as `clipkit.video.actionclip.build` gives it."""
        self.name = name
        self._module = module.to(device)
        self._device = device
        self.frames: int | None = None
        if isinstance(module, actionclip.TransfClsFusion):
            self.frames = module.transformer.get_parameter("pos_embed").shape[1] - 1

    def fuse(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """(W, T, D) -> (W, D) unit vectors."""
        if self.frames not in {None, frames.shape[1]}:
            raise UsageError(
                f"this checkpoint's {self.name} head takes {self.frames} frames; use --frames {self.frames}"
            )
        out = []
        with torch.inference_mode():
            for start in range(0, len(frames), BATCH):
                fused = self._module(torch.from_numpy(frames[start : start + BATCH]).to(self._device))
                out.append(torch.nn.functional.normalize(fused, dim=-1).cpu().numpy())
        return np.asarray(np.concatenate(out), np.float32)


def load_retrieval(path: Path, device: str = "auto") -> RetrievalCheckpoint:
    """A CLIP4Clip checkpoint (`pytorch_model.bin.N`, or the same tensors as safetensors).

    Raises:
        UsageError: no such file.
        ModelError: it is damaged, or of another kind.
    """
    device = resolve_device(device)
    found = _read(path)
    state = _without_prefix(_tensors(found, path))
    if not any(key.startswith("clip.") for key in state):
        hint = "; it looks like ActionCLIP's, for classify-video" if "model_state_dict" in found else ""
        raise ModelError(f"{path} is no CLIP4Clip checkpoint: it has no `clip.*` weights{hint}")
    if "clip.visual.conv2.weight" in state:
        raise ModelError(
            f"{path} was trained with `--linear_patch 3d`, which looks at three frames at once; use a 2d one"
        )
    try:
        name, module = clip4clip.build(state)
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"{path}: its temporal head is incomplete ({_line(error)})") from error
    inner = {key.removeprefix("clip."): value for key, value in state.items() if key.startswith("clip.")}
    clip = _openai_clip(inner, path, f"clip4clip/{path.name}", device, words=CLIP4CLIP_WORDS)
    return RetrievalCheckpoint(clip, RetrievalHead(name, module, device))


def load_action(path: Path, device: str = "auto") -> ActionCheckpoint:
    """An ActionCLIP checkpoint (`model_state_dict` and `fusion_model_state_dict`).

    Raises:
        UsageError: no such file.
        ModelError: it is damaged, or of another kind.
    """
    device = resolve_device(device)
    found = _read(path)
    if not {"model_state_dict", "fusion_model_state_dict"} <= set(found):
        raise ModelError(
            f"{path} is no ActionCLIP checkpoint: expected `model_state_dict` and `fusion_model_state_dict`, "
            f"found {', '.join(sorted(map(str, found))[:4])}"
        )
    state = _without_prefix(_tensors(found["model_state_dict"], path))
    fusion = _without_prefix(_tensors(found["fusion_model_state_dict"], path))
    if any(".net." in key for key in state) or "visual.time_embedding" in state:
        raise ModelError(
            f"{path} was trained with `tsm` or `joint`, which change the picture tower; use one without them"
        )
    heads = state["ln_final.weight"].shape[0] // 64 if "ln_final.weight" in state else 8
    try:
        name, module = actionclip.build(fusion, heads=max(1, heads))
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"{path}: its fusion head is incomplete ({_line(error)})") from error
    clip = _openai_clip(state, path, f"actionclip/{path.name}", device)
    return ActionCheckpoint(clip, FusionHead(name, module, device))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"no such checkpoint file: {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(f"cannot read the checkpoint {path} ({_line(error)}); is the file whole?") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds no state dict but a {type(found).__name__}")
    return found


def _tensors(state: Any, path: Path) -> dict[str, torch.Tensor]:
    if not isinstance(state, dict):
        raise ModelError(f"{path}: a state dict is expected where a {type(state).__name__} is")
    return {str(key): value for key, value in state.items() if isinstance(value, torch.Tensor)}


def _without_prefix(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`module.` is DataParallel's; early TensorFlow-style names `gamma` and `beta` are the norms' weight and bias."""
    plain = {key.removeprefix("module."): value for key, value in state.items()}
    return {k.replace(".gamma", ".weight").replace(".beta", ".bias"): v for k, v in plain.items()}


def _openai_clip(
    state: dict[str, torch.Tensor], path: Path, model_id: str, device: str, *, words: int = CONTEXT_LENGTH
) -> TorchClip:
    """OpenAI's CLIP in the shape its tensors have, through open_clip, in float32."""
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    from clipkit.models.torch_engine import TorchClip

    for key in ("input_resolution", "context_length", "vocab_size"):
        state.pop(key, None)
    try:
        width, patch = state["visual.conv1.weight"].shape[0], state["visual.conv1.weight"].shape[-1]
        grid = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
        text_width = state["ln_final.weight"].shape[0]
        context, vocabulary = state["positional_embedding"].shape[0], state["token_embedding.weight"].shape[0]
        embed_dim = state["text_projection"].shape[1]
        vision = CLIPVisionCfg(
            layers=_blocks(state, "visual.transformer."), width=width, patch_size=patch, image_size=patch * grid
        )
        text = CLIPTextCfg(
            context_length=context,
            vocab_size=vocabulary,
            width=text_width,
            heads=max(1, text_width // 64),
            layers=_blocks(state, "transformer."),
        )
        model = CLIP(embed_dim, vision, text, quick_gelu=True)
        model.load_state_dict({key: value.float() for key, value in state.items()})
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"{path}: its CLIP part is no ViT in OpenAI's layout ({_line(error)})") from error
    model.visual.preprocess_cfg = {
        "size": patch * grid,
        "mean": OPENAI_DATASET_MEAN,
        "std": OPENAI_DATASET_STD,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    tokenizer = ClipTokenizer(words)

    def tokenize(texts: Sequence[str]) -> NDArray[np.int64]:
        return np.pad(tokenizer(texts), ((0, 0), (0, context - words)))

    return TorchClip(
        model.to(device),
        tokenize,
        model_id=model_id,
        digest=weights_hash(path),
        tokenizer_key=f"{ClipTokenizer.name}-{words}",
        embed_dim=embed_dim,
        device=device,
    )


def _blocks(state: Mapping[str, torch.Tensor], prefix: str) -> int:
    prefix = f"{prefix}resblocks."
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
