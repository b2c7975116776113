"""AudioCLIP (Guzhov et al. 2021): CLIP's RN50 and an audio tower in one space, from the authors' checkpoints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.audio.model import unit
from clipkit.errors import ModelError, ModelUnavailableError
from clipkit.models.weights import weights_hash
from clipkit.settings import cache_dir

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from clipkit.audio.esresnext import ESResNeXt
    from clipkit.models.clip import Clip
    from clipkit.models.torch_engine import TorchClip

RELEASE = "https://github.com/AndreyGuzhov/AudioCLIP/releases/download/v0.1"
FILES = ("AudioCLIP-Full-Training.pt", "AudioCLIP-Partial-Training.pt")
BATCH = 8
"""Five-second clips a forward pass: about 1 GB of activations."""


@dataclass(frozen=True, slots=True)
class Scales:
    """The three multipliers of cosines: audio-image, audio-text, image-text; each between 1 and 100, as in the authors' code."""

    audio_image: float
    audio_text: float
    image_text: float

    @classmethod
    def read(cls, state: Mapping[str, torch.Tensor]) -> Scales:
        """From a checkpoint's logarithms; 100 where it has none (an audio tower alone)."""
        names = ("logit_scale_ai", "logit_scale_at", "logit_scale")
        return cls(*(min(100.0, max(1.0, math.exp(float(state[n])))) if n in state else 100.0 for n in names))


