"""What `audio-classify` sees of a model: sounds and texts in one space, numpy at the boundary, whichever tower computes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import numpy as np

from clipkit.errors import UsageError
from clipkit.settings import setting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clipkit.models.clip import Clip

Method = Literal["builtin", "audioclip", "clap"]
METHODS: tuple[Method, ...] = get_args(Method)


class AudioModel(Protocol):
    """A contrastive audio-text model. Embeddings are float32 and L2-normalised."""

    @property
    def id(self) -> str:
        """The name records carry, for instance `builtin` or `audioclip/full`."""

    @property
    def weights_hash(self) -> str:
        """First 12 hex digits of the SHA-256 of the audio tower's weights file."""

    @property
    def rate(self) -> int:
        """The sample rate the tower takes, in Hz."""

    @property
    def seconds(self) -> float:
        """The length of sound the tower was made for; longer recordings are heard in windows of it."""

    @property
    def templates(self) -> tuple[str, ...]:
        """The prompts that the model's authors used."""

    @property
    def logit_scale(self) -> float:
        """The multiplier of audio-text cosines."""

    @property
    def text_key(self) -> str:
        """Changes whenever text embeddings would; keys the vector cache."""

    @property
    def clip(self) -> Clip | None:
        """The model of the same space that takes pictures, None where there is none."""

    @property
    def image_scale(self) -> float:
        """The multiplier of audio-image cosines."""

    def encode_audio(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """N mono clips (T_i,) in [-1, 1] at `rate` -> (N, D)."""

    def encode_texts(self, texts: Sequence[str], *, normalize: bool = True) -> NDArray[np.float32]:
        """N texts -> (N, D)."""


_built: dict[tuple[str, ...], AudioModel] = {}
_lock = threading.Lock()


def load_audio_model(
    method: str = "builtin",
    *,
    weights: str | Path | None = None,
    device: str | None = None,
    precision: str | None = None,
) -> AudioModel:
    """A model ready to listen, built once per process and key.

    Args:
        method: `builtin`, `audioclip` or `clap`.
        weights: for `audioclip` the authors' checkpoint file, for `clap` a transformers directory or hub repository.
        device: `auto`, `cpu`, `cuda`, `mps`; the built-in tower computes on the CPU.
        precision: of AudioCLIP's text and image towers; audio towers compute in fp32.

    Raises:
        UsageError: no such method, or weights for a method that takes none.
        ModelUnavailableError: the weights are not on this machine, or an extra is not installed.
        ModelError: the weights are not this model's.
    """
    device, precision = setting("device", device), setting("precision", precision)
    if method == "builtin" and weights is not None:
        raise UsageError("the built-in tower brings its own weights; --weights goes with --method audioclip or clap")
    key = (method, str(weights), device, precision)
    with _lock:
        if key not in _built:
            _built[key] = _build(method, weights, device, precision)
        return _built[key]


def _build(method: str, weights: str | Path | None, device: str, precision: str) -> AudioModel:
    if method == "builtin":
        from clipkit.audio.builtin import load_builtin

        return load_builtin()
    if method == "audioclip":
        from clipkit.audio.audioclip import load_audioclip

        return load_audioclip(weights, device, precision)
    if method == "clap":
        from clipkit.audio.clap import load_clap

        return load_clap(weights, device)
    raise UsageError(f"no such method: {method!r}; use {', '.join(METHODS)}")


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, D) divided by their lengths; a zero vector stays zero."""
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norm, np.finfo(np.float32).tiny), np.float32)
