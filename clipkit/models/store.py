"""The models on this machine: pull, list, describe, verify, remove. Only `pull` uses the network."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clipkit.errors import ClipkitError, ModelError, ModelUnavailableError, UsageError
from clipkit.models import hub
from clipkit.models.catalog import BUILTIN_DIR, ModelRef, pretrained, resolve
from clipkit.models.locate import CONFIG, WEIGHT_NAMES, cached_file, hub_cache, locate, repo_cache, weight_candidates
from clipkit.models.offline import is_offline
from clipkit.models.onnx_engine import META, GraphMeta, graph_folder
from clipkit.models.weights import HASH_DIGITS, Safetensors, file_sha256, weights_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    # file name, bytes so far, bytes in all
    Progress = Callable[[str, int, int], None]

_TOKENIZER_FILES = {
    "added_tokens.json",
    "config.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
}


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull brought: the weights' path, the bytes transferred, and a note for the person where there is one."""

    ref: ModelRef
    weights: Path
    transferred: int
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """One file's check: `state` is `ok`, `damaged` or `unknown` (nothing published to compare with)."""

    path: Path
    state: str
    detail: str


def pull(ref: ModelRef, progress: Progress | None = None) -> Pulled:
    """Fetch a model into the hub cache: weights (safetensors where there are any), config, and what its text tower reads.

    What is here is kept; a broken-off transfer goes on; each file is checked against its published hash.

    Raises:
        UsageError: the model is not one of the hub's.
        ModelUnavailableError: offline, not reachable, not found, gated, or the disk is too full.
        ModelError: a file did not arrive as published.
    """
    if ref.kind in {"builtin", "local"}:
        raise UsageError(f"{ref.id} is on this machine already; only models of the hub are pulled")
    if is_offline():
        raise ModelUnavailableError(
            f"offline mode is on (CLIPKIT_OFFLINE or HF_HUB_OFFLINE): unset it, then `clipkit models pull {ref.id}`"
        )
    main = hub.read_repo(ref.repo)
    names = _main_files(ref, main)
    plan = [(main, names)]
    tokenizer, text_model = ref.tokenizer, ref.text_model
    transferred = 0
    if ref.kind == "hub":  # its config says which other repositories the text tower needs
        hub.check_space(hub.missing_bytes(main, names))
        transferred += _fetch_all(main, [CONFIG], progress)
        text = json.loads((hub.fetch(main, CONFIG, lambda _: None)).read_text(encoding="utf-8"))["model_cfg"][
            "text_cfg"
        ]
        tokenizer, text_model = text.get("hf_tokenizer_name", ""), text.get("hf_model_name", "")
    plan += _second_repos(main, tokenizer, text_model)
    hub.check_space(sum(hub.missing_bytes(repo, files) for repo, files in plan))
    for repo, files in reversed(plan):  # the weights last: what is seen as pulled is whole
        transferred += _fetch_all(repo, files, progress)
        hub.finish(repo)
    weights = locate(ref).weights
    note = None
    if weights.suffix != ".safetensors":
        note = f"{ref.repo} has no safetensors; {weights.name} is read with torch's restricted loader"
    return Pulled(ref, weights, transferred, note)


def is_pulled(ref: ModelRef) -> bool:
    """Whether a model can be loaded without the network."""
    try:
        locate(ref)
    except ClipkitError:
        return False
    return True


def available() -> Iterator[tuple[ModelRef, bool]]:
    """Every known model and whether it is here: the built-in one, open_clip's pairs, other hub repositories in the cache."""
    builtin = resolve("builtin")
    yield builtin, is_pulled(builtin)
    known = set()
    for ref in pretrained():
        known.add(repo_cache(ref.repo).name)
        # Most are absent, which one look at the repository's folder tells.
        yield ref, repo_cache(ref.repo).is_dir() and is_pulled(ref)
    if hub_cache().is_dir():
        for folder in sorted(hub_cache().glob("models--*")):
            repo = folder.name.removeprefix("models--").replace("--", "/", 1)
            if folder.name not in known and cached_file(repo, CONFIG):
                ref = resolve(f"hf-hub:{repo}")
                if is_pulled(ref):
                    yield ref, True


def describe(ref: ModelRef) -> dict[str, Any]:
    """What is known of a model, as a JSON object: its names, what it computes, and its files where it is here."""
    facts: dict[str, Any] = {"name": ref.id, "kind": ref.kind}
    facts |= {key: value for key in ("arch", "tag", "repo") if (value := getattr(ref, key))}
    facts |= {"image_size": ref.image_size, "embed_dim": ref.embed_dim, "quick_gelu": ref.quick_gelu}
    facts |= {key: value for key in ("tokenizer", "text_model") if (value := getattr(ref, key))}
    if ref.note:
        facts["note"] = ref.note
    try:
        located = locate(ref)
    except (ModelUnavailableError, ModelError) as error:
        return facts | {"pulled": False, "why": str(error)}
    if located.model_cfg:
        facts["embed_dim"] = located.model_cfg["embed_dim"]
        facts["image_size"] = located.model_cfg["vision_cfg"].get("image_size", 224)
        facts["quick_gelu"] = bool(located.model_cfg.get("quick_gelu"))
    graphs = graph_folder(ref, located.weights)
    return facts | {
        "pulled": True,
        "path": str(located.weights),
        "bytes": located.weights.stat().st_size,
        "weights": weights_hash(located.weights),
        "graphs": str(graphs) if (graphs / META).is_file() else None,
        **_card(ref),
    }


