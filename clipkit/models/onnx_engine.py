"""ONNX Runtime on the CPU: no torch, no open_clip, no torchvision in the process, and an answer within a second.

A graph set is a folder with `image.onnx`, `text.onnx` and `graphs.json`; the weights stay in their safetensors file and are
handed to each session when it is first needed (see `recipes`), so they are on disk once.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from clipkit.errors import ModelError
from clipkit.models import tokenizer as bpe
from clipkit.models.clip import Preprocess
from clipkit.models.recipes import cook
from clipkit.models.weights import HASH_DIGITS, Safetensors, weights_hash
from clipkit.settings import cache_dir

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clipkit.models.catalog import ModelRef

FORMAT = 1
META = "graphs.json"
_TEXT_BATCH = 256


@dataclass(frozen=True, slots=True)
class GraphMeta:
    """What `graphs.json` says. `weights` is the safetensors file, relative to the folder where it lies in it."""

    model: str
    weights: str
    size: int
    sha256: str
    fingerprint: str
    embed_dim: int
    logit_scale: float
    logit_bias: float | None
    context_length: int
    trim: bool
    preprocess: Preprocess
    initializers: dict[str, list[str]]

    def to_json(self) -> str:
        """The file's text."""
        preprocess = {name: getattr(self.preprocess, name) for name in Preprocess.__slots__}
        fields = {name: getattr(self, name) for name in self.__slots__} | {"preprocess": preprocess}
        return json.dumps({"format": FORMAT, **fields}, indent=1) + "\n"

    @classmethod
    def read(cls, folder: Path) -> GraphMeta:
        """Read a folder's `graphs.json`.

        Raises:
            ModelError: damaged, or written by another version.
        """
        try:
            fields = json.loads((folder / META).read_text(encoding="utf-8"))
            if fields.pop("format") != FORMAT:
                raise ValueError("written by another version")  # noqa: TRY301
            values = fields.pop("preprocess")
            settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            return cls(**fields, preprocess=Preprocess(**settings))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{folder / META} cannot be used ({error}): export or install the model again") from error


class OnnxClip:
    """A graph set behind the `Clip` interface. Sessions are created when a tower is first used."""

    engine: Literal["onnx"] = "onnx"
    device = "cpu"

    def __init__(self, folder: Path, model_id: str) -> None:
        """Read the description of a graph set and check that the weights file is the one it was made for.

        Raises:
            ModelError: files missing, damaged, or of different models.
        """
        meta = GraphMeta.read(folder)
        self._folder, self._meta, self._lock = folder, meta, threading.Lock()
        self._sessions: dict[str, Any] = {}
        self._tokenizer: bpe.ClipTokenizer | None = None
        self._weights = Safetensors(folder / meta.weights)
        if self._weights.path.stat().st_size != meta.size or self._weights.fingerprint != meta.fingerprint:
            raise ModelError(
                f"{self._weights.path} is not the file that the graphs in {folder} were made for: "
                f"`clipkit models export {model_id}` makes them anew, or install the model again"
            )
        self.id = model_id
        self.weights_hash = meta.sha256[:HASH_DIGITS]
        self.embed_dim = meta.embed_dim
        self.logit_scale = meta.logit_scale
        self.logit_bias = meta.logit_bias
        self.preprocess = meta.preprocess
        self.text_key = f"{self.weights_hash}-{bpe.ClipTokenizer.name}-{meta.context_length}"

    def encode_images(self, pixels: NDArray[np.float32], *, normalize: bool = True) -> NDArray[np.float32]:
        """(N, 3, H, W) preprocessed pixels -> (N, D)."""
        if not len(pixels):
            return np.zeros((0, self.embed_dim), np.float32)
        features = self._run("image", {"pixels": np.ascontiguousarray(pixels, np.float32)})
        return _unit(features) if normalize else features

    def encode_texts(self, texts: Sequence[str], *, normalize: bool = True) -> NDArray[np.float32]:
        """N texts -> (N, D), in batches of like length, trimmed to the last end token where the tower allows it."""
        features = np.empty((len(texts), self.embed_dim), np.float32)
        if self._tokenizer is None:
            self._tokenizer = bpe.ClipTokenizer(self._meta.context_length)
        for rows, batch in bpe.trimmed_batches(self._tokenizer(texts), _TEXT_BATCH, trim=self._meta.trim):
            features[rows] = self._run("text", {"tokens": batch})
        return _unit(features) if normalize else features

    def _run(self, tower: str, feeds: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        session = self._sessions.get(tower) or self._start(tower)
        features: NDArray[np.float32] = session.run(None, feeds)[0]
        return features

    def _start(self, tower: str) -> Any:
        """The session of a tower, created once."""
        with self._lock:
            if tower not in self._sessions:
                self._sessions[tower] = start_session(
                    self._folder / f"{tower}.onnx",
                    self._meta.initializers[tower],
                    self._weights,
                    relayout=tower == "image",
                )
            return self._sessions[tower]


def start_session(graph: Path, initializers: list[str], weights: Safetensors, *, relayout: bool = False) -> Any:
    """An ONNX Runtime session of a graph whose named initialisers are made from a weights file.

    Args:
        graph: The graph's file.
        initializers: The recipes of its initialisers.
        weights: What they are made from.
        relayout: Lay convolutions out anew for this processor: 30 ms at the start, a third off each picture.

    Raises:
        ModelError: the graph is missing or does not fit the weights.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if relayout else level.ORT_ENABLE_EXTENDED
    # Idle workers that spin would take the cores from image decoding.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(cook(name, weights)) for name in initializers]
    options.add_external_initializers(initializers, values)
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ModelError(
            f"cannot start {graph} with {weights.path} ({text}): export or install the model again"
        ) from error


def graph_folder(ref: ModelRef, weights: Path) -> Path:
    """Where a model's graph set is or would be: beside the built-in weights, else in the cache, named by content."""
    if ref.kind == "builtin":
        return weights.parent
    slug = re.sub(r"[^A-Za-z0-9.-]+", "_", ref.id.rpartition(":")[2].rstrip("/"))[-60:].strip("_.")
    return cache_dir() / "onnx" / f"{slug}-{weights_hash(weights)}"


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    features /= np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), np.float32(1e-12))
    return features
