"""The built-in audio tower: ONNX Runtime and numpy, in the space of the built-in text and image towers. No torch, no download."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.audio.logmel import LogMel
from clipkit.audio.model import unit
from clipkit.errors import ModelError
from clipkit.models.catalog import BUILTIN
from clipkit.models.onnx_engine import start_session
from clipkit.models.weights import HASH_DIGITS, Safetensors, file_sha256

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clipkit.models.clip import Clip

FOLDER = Path(__file__).parents[1] / "models" / "builtin_audio"
GRAPH, WEIGHTS, CONFIG = "tower.onnx", "tower.safetensors", "config.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class TowerConfig:
    """What `config.json` says of the tower.

    Attributes:
        seconds: the window long recordings are heard in.
        logit_scale: the multiplier of audio-text cosines, fitted with the tower.
        image_scale: the multiplier of audio-image cosines.
        embed_dim: D, the width of the joint space.
        sha256: of the weights file the graph was made for.
        initializers: the graph's initialisers, each a recipe over the weights file.
        templates: the prompts the tower was fitted to.
        front_end: the log-mel picture's settings.
    """

    seconds: float
    logit_scale: float
    image_scale: float
    embed_dim: int
    sha256: str
    initializers: list[str]
    templates: tuple[str, ...] = ("{}",)
    front_end: LogMel = field(default_factory=LogMel)

    def to_json(self) -> str:
        """The file's text."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields["front_end"] = {name: getattr(self.front_end, name) for name in LogMel.__slots__}
        return json.dumps({"format": FORMAT, **fields}, indent=1) + "\n"

    @classmethod
    def read(cls, folder: Path) -> TowerConfig:
        """Read a folder's `config.json`.

        Raises:
            ModelError: missing, damaged, or written by another version.
        """
        try:
            fields: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            if fields.pop("format") != FORMAT:
                raise ValueError("written by another version")  # noqa: TRY301
            fields |= {"templates": tuple(fields["templates"]), "front_end": LogMel(**fields["front_end"])}
            return cls(**fields)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{folder / CONFIG} cannot be used ({error}): install clipkit again") from error


class BuiltinAudio:
    """The built-in tower behind the `AudioModel` interface; texts and pictures go to the built-in CLIP."""

    id = BUILTIN

    def __init__(self, clip: Clip, folder: Path = FOLDER) -> None:
        """Read the tower's description; its session starts with the first sound.

        Raises:
            ModelError: files missing or damaged, or a text tower of another width.
        """
        config = TowerConfig.read(folder)
        if file_sha256(folder / WEIGHTS) != config.sha256:  # 2 ms
            raise ModelError(f"{folder / WEIGHTS} is not the file {GRAPH} was made for: install clipkit again")
        if clip.embed_dim != config.embed_dim:
            raise ModelError(
                f"{clip.id} embeds into {clip.embed_dim} dimensions, the audio tower into {config.embed_dim}"
            )
        self._config, self._folder = config, folder
        self._weights = Safetensors(folder / WEIGHTS)
        self._session: Any = None
        self._lock = threading.Lock()
        self.clip = clip
        self.weights_hash = config.sha256[:HASH_DIGITS]
        self.rate = config.front_end.rate
        self.seconds = config.seconds
        self.templates = config.templates
        self.logit_scale = config.logit_scale
        self.image_scale = config.image_scale
        self.text_key = clip.text_key

    def encode_audio(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """N clips (T_i,) at 16 kHz -> (N, D); clips of one length share a pass."""
        with self._lock:
            if self._session is None:
                self._session = start_session(self._folder / GRAPH, self._config.initializers, self._weights)
        out = np.zeros((len(clips), self._config.embed_dim), np.float32)
        for length in {len(clip) for clip in clips}:
            rows = [row for row, clip in enumerate(clips) if len(clip) == length]
            mels = np.stack([self._config.front_end(clips[row]) for row in rows])
            out[rows] = self._session.run(None, {"mels": mels})[0]
        return unit(out)

    def encode_texts(self, texts: Sequence[str], *, normalize: bool = True) -> NDArray[np.float32]:
        """N texts -> (N, D) by the built-in text tower."""
        return self.clip.encode_texts(texts, normalize=normalize)


def load_builtin() -> BuiltinAudio:
    """The tower that comes with clipkit. Loads offline in a moment.

    Raises:
        ModelError: the installation is damaged.
    """
    from clipkit.models.loader import load_clip

    return BuiltinAudio(load_clip(BUILTIN, "cpu", "fp32"))