class AudioClip:
    """AudioCLIP behind the `AudioModel` interface."""

    rate = 44_100
    seconds = 5.0
    templates = ("{}",)

    def __init__(self, tower: ESResNeXt, clip: TorchClip, scales: Scales, *, model_id: str, digest: str) -> None:
        """Wrap a tower that is on the device of `clip`."""
        self.tower = tower.eval().requires_grad_(requires_grad=False)
        self.clip: Clip = clip
        self.scales = scales
        self.id = model_id
        self.weights_hash = digest
        self.text_key = clip.text_key
        self.logit_scale = scales.audio_text
        self.image_scale = scales.audio_image
        self._device = clip.torch_device

    def encode_audio(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """N clips (T_i,) in [-1, 1] at 44.1 kHz, each centred in five seconds -> (N, D)."""
        import torch

        blocks = []
        with torch.inference_mode():
            for start in range(0, len(clips), BATCH):
                samples = np.stack([five_seconds(clip) for clip in clips[start : start + BATCH]]) * 32768.0
                batch = torch.from_numpy(samples).to(self._device)
                blocks.append(self.tower(batch).float().cpu().numpy())
        return unit(np.concatenate(blocks)) if blocks else np.zeros((0, self.clip.embed_dim), np.float32)

    def encode_texts(self, texts: Sequence[str], *, normalize: bool = True) -> NDArray[np.float32]:
        """N texts -> (N, D) by CLIP's text tower; AudioCLIP uses no template, and joins several labels by ", "."""
        return self.clip.encode_texts(texts, normalize=normalize)


def five_seconds(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The centre of a longer clip; a shorter one between its own edge values, as the authors pad."""
    length = round(AudioClip.rate * AudioClip.seconds)
    if len(samples) > length:
        left = round(0.5 * (len(samples) - length))
        return samples[left : left + length]
    left = round(0.5 * (length - len(samples)))
    return np.pad(samples, (left, length - len(samples) - left), mode="edge")


def load_audioclip(weights: str | Path | None, device: str, precision: str) -> AudioClip:
    """AudioCLIP from one of the authors' files, on `device`.

    A file with the audio tower alone is completed by OpenAI's RN50, in whose space the partially trained tower lives.

    Raises:
        ModelUnavailableError: no such file; the message says where the authors publish it.
        ModelError: the file is not a checkpoint of AudioCLIP.
    """
    from clipkit.models.device import resolve_device

    path = find_weights(weights)
    state = read_state(path)
    digest = weights_hash(path)
    tower = build_tower(state, path)
    if "visual.conv1.weight" in state:
        clip = _own_clip(state, digest, resolve_device(device), path)
    else:
        from clipkit.models.loader import load_clip

        clip = load_clip("RN50/openai", device, precision, engine="torch")
    if clip.embed_dim != tower.fc.out_features:
        raise ModelError(
            f"{path}: an audio tower of {tower.fc.out_features} outputs does not fit CLIP's {clip.embed_dim} dimensions; "
            f"take one of the authors' files {' or '.join(FILES)}"
        )
    name = path.stem.removeprefix("AudioCLIP-").removesuffix("-Training").lower()
    tower.to(clip.torch_device)
    return AudioClip(tower, clip, Scales.read(state), model_id=f"audioclip/{name}", digest=digest)


def find_weights(weights: str | Path | None) -> Path:
    """The named file, or one of the authors' files in clipkit's cache folder."""
    folder = cache_dir() / "audioclip"
    candidates = [Path(weights).expanduser()] if weights else [folder / name for name in FILES]
    for path in candidates:
        if path.is_file():
            return path
    where = f"{candidates[0]} is not here" if weights else "AudioCLIP's weights are not on this machine"
    raise ModelUnavailableError(
        f"{where}: download {RELEASE}/{FILES[0]} (537 MB) and name it with --weights FILE, or put it into {folder}"
    )


def read_state(path: Path) -> dict[str, Any]:
    """A checkpoint's tensors by the published names; wrappers and `module.` prefixes are taken off, a bare tower gets `audio.`.

    Raises:
        ModelError: not a checkpoint, or none of AudioCLIP's.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} cannot be read as a checkpoint ({text}); download it again") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict):
        raise ModelError(f"{path} holds no state dict; take one of the authors' files {' or '.join(FILES)}")
    found = {str(name).removeprefix("module."): value for name, value in state.items()}
    if "fbsp.m" in found:
        found = {f"audio.{name}": value for name, value in found.items()}
    if "audio.fbsp.m" not in found:
        raise ModelError(f"{path} is no AudioCLIP checkpoint (no audio.fbsp.m in it); take {' or '.join(FILES)}")
    return found


def build_tower(state: Mapping[str, Any], path: Path) -> ESResNeXt:
    """The audio tower with the checkpoint's weights, every one of them.

    Raises:
        ModelError: weights are missing or have another shape.
    """
    from clipkit.audio.esresnext import ESResNeXt

    own = {name.removeprefix("audio."): value for name, value in state.items() if name.startswith("audio.")}
    if "fc.weight" not in own:
        raise ModelError(f"{path} is incomplete: audio.fc.weight is missing; download it again")
    tower = ESResNeXt(int(own["fc.weight"].shape[0]))
    _load(tower, own, path, may_miss=("window", "fbsp.bias"))
    return tower


def _own_clip(state: Mapping[str, Any], digest: str, device: str, path: Path) -> TorchClip:
    """The checkpoint's own CLIP, its sizes read from its shapes. QuickGELU, as OpenAI trained it."""
    import open_clip
    from open_clip.transform import PreprocessCfg

    from clipkit.models import tokenizer
    from clipkit.models.torch_engine import TorchClip

    parts = {name: value for name, value in state.items() if not name.startswith(("audio.", "logit_scale_a"))}
    try:
        positions = parts["visual.attnpool.positional_embedding"].shape[0]
        vision = {
            "layers": tuple(
                len({n.split(".")[2] for n in parts if n.startswith(f"visual.layer{i}.")}) for i in range(1, 5)
            ),
            "width": int(parts["visual.layer1.0.conv1.weight"].shape[0]),
            "image_size": 32 * math.isqrt(positions - 1),
        }
        width = int(parts["ln_final.weight"].shape[0])
        text = {
            "context_length": int(parts["positional_embedding"].shape[0]),
            "vocab_size": int(parts["token_embedding.weight"].shape[0]),
            "width": width,
            "heads": max(1, width // 64),
            "layers": len({n.split(".")[2] for n in parts if n.startswith("transformer.resblocks.")}),
        }
        embed_dim = int(parts["text_projection"].shape[1])
    except KeyError as error:
        raise ModelError(f"{path} is incomplete: {error.args[0]} is missing; download it again") from error
    model = open_clip.CLIP(embed_dim, open_clip.CLIPVisionCfg(**vision), open_clip.CLIPTextCfg(**text), quick_gelu=True)
    _load(model, parts, path)
    model.visual.preprocess_cfg = vars(PreprocessCfg(size=vision["image_size"]))
    return TorchClip(
        model.to(device),
        tokenizer.ClipTokenizer(text["context_length"]),
        model_id="audioclip",
        digest=digest,
        tokenizer_key=f"{tokenizer.ClipTokenizer.name}-{text['context_length']}",
        embed_dim=embed_dim,
        device=device,
    )


def _load(module: torch.nn.Module, state: Mapping[str, Any], path: Path, may_miss: tuple[str, ...] = ()) -> None:
    """Load every parameter and buffer or refuse; a checkpoint may hold more than the module takes."""
    wanted = module.state_dict()
    missing = [n for n in wanted if n not in state and n not in may_miss and not n.endswith("num_batches_tracked")]
    wrong = [n for n in wanted if n in state and tuple(state[n].shape) != tuple(wanted[n].shape)]
    if missing or wrong:
        what = f"{missing[0]} is missing" if missing else f"{wrong[0]} has the shape {tuple(state[wrong[0]].shape)}"
        more = len(missing) + len(wrong) - 1
        raise ModelError(f"{path} does not fit AudioCLIP: {what}" + (f" (and {more} more)" if more else ""))
    module.load_state_dict({n: state[n] for n in wanted if n in state}, strict=False)