def verify(ref: ModelRef) -> list[Checked]:
    """Read every file of a model again and compare it with its published hash.

    Raises:
        ModelUnavailableError: the model is not here.
        ModelError: its directory is unusable.
    """
    located = locate(ref)
    if ref.kind == "builtin":
        return _verify_builtin(located.weights)
    if ref.kind == "local":
        return [_verify_local(located.weights)]
    found = []
    for snapshot in dict.fromkeys(
        part for part in (located.weights.parent, located.tokenizer, located.text_model) if part
    ):
        found += [_verify_cached(path, snapshot) for path in sorted(snapshot.rglob("*")) if path.is_file()]
    return found


def remove(ref: ModelRef) -> list[Path]:
    """Delete a model's repository from the hub cache and its graphs from ours; returns what was deleted.

    Raises:
        UsageError: the built-in model, or a directory that is the user's own.
        ModelUnavailableError: it is not here.
    """
    if ref.kind == "builtin":
        raise UsageError("the built-in model is part of the package and cannot be removed")
    if ref.kind == "local":
        raise UsageError(f"{ref.directory} is your own directory: delete it yourself")
    home = repo_cache(ref.repo)
    if not home.is_dir():
        raise ModelUnavailableError(f"{ref.id} is not on this machine")
    gone = [home]
    if is_pulled(ref) and (graphs := graph_folder(ref, locate(ref).weights)).is_dir():
        gone.append(graphs)
    gone += [locks for locks in (hub_cache() / ".locks" / home.name,) if locks.is_dir()]
    for folder in gone:
        shutil.rmtree(folder)
    return gone


def _main_files(ref: ModelRef, repo: hub.Repo) -> list[str]:
    candidates = weight_candidates(ref) if ref.kind == "pretrained" else WEIGHT_NAMES
    weights = next((name for name in candidates if name in repo.files), None)
    if weights is None:
        raise ModelUnavailableError(f"{ref.repo} holds none of {', '.join(candidates)}: it is no open_clip model")
    if ref.kind == "hub" and CONFIG not in repo.files:
        raise ModelUnavailableError(f"{ref.repo} has no {CONFIG}: it is no open_clip model")
    return [weights, *(name for name in (CONFIG, "config.json") if name in repo.files)]


def _second_repos(main: hub.Repo, tokenizer: str, text_model: str) -> list[tuple[hub.Repo, list[str]]]:
    found = []
    for name in dict.fromkeys(repo for repo in (tokenizer, text_model) if repo):
        repo = main if name == main.name else hub.read_repo(name)
        wanted = sorted(set(repo.files) & (_TOKENIZER_FILES if name == tokenizer else {"config.json"}))
        found.append((repo, wanted))
    return found


def _fetch_all(repo: hub.Repo, names: list[str], progress: Progress | None) -> int:
    """Fetch files in order; returns how many bytes came over the network."""
    missing = hub.missing_bytes(repo, names)
    for name in reversed(names):  # small ones first
        size = repo.files[name].size

        def report(done: int, name: str = name, size: int = size) -> None:
            if progress is not None:
                progress(name, done, size)

        hub.fetch(repo, name, report)
    return missing


def _verify_cached(path: Path, snapshot: Path) -> Checked:
    expected = hub.expected_of(path, snapshot)
    if expected is None:
        return Checked(path, "unknown", "no published hash is noted for this file")
    if expected.matches(path):
        return Checked(path, "ok", expected.digest[:HASH_DIGITS])
    return Checked(path, "damaged", f"is not {expected.digest[:HASH_DIGITS]}: remove and pull the model again")


def _verify_local(weights: Path) -> Checked:
    if weights.suffix == ".safetensors":
        try:
            Safetensors(weights)
        except ModelError as error:
            return Checked(weights, "damaged", str(error))
    return Checked(weights, "unknown", f"{file_sha256(weights)[:HASH_DIGITS]}; nothing is published to compare it with")


def _verify_builtin(weights: Path) -> list[Checked]:
    digest = file_sha256(weights)
    expected = GraphMeta.read(BUILTIN_DIR).sha256 if (BUILTIN_DIR / META).is_file() else None
    if expected is None:
        return [Checked(weights, "unknown", digest[:HASH_DIGITS])]
    state = "ok" if digest == expected else "damaged"
    detail = digest[:HASH_DIGITS] if state == "ok" else f"is not {expected[:HASH_DIGITS]}: install clipkit again"
    return [Checked(weights, state, detail)]


def _card(ref: ModelRef) -> dict[str, Any]:
    path = BUILTIN_DIR / "card.json"
    if ref.kind != "builtin" or not path.is_file():
        return {}
    return {"card": json.loads(path.read_text(encoding="utf-8"))}
