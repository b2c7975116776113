"""`bench zero-shot`: accuracy and speed of `classify` on labelled pictures."""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clipkit.errors import UsageError
from clipkit.media.paths import Source, expand
from clipkit.prompts.labels import Label
from clipkit.results import Accuracy, ClassAccuracy, Failure
from clipkit.tasks.classify import Scorer
from clipkit.tasks.images import embed_images

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clipkit.models.clip import Clip
    from clipkit.tasks.classify import ClassifyOptions

TASK = "bench zero-shot"
AHEAD = 5  # top-5


@dataclass(frozen=True, slots=True)
class Labelled:
    """A data set: pictures with class indices, and the classes' names.

    Attributes:
        path: what the user named.
        labels: C classes, in the order of the indices.
        items: source (or why it is missing) and class index.
    """

    path: str
    labels: tuple[Label, ...]
    items: tuple[tuple[Source | Failure, int], ...]


def read_labelled(path: Path, names: Path | None = None) -> Labelled:
    """Class folders (`DIR/cat/1.jpg`) or a CSV with the columns `path` and `label` (paths relative to the CSV).

    A folder's name, underscores as spaces, is the class's label; `names` maps folder names to labels, one
    `folder,label` a line (wordings parted by `|`).

    Raises:
        UsageError: nothing there, no classes, a CSV without the columns.
    """
    known = _read_names(names) if names else {}
    if path.is_dir():
        pairs = _from_folders(path)
    elif path.is_file():
        pairs = _from_csv(path)
    else:
        raise UsageError(f"no such folder or CSV file: {path}")
    keys = list(dict.fromkeys(key for _, key in pairs))
    if not keys:
        raise UsageError(f"{path} has no class folders with pictures; expected {path}/cat/1.jpg and the like")
    if missing := [key for key in keys if names and key not in known]:
        raise UsageError(f"{names} has no line for the class {missing[0]!r}")
    labels = tuple(Label.parse(known.get(key, key.replace("_", " "))) for key in keys)
    index = {key: i for i, key in enumerate(keys)}
    return Labelled(str(path), labels, tuple((item, index[key]) for item, key in pairs))


def run(data: Labelled, options: ClassifyOptions, clip: Clip) -> Iterator[Accuracy | Failure]:
    """A `Failure` for each picture that cannot be read, then one `Accuracy` over those that can.

    `per_second` counts pictures a second from opening the file to the score, text encoding left out.
    """
    scorer = Scorer(clip, options)
    truth = np.array([label for _, label in data.items])
    ranks = np.full(len(truth), -1)
    started = time.perf_counter()
    for i, outcome in enumerate(embed_images((item for item, _ in data.items), clip, options.images)):
        if isinstance(outcome, Failure):
            yield outcome.within(TASK, clip.id, clip.weights_hash)
            continue
        scores = scorer.scores(outcome[1][None])[0]
        # Ties count against us: a constant score gets no credit.
        ranks[i] = np.count_nonzero(scores >= scores[truth[i]]) - 1
    seconds = time.perf_counter() - started
    read = ranks >= 0
    if not read.any():
        return
    per_class = []
    for i, label in enumerate(data.labels):
        mine = ranks[read & (truth == i)]
        if len(mine):
            per_class.append(ClassAccuracy(label.name, len(mine), _share(mine, 1), _share(mine, AHEAD)))
    yield Accuracy(
        path=data.path,
        model=clip.id,
        weights=clip.weights_hash,
        top1=_share(ranks[read], 1),
        top5=_share(ranks[read], AHEAD),
        per_class=tuple(per_class),
        count=int(read.sum()),
        per_second=int(read.sum()) / seconds,
    )


def _share(ranks: np.ndarray[tuple[int, ...], np.dtype[np.intp]], within: int) -> float:
    return float((ranks < within).mean())


def _from_folders(path: Path) -> list[tuple[Source | Failure, str]]:
    folders = sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    return [(item, folder.name) for folder in folders for item in expand([str(folder)])]


def _from_csv(path: Path) -> list[tuple[Source | Failure, str]]:
    pairs: list[tuple[Source | Failure, str]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            if not {"path", "label"} <= set(rows.fieldnames or ()):
                raise UsageError(f"{path}: expected the columns `path` and `label`, found {rows.fieldnames}")
            for row in rows:
                place = path.parent / (row["path"] or "")
                pairs.append((Source(str(place), place), row["label"] or ""))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read {path} as CSV: {error}") from error
    return pairs


def _read_names(path: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return {row[0].strip(): ",".join(row[1:]).strip() for row in csv.reader(stream) if len(row) > 1}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the names file {path}: {error}") from error
