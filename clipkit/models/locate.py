"""From a reference to the files on this machine, and a clear word where they are not. Never opens a socket."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipkit.errors import ModelError, ModelUnavailableError

if TYPE_CHECKING:
    from clipkit.models.catalog import ModelRef

CONFIG = "open_clip_config.json"
# open_clip's own order, so that the file we hash and check is the file that it loads.
WEIGHT_NAMES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
_TOKENIZER_MARKS = ("tokenizer.json", "tokenizer_config.json", "spiece.model", "vocab.txt")


@dataclass(frozen=True, slots=True)
class Located:
    """A model whose files are all here. `model_cfg` is None where open_clip's own config of the architecture holds."""

    ref: ModelRef
    weights: Path
    model_cfg: dict[str, Any] | None = None
    preprocess_cfg: dict[str, Any] = field(default_factory=dict)
    directory: Path | None = None
    tokenizer: Path | None = None
    text_model: Path | None = None


def locate(ref: ModelRef) -> Located:
    """The files of a model.

    Raises:
        ModelUnavailableError: not pulled; the message names the command that fetches it.
        ModelError: a directory without weights, with a broken config, or whose config contradicts its weights.
    """
    if ref.kind in {"builtin", "local"}:
        return _from_directory(ref, ref.directory or Path())
    if ref.kind == "hub":
        config = cached_file(ref.repo, CONFIG)
        if config is None or find_weights(config.parent) is None:
            raise not_pulled(ref)
        located = _from_directory(ref, config.parent)
        text = (located.model_cfg or {}).get("text_cfg", {})
        tokenizer, text_model = text.get("hf_tokenizer_name", ""), text.get("hf_model_name", "")
    else:
        weights = next((path for name in weight_candidates(ref) if (path := cached_file(ref.repo, name))), None)
        if weights is None:
            raise not_pulled(ref)
        located = Located(ref, weights)
        tokenizer, text_model = ref.tokenizer, ref.text_model
    return Located(
        ref,
        located.weights,
        located.model_cfg,
        located.preprocess_cfg,
        located.directory,
        _needed(ref, tokenizer, _TOKENIZER_MARKS),
        _needed(ref, text_model, ("config.json",)),
    )


def weight_candidates(ref: ModelRef) -> tuple[str, ...]:
    """The file names a repository may hold a pair's weights under, safetensors first."""
    if not ref.file:
        return ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
    stem, dot, ending = ref.file.rpartition(".")
    return (f"{stem}.safetensors", ref.file) if dot and ending in {"bin", "pth", "pt"} else (ref.file,)


def not_pulled(ref: ModelRef) -> ModelUnavailableError:
    """The error for a model that is known but not here."""
    return ModelUnavailableError(f"{ref.id} is not on this machine: `clipkit models pull {ref.id}` fetches it")


def hub_cache() -> Path:
    """Where huggingface_hub keeps its files: HF_HUB_CACHE, else HF_HOME/hub, else the user's cache."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := os.environ.get(variable):
            return Path(value).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def repo_cache(repo: str) -> Path:
    """The hub cache's folder of a repository."""
    return hub_cache() / f"models--{repo.replace('/', '--')}"


def cached_file(repo: str, name: str) -> Path | None:
    """A completely downloaded file of a hub repository, in its main revision if that is here, else in any."""
    snapshots = repo_cache(repo) / "snapshots"
    try:
        main = (repo_cache(repo) / "refs" / "main").read_text(encoding="utf-8").strip()
        folders = [snapshots / main] if main else []
    except OSError:
        folders = []
    if snapshots.is_dir():
        folders += sorted(path for path in snapshots.iterdir() if path not in folders)
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def find_weights(directory: Path) -> Path | None:
    """The checkpoint that open_clip loads from a directory, by its order of names and endings."""
    found = sorted(
        (path for path in directory.iterdir() if path.suffix in {".safetensors", ".bin", ".pth"} and path.is_file()),
        key=lambda path: (path.suffix != ".safetensors", path),
    )
    preferred = [path for path in found if path.name in WEIGHT_NAMES]
    return min(preferred, key=lambda path: WEIGHT_NAMES.index(path.name)) if preferred else next(iter(found), None)


def read_config(directory: Path) -> dict[str, Any]:
    """A directory's `open_clip_config.json`, with its `model_cfg` and `preprocess_cfg`.

    Raises:
        ModelError: missing, not JSON, or without the parts open_clip needs.
    """
    path = directory / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{directory} has no {CONFIG}: it is not an open_clip model directory") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}): pull or copy the model again") from error
    model = config.get("model_cfg") if isinstance(config, dict) else None
    if not isinstance(model, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(model):
        raise ModelError(
            f"{path} lacks model_cfg with embed_dim, vision_cfg and text_cfg: it is not open_clip's config"
        )
    return dict(config)


def _from_directory(ref: ModelRef, directory: Path) -> Located:
    config = read_config(directory)
    weights = find_weights(directory)
    if weights is None:
        raise ModelError(f"{directory} has a config but no weights (*.safetensors): an untrained model answers nothing")
    model_cfg = config["model_cfg"]
    _check_activation(ref, directory, model_cfg)
    # Tokenizer files, where a text tower wants transformers' ones, lie beside the weights of a local directory.
    local = directory if ref.kind == "local" and model_cfg["text_cfg"].get("hf_tokenizer_name") else None
    text = directory if ref.kind == "local" and model_cfg["text_cfg"].get("hf_model_name") else None
    return Located(ref, weights, model_cfg, config.get("preprocess_cfg") or {}, directory, local, text)


def _check_activation(ref: ModelRef, directory: Path, model_cfg: dict[str, Any]) -> None:
    """Refuse a config without QuickGELU for weights that were trained with it: it would answer wrongly and silently.

    Trained with it: a repository that open_clip lists so, or one whose transformers config (`config.json`, written by who
    trained it) says `hidden_act: quick_gelu`.
    """
    if model_cfg.get("quick_gelu"):
        return
    witness = "open_clip's registry" if ref.quick_gelu else ""
    try:
        other = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        acts = {part.get("hidden_act") for part in (other.get("vision_config"), other.get("text_config")) if part}
        if acts == {"quick_gelu"}:
            witness = str(directory / "config.json")
    except (OSError, ValueError, AttributeError):
        pass
    if witness:
        raise ModelError(
            f"{directory / CONFIG} does not say quick_gelu, but {witness} says that these weights were trained with "
            'QuickGELU: set "quick_gelu": true in its model_cfg'
        )


def _needed(ref: ModelRef, repo: str, marks: tuple[str, ...]) -> Path | None:
    """The snapshot of a second repository that a text tower needs, None where it needs none."""
    if not repo:
        return None
    found = next((path for mark in marks if (path := cached_file(repo, mark))), None)
    if found is None:
        raise not_pulled(ref)
    return found.parent
