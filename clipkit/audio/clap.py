"""CLAP (Wu et al. 2023, "Large-scale Contrastive Language-Audio Pretraining") through transformers, from files that are here."""

from __future__ import annotations

import importlib.util
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.audio.model import unit
from clipkit.errors import ModelError, ModelUnavailableError
from clipkit.models.weights import weights_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DEFAULT = "laion/clap-htsat-unfused"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
AUDIO_BATCH, TEXT_BATCH = 8, 64


class Clap:
    """A transformers `ClapModel` behind the `AudioModel` interface. It knows no pictures."""

    templates = ("This is a sound of {}.",)
    clip = None
    image_scale = 1.0

    def __init__(self, model: Any, extractor: Any, tokenizer: Any, *, model_id: str, digest: str, device: str) -> None:
        """Wrap a model that is on `device` already, with its own feature extractor and tokenizer."""
        self.model = model.eval().requires_grad_(requires_grad=False)
        self._extractor, self._tokenizer, self._device = extractor, tokenizer, device
        self.id = model_id
        self.weights_hash = digest
        self.rate = int(extractor.sampling_rate)
        self.seconds = extractor.nb_max_samples / self.rate
        self.logit_scale = math.exp(float(self.model.logit_scale_a.detach()))
        self.text_key = f"{digest}-clap"
        self.embed_dim = int(self.model.config.projection_dim)

    def encode_audio(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """N clips (T_i,) -> (N, D). A clip shorter than the window is repeated to fill it; a longer one loses its end."""
        import torch

        longest = self._extractor.nb_max_samples
        blocks = []
        with torch.inference_mode():
            for start in range(0, len(clips), AUDIO_BATCH):
                batch = [clip[:longest] for clip in clips[start : start + AUDIO_BATCH]]
                inputs = self._extractor(batch, sampling_rate=self.rate, return_tensors="pt").to(self._device)
                blocks.append(self._numpy(self.model.get_audio_features(**inputs)))
        return unit(np.concatenate(blocks)) if blocks else np.zeros((0, self.embed_dim), np.float32)

    def encode_texts(self, texts: Sequence[str], *, normalize: bool = True) -> NDArray[np.float32]:
        """N texts -> (N, D); transformers normalises them itself."""
        import torch

        blocks = []
        with torch.inference_mode():
            for start in range(0, len(texts), TEXT_BATCH):
                batch = list(texts[start : start + TEXT_BATCH])
                inputs = self._tokenizer(batch, padding=True, truncation=True, return_tensors="pt").to(self._device)
                wanted = {name: inputs[name] for name in ("input_ids", "attention_mask")}
                blocks.append(self._numpy(self.model.get_text_features(**wanted)))
        if not blocks:
            return np.zeros((0, self.embed_dim), np.float32)
        return unit(np.concatenate(blocks)) if normalize else np.concatenate(blocks)

    @staticmethod
    def _numpy(features: Any) -> NDArray[np.float32]:
        # transformers 5 wraps the features, 4 gives them plain
        tensor = getattr(features, "pooler_output", features)
        return np.asarray(tensor.float().cpu().numpy(), np.float32)


def load_clap(weights: str | Path | None, device: str) -> Clap:
    """A CLAP from a transformers directory or from what the hub cache holds. Nothing is downloaded.

    Raises:
        ModelUnavailableError: transformers is not installed, or the model is not on this machine.
        ModelError: the files are no CLAP, or weights are missing from them.
    """
    if importlib.util.find_spec("transformers") is None:
        raise ModelUnavailableError("CLAP needs transformers, which is not installed: pip install 'clipkit-vision[hf]'")
    name = str(weights or DEFAULT)
    directory = find_directory(name)
    file = next((directory / file for file in WEIGHTS if (directory / file).is_file()), None)
    if file is None:
        raise ModelError(f"{directory} has no {WEIGHTS[0]}; copy or download the model again")
    from clipkit.models.device import resolve_device
    from clipkit.models.offline import no_network

    place = resolve_device(device)
    with no_network():
        model, extractor, tokenizer = _load(directory)
    return Clap(
        model.to(place),
        extractor,
        tokenizer,
        model_id=f"clap/{Path(name).name}",
        digest=weights_hash(file),
        device=place,
    )


def find_directory(name: str) -> Path:
    """A directory, or the snapshot of a hub repository.

    Raises:
        ModelUnavailableError: neither is here.
    """
    from clipkit.models.locate import cached_file

    directory = Path(name).expanduser()
    if (directory / "config.json").is_file():
        return directory
    config = None if directory.is_dir() else cached_file(name.removeprefix("hf-hub:"), "config.json")
    if config is None:
        raise ModelUnavailableError(
            f"{name} is not on this machine: `hf download {name}` fetches it, or name a directory with --weights DIR"
        )
    return config.parent


def _load(directory: Path) -> tuple[Any, Any, Any]:
    import transformers

    quiet = logging.getLogger("transformers")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        model, report = transformers.ClapModel.from_pretrained(
            directory, local_files_only=True, output_loading_info=True
        )
        extractor = transformers.ClapFeatureExtractor.from_pretrained(directory, local_files_only=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise ModelError(f"cannot load CLAP from {directory} ({type(error).__name__}: {text})") from error
    finally:
        quiet.setLevel(level)
    # transformers fills what it does not find with random numbers and only warns
    missing = sorted(name for name in report["missing_keys"] if not name.endswith("position_ids"))
    if missing or report.get("mismatched_keys"):
        what = f"{missing[0]} is missing" if missing else "a weight has the wrong shape"
        raise ModelError(f"{directory} is no complete CLAP: {what}; download it again")
    return model, extractor, tokenizer
