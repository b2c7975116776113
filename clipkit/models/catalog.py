"""What a model name means: every open_clip pair with its aliases, hub repositories, local directories, the built-in one.

Nothing here imports torch or open_clip: the table of pairs is shipped (see `registry`).
"""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from clipkit.errors import UsageError

BUILTIN = "builtin"
BUILTIN_DIR = Path(__file__).with_name("builtin")
LOCAL_PREFIX, HUB_PREFIX = "local-dir:", "hf-hub:"
# What the hint on a terminal names: much better than the built-in model, and still quick on a CPU.
RECOMMENDED = "ViT-B-32/datacomp_xl_s13b_b90k"

# An architecture alone means OpenAI's weights, the ones papers mean by it, where they exist; otherwise these, otherwise
# the last tag in open_clip's list, which is the newest or longest trained.
_PREFERRED_TAGS = (
    "openai",
    "dfn5b",
    "laion2b_s34b_b88k",
    "laion2b_s13b_b90k",
    "laion2b_s13b_b82k_augreg",
    "datacomp1b",
)

_FOREIGN_NAMES = {
    "openai/clip-vit-base-patch32": "ViT-B-32/openai",
    "openai/clip-vit-base-patch16": "ViT-B-16/openai",
    "openai/clip-vit-large-patch14": "ViT-L-14/openai",
    "openai/clip-vit-large-patch14-336": "ViT-L-14-336/openai",
    "ViT-L/14@336px": "ViT-L-14-336/openai",
    "google/siglip-base-patch16-224": "ViT-B-16-SigLIP/webli",
    "google/siglip-base-patch16-256": "ViT-B-16-SigLIP-256/webli",
    "google/siglip-base-patch16-384": "ViT-B-16-SigLIP-384/webli",
    "google/siglip-base-patch16-512": "ViT-B-16-SigLIP-512/webli",
    "google/siglip-large-patch16-256": "ViT-L-16-SigLIP-256/webli",
    "google/siglip-large-patch16-384": "ViT-L-16-SigLIP-384/webli",
    "google/siglip-so400m-patch14-224": "ViT-SO400M-14-SigLIP/webli",
    "google/siglip-so400m-patch14-384": "ViT-SO400M-14-SigLIP-384/webli",
    "google/siglip2-base-patch32-256": "ViT-B-32-SigLIP2-256/webli",
    "google/siglip2-base-patch16-224": "ViT-B-16-SigLIP2/webli",
    "google/siglip2-base-patch16-256": "ViT-B-16-SigLIP2-256/webli",
    "google/siglip2-base-patch16-384": "ViT-B-16-SigLIP2-384/webli",
    "google/siglip2-base-patch16-512": "ViT-B-16-SigLIP2-512/webli",
    "google/siglip2-large-patch16-256": "ViT-L-16-SigLIP2-256/webli",
    "google/siglip2-large-patch16-384": "ViT-L-16-SigLIP2-384/webli",
    "google/siglip2-large-patch16-512": "ViT-L-16-SigLIP2-512/webli",
    "google/siglip2-so400m-patch14-224": "ViT-SO400M-14-SigLIP2/webli",
    "google/siglip2-so400m-patch14-384": "ViT-SO400M-14-SigLIP2-378/webli",
    "google/siglip2-so400m-patch16-256": "ViT-SO400M-16-SigLIP2-256/webli",
    "google/siglip2-so400m-patch16-384": "ViT-SO400M-16-SigLIP2-384/webli",
    "google/siglip2-so400m-patch16-512": "ViT-SO400M-16-SigLIP2-512/webli",
    "google/siglip2-giant-opt-patch16-256": "ViT-gopt-16-SigLIP2-256/webli",
    "google/siglip2-giant-opt-patch16-384": "ViT-gopt-16-SigLIP2-384/webli",
    "apple/DFN2B-CLIP-ViT-B-16": "ViT-B-16/dfn2b",
    "apple/DFN2B-CLIP-ViT-L-14": "ViT-L-14/dfn2b",
    "apple/DFN5B-CLIP-ViT-H-14": "ViT-H-14/dfn5b",
    "apple/DFN5B-CLIP-ViT-H-14-378": "ViT-H-14-378/dfn5b",
    "facebook/PE-Core-B16-224": "PE-Core-B-16/meta",
    "facebook/PE-Core-L14-336": "PE-Core-L-14-336/meta",
}


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model by its one canonical name, and where its parts come from.

    `repo` and `file` are on the hub (an empty `file` means open_clip's usual names); `directory` is a local open_clip
    directory. `tokenizer` and `text_model` are hub repositories that the text tower needs besides.
    """

    kind: Literal["builtin", "pretrained", "hub", "local"]
    id: str
    arch: str = ""
    tag: str = ""
    repo: str = ""
    file: str = ""
    directory: Path | None = None
    quick_gelu: bool = False
    image_size: int | tuple[int, int] | None = None
    embed_dim: int | None = None
    tokenizer: str = ""
    text_model: str = ""
    note: str | None = field(default=None, compare=False)


@cache
def pretrained() -> tuple[ModelRef, ...]:
    """Every pretrained pair of open_clip, in its order."""
    table = json.loads(Path(__file__).with_name("pretrained.json").read_text(encoding="utf-8"))
    return tuple(_from_table(entry) for entry in table)


def resolve(name: str) -> ModelRef:
    """A model name, alias, hub repository or directory -> its reference. Opens no socket.

    `ViT-B-32` (OpenAI's weights, or the best there are), `ViT-B-32/laion2b_s34b_b79k`, `vit-b/32`,
    `openai/clip-vit-base-patch32`, `hf-hub:org/repo`, `local-dir:PATH`, a path with `open_clip_config.json`, `builtin`.

    Raises:
        UsageError: no such model; the message names the nearest ones.
    """
    name = name.strip()
    if name.lower() == BUILTIN:
        return ModelRef("builtin", BUILTIN, directory=BUILTIN_DIR)
    if name.startswith(LOCAL_PREFIX):
        return _local(name.removeprefix(LOCAL_PREFIX), name)
    if name.startswith(HUB_PREFIX):
        return _hub(name.removeprefix(HUB_PREFIX))
    by_key = _aliases()
    if found := by_key.get(_key(name)):
        asked_plain = found.quick_gelu and _key(name) == _key(f"{found.arch}/{found.tag}")
        return _with_note(found) if asked_plain else found
    if Path(name).expanduser().is_dir() or name.startswith((".", "~", os.sep)):
        return _local(name, name)
    raise UsageError(_unknown(name))


def suggestions(name: str, count: int = 3) -> list[str]:
    """The names nearest to a mistyped one, best first."""
    names = {_key(ref.id): ref.id for ref in pretrained()} | {_key(ref.arch): ref.arch for ref in pretrained()}
    names |= {_key(foreign): foreign for foreign in _FOREIGN_NAMES} | {BUILTIN: BUILTIN}
    return [names[key] for key in difflib.get_close_matches(_key(name), names, n=count, cutoff=0.6)]


def default_tag(arch: str) -> str:
    """The tag that an architecture alone stands for."""
    tags = [ref.tag for ref in pretrained() if ref.arch == arch]
    return next((tag for tag in _PREFERRED_TAGS if tag in tags), tags[-1])


def _from_table(entry: dict[str, Any]) -> ModelRef:
    size = entry.get("image_size")
    return ModelRef(
        "pretrained",
        f"{entry['arch']}/{entry['tag']}",
        **{k: v for k, v in entry.items() if k != "image_size"},
        image_size=(size[0], size[1]) if isinstance(size, list) else size,
    )


@cache
def _aliases() -> dict[str, ModelRef]:
    """Every spelling's key -> reference."""
    found: dict[str, ModelRef] = {}
    for ref in pretrained():
        found[_key(ref.id)] = ref
        if ref.quick_gelu:
            found[_key(f"{ref.arch}-quickgelu/{ref.tag}")] = ref
    for ref in pretrained():  # a repository with several files is named by its first one
        found.setdefault(_key(ref.repo), ref)
    for arch in dict.fromkeys(ref.arch for ref in pretrained()):
        ref = found[_key(f"{arch}/{default_tag(arch)}")]
        found.setdefault(_key(arch), ref)
        if ref.quick_gelu:
            found.setdefault(_key(f"{arch}-quickgelu"), ref)
    for foreign, name in _FOREIGN_NAMES.items():
        found[_key(foreign)] = found[_key(name)]
    return found


def _key(name: str) -> str:
    """Spelling-blind: case and the separators `/`, `:`, `_`, `@` do not tell models apart."""
    return re.sub(r"[/:_@\s]+", "-", name.strip().lower())


def _with_note(ref: ModelRef) -> ModelRef:
    from dataclasses import replace

    return replace(ref, note=f"{ref.id} was trained with QuickGELU, so it is computed with QuickGELU")


def _local(path: str, name: str) -> ModelRef:
    directory = Path(path).expanduser()
    if not path or not directory.is_dir():
        hint = "" if name.startswith(LOCAL_PREFIX) else f" {_unknown(name)}"
        raise UsageError(f"no such model directory: {path or name!r}.{hint}")
    directory = directory.resolve()
    if directory == BUILTIN_DIR.resolve():
        return ModelRef("builtin", BUILTIN, directory=BUILTIN_DIR)
    return ModelRef("local", f"{LOCAL_PREFIX}{directory.as_posix()}", directory=directory)


def _hub(repo: str) -> ModelRef:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", repo):
        raise UsageError(f"{HUB_PREFIX}{repo}: write it as {HUB_PREFIX}ORGANISATION/REPOSITORY")
    known = next((ref for ref in pretrained() if ref.repo.lower() == repo.lower()), None)
    return ModelRef("hub", f"{HUB_PREFIX}{repo}", repo=repo, quick_gelu=bool(known and known.quick_gelu))


def _unknown(name: str) -> str:
    near = suggestions(name)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    hub = f"For a hub repository write {HUB_PREFIX}{name}. " if re.fullmatch(r"[\w.-]+/[\w.-]+", name) else ""
    return f"no model is called {name!r}: {meant}{hub}`clipkit models list` names them all"
