"""Files of the models that come with their own pipeline: from a folder, or from what the hub's cache holds already."""

from __future__ import annotations

import contextlib
import importlib.util
from typing import TYPE_CHECKING, Any

from clipkit.errors import ModelError, ModelUnavailableError
from clipkit.models.locate import cached_file
from clipkit.models.offline import no_network

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def need_transformers(method: str) -> None:
    """Check that transformers can be imported, without importing it.

    Raises:
        ModelUnavailableError: it is not installed.
    """
    if importlib.util.find_spec("transformers") is None:
        raise ModelUnavailableError(
            f"{method} needs transformers, which is not installed: pip install 'clipkit-vision[hf]'"
        )


def find_model(method: str, repo: str, folder: Path | None) -> tuple[Path, Path]:
    """The folder and the weights file of a transformers model; nothing is downloaded.

    Args:
        method: its name, for messages.
        repo: the hub repository whose cached files are taken where no folder is given.
        folder: a folder with `config.json` and weights.

    Raises:
        ModelError: the folder lacks its config or weights.
        ModelUnavailableError: no folder was given and the hub's cache has no complete copy.
    """
    if folder is None:
        config = cached_file(repo, "config.json")
        weights = next((path for name in WEIGHTS if (path := cached_file(repo, name)) is not None), None)
        if config is None or weights is None:
            raise ModelUnavailableError(
                f"{method}'s weights are not on this machine: `hf download {repo}` fetches them, "
                f"or name their folder with --weights DIR"
            )
        return config.parent, weights
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if not (folder / "config.json").is_file() or found is None:
        raise ModelError(f"{folder} is no transformers model folder: it needs config.json and {' or '.join(WEIGHTS)}")
    return folder, found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, transformers logs errors only and draws no bars."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def from_folder(kind: str, folder: Path, **changes: Any) -> Any:
    """A transformers model of class `kind` from a folder, offline; `changes` are what `from_pretrained` takes besides.

    Raises:
        ModelError: the files do not make such a model.
    """
    import transformers

    try:
        with quiet(), no_network():
            model, report = getattr(transformers, kind).from_pretrained(
                folder, local_files_only=True, output_loading_info=True, **changes
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"{folder} does not load as {kind}: {first}") from error
    # transformers fills what a checkpoint lacks with random numbers and goes on.
    missing = [name for name in report["missing_keys"] if not name.endswith("position_ids")]
    if missing or report["mismatched_keys"]:
        worst = next(iter(missing or report["mismatched_keys"]))
        raise ModelError(f"{folder} lacks weights of {kind} ({worst}, ...): the files belong to another model")
    return model
