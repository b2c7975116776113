"""Pack the labelled photographs of public git repositories into arrays: `python -m clipkit.training.pack`.

    python -m clipkit.training.pack --sources CLONES --out DIR [--size 96] [--embeddings FILE] [--exclude PHOTOS]

CLONES holds one clone of each repository of sources.json (bare or not) in a folder `<owner>+<name>`. DIR then holds, for
each set and split, `<set>.<split>.images.npy` (N, S, S, 3) uint8 and `<set>.<split>.labels.json`, a list of N names.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from clipkit.training.copies import copies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SOURCES = Path(__file__).parent / "sources.json"
NO_HASHES = np.zeros((0, 32), np.uint8)
THUMBNAIL = 64
"""Pixels of a side up to which a picture says too little for its hash to tell it from others."""
SPLITS = {"held_out": "held-out", "train": "train"}
"""Key of sources.json: name of the split. What is held out is packed first: training must not hold it too."""
NEAR = 24
"""Bits of 256 within which two pictures count as one; two photographs of the same kind of thing differ in 45 and more."""


@dataclass(frozen=True)
class Blob:
    """One file of a git repository: its path and its object id."""

    path: str
    oid: str


def git_directory(clones: Path, repository: str) -> Path:
    """The git directory of a clone of `owner/name` under `clones`; FileNotFoundError says what to clone."""
    home = clones / repository.replace("/", "+")
    for candidate in (home / "repo" / ".git", home / "repo", home / ".git", home):
        if (candidate / "HEAD").is_file():
            return candidate
    raise FileNotFoundError(
        f"no clone of {repository} at {home}: git clone --bare https://github.com/{repository} {home}"
    )


def _git(git: Path, *arguments: str) -> str:
    command = ["git", f"--git-dir={git}", *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout.decode()  # noqa: S603 (git, on a local clone)


def list_blobs(git: Path, commit: str) -> list[Blob]:
    """Every file of a commit."""
    entries = [entry.split("\t", 1) for entry in _git(git, "ls-tree", "-r", "-z", commit).split("\0") if entry]
    return [Blob(path, meta.split()[2]) for meta, path in entries]


def batched(items: Iterator[bytes | None], size: int) -> Iterator[list[bytes | None]]:
    """Lists of up to `size` items (itertools.batched is Python 3.12's)."""
    while chunk := list(itertools.islice(items, size)):
        yield chunk


def read_blobs(git: Path, blobs: list[Blob]) -> Iterator[bytes | None]:
    """The files' bytes, in order, by one `git cat-file --batch`; None for an object the clone lacks."""
    command = ["git", f"--git-dir={git}", "cat-file", "--batch"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as batch:  # noqa: S603 (git, likewise)
        assert batch.stdin is not None
        assert batch.stdout is not None
        for blob in blobs:
            batch.stdin.write(blob.oid.encode() + b"\n")
            batch.stdin.flush()
            header = batch.stdout.readline().split()
            if header[1] == b"missing":
                yield None
                continue
            data = batch.stdout.read(int(header[2]))
            batch.stdout.read(1)
            yield data


def decode(data: bytes | None, size: int) -> Image.Image | None:
    """The picture in RGB, not much larger than needed for `size`; None for a broken or absent file."""
    if data is None:
        return None
    try:
        file = Image.open(io.BytesIO(data))
        file.draft("RGB", (size * 2, size * 2))
        return file.convert("RGBA" if file.mode in {"P", "LA"} else "RGB").convert("RGB")
    except (OSError, ValueError, SyntaxError):
        return None


def square(data: bytes | None, size: int) -> NDArray[np.uint8] | None:
    """Decode and shrink to `size`: shortest side bicubic, centre crop, (size, size, 3); None for a broken or absent file."""
    image = decode(data, size)
    if image is None:
        return None
    scale = size / min(image.size)
    wide, high = (max(size, round(side * scale)) for side in image.size)
    image = image.resize((wide, high), Image.Resampling.BICUBIC)
    left, top = (wide - size) // 2, (high - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)), dtype=np.uint8)


def test_hashes(data: bytes | None, size: int) -> list[NDArray[np.uint8]]:
    """Difference hashes of a held-out picture, cropped and squeezed to a square: collections publish either."""
    crop, whole = square(data, size), decode(data, size)
    if crop is None or whole is None:
        return []
    return [difference_hash(crop), difference_hash(np.asarray(whole.resize((size, size), Image.Resampling.BICUBIC)))]


def difference_hash(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """256-bit difference hash (Krawetz 2013) of a (S, S, 3) picture, as (32,) packed bytes."""
    grey = Image.fromarray(image).convert("L").resize((17, 16), Image.Resampling.BOX)
    pixels = np.asarray(grey, dtype=np.int16)
    return np.packbits(pixels[:, 1:] > pixels[:, :-1])


def _label_table(git: Path, commit: str, path: str) -> dict[str, str]:
    text = _git(git, "show", f"{commit}:{path}")
    delimiter = "\t" if "\t" in text else ","
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if len(row) > 1]
    return {row[0].rsplit("/", 1)[-1]: row[1].strip() for row in rows}


def _excluded(photos: Path | None, size: int) -> NDArray[np.uint8]:
    files = sorted(photos.glob("*.jpg")) if photos else []
    hashes = [one for file in files for one in test_hashes(file.read_bytes(), size)]
    return np.stack(hashes) if hashes else NO_HASHES


def _held_out(out: Path) -> NDArray[np.uint8]:
    """Hashes of the held-out photographs packed so far: one repository's training pictures may be another's test."""
    return np.concatenate([NO_HASHES, *(np.load(file) for file in sorted(out.glob("*.held-out.hashes.npy")))])


def _wordnet(clones: Path, names: list[str]) -> dict[str, str]:
    """WordNet id, or class number, -> ImageNet name: in the order of the 1000 sorted ids, read off the one-a-class sample set."""
    source = next(s for s in json.loads(SOURCES.read_text()) if s["name"] == "imagenet-samples")
    blobs = list_blobs(git_directory(clones, source["repository"]), source["commit"])
    ids = sorted({b.path.split("_")[0] for b in blobs if re.match(r"n\d{8}_", b.path)})
    return dict(zip(ids, names, strict=True)) | {str(number): name for number, name in enumerate(names)}


def pack_split(
    source: dict[str, str],
    key: str,
    clones: Path,
    out: Path,
    size: int,
    classes: dict[str, str],
    banned: NDArray[np.uint8],
) -> None:
    """Write one split of a set; pictures within `NEAR` bits of a banned hash are left out of training."""
    split = SPLITS[key]
    git = git_directory(clones, source["repository"])
    blobs = [b for b in list_blobs(git, source["commit"]) if b.path.lower().endswith((".jpg", ".jpeg", ".png"))]
    table = _label_table(git, source["commit"], source[f"{key}_labels"]) if f"{key}_labels" in source else {}
    matches = [(b, m) for b in blobs if (m := re.match(source[key], b.path))]
    raw = [table.get(m["file"], "") if table else m["label"] for _, m in matches]
    chosen = [
        (b, classes.get(label, label).replace("_", " ").lower())
        for (b, _), label in zip(matches, raw, strict=True)
        if label
    ]
    images: list[NDArray[np.uint8]] = []
    labels: list[str] = []
    side = int(source.get("size", size))
    data = read_blobs(git, [b for b, _ in chosen])
    with ThreadPoolExecutor(3) as pool:
        pictures = (p for chunk in batched(data, 256) for p in pool.map(square, chunk, itertools.repeat(side)))
        for (_, label), picture in zip(chosen, pictures, strict=True):
            if picture is None:
                continue
            if split == "train" and len(banned):
                bits = np.bitwise_count(np.bitwise_xor(banned, difference_hash(picture))).sum(axis=1)
                if bits.min() <= NEAR:
                    continue
            images.append(picture)
            labels.append(label)
    if split == "train" and "may_hold" in source:
        stem = out / f"{source['may_hold']}.held-out"
        theirs = json.loads(Path(f"{stem}.labels.json").read_text())
        copied = copies(np.stack(images), labels, np.load(f"{stem}.images.npy"), theirs)
        images = [image for image, is_copy in zip(images, copied, strict=True) if not is_copy]
        labels = [label for label, is_copy in zip(labels, copied, strict=True) if not is_copy]
    if split == "held-out" and side > THUMBNAIL:
        again = read_blobs(git, [b for b, _ in chosen])
        np.save(out / f"{source['name']}.held-out.hashes.npy", [h for d in again for h in test_hashes(d, side)])
    np.save(out / f"{source['name']}.{split}.images.npy", np.stack(images))
    (out / f"{source['name']}.{split}.labels.json").write_text(json.dumps(labels))
    print(
        f"{source['name']:18} {split:9} {len(images):7} of {len(chosen):7} pictures, {len(set(labels)):4} names",
        flush=True,
    )


def main(arguments: list[str] | None = None) -> None:
    """Pack every set of sources.json, or those named."""
    parser = argparse.ArgumentParser(prog="python -m clipkit.training.pack", description=__doc__)
    parser.add_argument("--sources", type=Path, required=True, metavar="DIR", help="folder of clones, <owner>+<name>")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--embeddings", type=Path, required=True, help="text_embeddings.npz: the 1000 ImageNet names are read from it"
    )
    parser.add_argument("--size", type=int, default=96, help="pixels of a side, for sets of photographs")
    parser.add_argument(
        "--exclude", type=Path, help="folder of held-out photographs whose duplicates are dropped from training"
    )
    parser.add_argument("--only", nargs="*", default=[], help="names of sets")
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    with np.load(args.embeddings) as z:
        wordnet = _wordnet(args.sources, [str(name) for name in z["imagenet_names"]])
    banned = _excluded(args.exclude, args.size)
    sources = [s for s in json.loads(SOURCES.read_text()) if not args.only or s["name"] in args.only]
    for key in SPLITS:
        hashes = np.concatenate([banned, _held_out(args.out)])
        for source in sources:
            if key in source:
                classes = wordnet if source["classes"] == "wordnet" else source["classes"]
                pack_split(source, key, args.sources, args.out, args.size, classes, hashes)


if __name__ == "__main__":
    main()
