"""What each picture of a repository shows: by its path, by a table, by its caption, or by the boxes beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clipkit.training.boxes import label_path, read_boxes
from clipkit.training.captions import caption_labels
from clipkit.training.repositories import label_table, list_blobs, read_blobs, read_text

if TYPE_CHECKING:
    import re
    from pathlib import Path

    from clipkit.training.boxes import Box
    from clipkit.training.phrases import Phrases
    from clipkit.training.repositories import Blob


def labelled(
    git: Path,
    source: dict[str, Any],
    key: str,
    matches: list[tuple[Blob, re.Match[str]]],
    classes: dict[str, str],
    phrases: Phrases | None,
) -> list[tuple[Blob, str, Box | None]]:
    """Each picture of a split, or thing in one, its label, and its box if it is cut out.

    Args:
        git: the clone's git directory.
        source: the set's entry in sources.json.
        key: of the split in `source`.
        matches: the split's pictures, and how their paths match.
        classes: label in the repository -> name.
        phrases: knows the names in a caption; only captioned sets need it.
    """
    if "boxes" in source:
        return _boxed(git, source, [b for b, _ in matches])
    if "captions" in source:
        assert phrases is not None
        tables = [read_text(git, source["commit"], path) for path in source["captions"]]
        names = caption_labels(tables, classes, phrases)
        return [(b, names.get(m["file"], ""), None) for b, m in matches]
    table = label_table(git, source["commit"], source[f"{key}_labels"]) if f"{key}_labels" in source else {}
    raw = [table.get(m["file"], "") if table else m.groupdict().get("label", "") for _, m in matches]
    return [
        (b, classes.get(label, label).replace("_", " ").lower(), None)
        for (b, _), label in zip(matches, raw, strict=True)
        if label or source.get("unnamed")
    ]


def _boxed(git: Path, source: dict[str, Any], pictures: list[Blob]) -> list[tuple[Blob, str, Box | None]]:
    """Each thing that the pictures' label files name."""
    by_path = {blob.path: blob for blob in list_blobs(git, source["commit"])}
    pairs = [(blob, by_path[path]) for blob in pictures if (path := label_path(blob.path)) in by_path]
    texts = read_blobs(git, [labels for _, labels in pairs])
    return [
        (blob, name, box)
        for (blob, _), text in zip(pairs, texts, strict=True)
        for name, box in read_boxes((text or b"").decode("utf-8", "replace"), source["boxes"])
    ]
