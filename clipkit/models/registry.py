"""Writes the shipped table of open_clip's pretrained pairs: `python -m clipkit.models.registry`.

The table makes `clipkit models list` and "did you mean" instant; a test holds it equal to the installed open_clip.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("pretrained.json")


def build_table() -> list[dict[str, Any]]:
    """One entry for each (architecture, tag) of open_clip's registry, without the `-quickgelu` doubles.

    A double shares its weights with the plain architecture; `quick_gelu` says how the weights were trained.
    """
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    table = []
    for arch, tag in open_clip.list_pretrained():
        if arch.endswith("-quickgelu"):
            continue
        model = open_clip.get_model_config(arch)
        pretrained = get_pretrained_cfg(arch, tag)
        repo, _, file = pretrained["hf_hub"].rpartition("/")
        text, vision = model["text_cfg"], model["vision_cfg"]
        entry = {
            "arch": arch,
            "tag": tag,
            "repo": repo,
            "file": file,
            "quick_gelu": bool(pretrained.get("quick_gelu") or model.get("quick_gelu")),
            "image_size": vision.get("image_size", 224),
            "embed_dim": model["embed_dim"],
            "tokenizer": text.get("hf_tokenizer_name", ""),
            "text_model": text.get("hf_model_name", ""),
        }
        table.append({key: value for key, value in entry.items() if value not in ("", False)})
    return table


def write_table(path: Path = TABLE) -> None:
    """Write the table, one pair a line."""
    lines = ",\n".join(json.dumps(entry) for entry in build_table())
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    write_table()
