"""Pack the labelled photographs of public git repositories into arrays: `python -m clipkit.training.pack`.

    python -m clipkit.training.pack --sources CLONES --out DIR [--size 96] [--embeddings FILE] [--exclude PHOTOS ...]

CLONES holds one clone of each repository of sources.json (bare or not) in a folder `<owner>+<name>`. DIR then holds, for
each set and split, `<set>.<split>.images.npy` (N, S, S, 3) uint8 and `<set>.<split>.labels.json`, a list of N names (`dog|frisbee`
of a picture with several, empty for one with none).
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from clipkit.training.boxes import around
from clipkit.training.copies import copies
from clipkit.training.labelled import labelled
from clipkit.training.names import load_names
from clipkit.training.phrases import Phrases
from clipkit.training.repositories import git_directory, list_blobs, read_blobs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from clipkit.training.boxes import Box

SOURCES = Path(__file__).parent / "sources.json"
NO_HASHES = np.zeros((0, 32), np.uint8)
THUMBNAIL = 64
"""Pixels of a side up to which a picture says too little for its hash to tell it from others."""
SPLITS = {"held_out": "held-out", "train": "train"}
"""Key of sources.json: name of the split. What is held out is packed first: training must not hold it too."""
NEAR = 24
"""Bits of 256 within which two pictures count as one; two photographs of the same kind of thing differ in 45 and more."""


def batched(items: Iterator[bytes | None], size: int) -> Iterator[list[bytes | None]]:
    """Lists of up to `size` items (itertools.batched is Python 3.12's)."""
    while chunk := list(itertools.islice(items, size)):
        yield chunk


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


def square(data: bytes | None, size: int, box: Box | None = None) -> NDArray[np.uint8] | None:
    """Decode, cut out a box and shrink to `size`: shortest side bicubic, centre crop, (size, size, 3).

    None for a broken or absent file.
    """
    image = decode(data, size if box is None else 4 * size)
    if image is None:
        return None
    if box is not None:
        image = image.crop(around(box, *image.size))
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


def _excluded(folders: list[Path], size: int) -> NDArray[np.uint8]:
    files = [file for folder in folders for file in sorted(folder.glob("*.jpg"))]
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


def _seen(data: bytes | None, size: int, box: Box | None) -> tuple[NDArray[np.uint8] | None, list[NDArray[np.uint8]]]:
    """The picture to pack, and the hashes by which a copy of it would be known: its own and that of what it is cut from."""
    picture = square(data, size, box)
    if picture is None:
        return None, []
    whole = None if box is None else square(data, size)
    return picture, [difference_hash(one) for one in (picture, whole) if one is not None]


def _near(mark: NDArray[np.uint8], banned: NDArray[np.uint8]) -> bool:
    return bool(len(banned) and np.bitwise_count(np.bitwise_xor(banned, mark)).sum(axis=1).min() <= NEAR)


def pack_split(
    source: dict[str, Any],
    key: str,
    clones: Path,
    out: Path,
    size: int,
    classes: dict[str, str],
    banned: NDArray[np.uint8],
    phrases: Phrases | None = None,
) -> None:
    """Write one split of a set; pictures within `NEAR` bits of a banned hash are left out of training."""
    split = SPLITS[key]
    git = git_directory(clones, source["repository"])
    blobs = [b for b in list_blobs(git, source["commit"]) if b.path.lower().endswith((".jpg", ".jpeg", ".png"))]
    matches = [(b, m) for b in blobs if (m := re.match(source[key], b.path))]
    chosen = labelled(git, source, key, matches, classes, phrases)
    images: list[NDArray[np.uint8]] = []
    labels: list[str] = []
    side = int(source.get("size", size))
    data = read_blobs(git, [b for b, _, _ in chosen])
    boxes = iter([box for _, _, box in chosen])
    with ThreadPoolExecutor(3) as pool:
        pictures = (
            p
            for chunk in batched(data, 256)
            for p in pool.map(_seen, chunk, itertools.repeat(side), itertools.islice(boxes, len(chunk)))
        )
        for (_, label, _), (picture, marks) in zip(chosen, pictures, strict=True):
            if picture is None:
                continue
            if split == "train" and any(_near(mark, banned) for mark in marks):
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
        again = read_blobs(git, [b for b, _, _ in chosen])
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
        "--exclude",
        type=Path,
        nargs="*",
        default=[],
        metavar="DIR",
        help="folders of held-out photographs whose duplicates are dropped from training",
    )
    parser.add_argument("--only", nargs="*", default=[], help="names of sets")
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    with np.load(args.embeddings) as z:
        wordnet = _wordnet(args.sources, [str(name) for name in z["imagenet_names"]])
    phrases = Phrases(load_names(args.embeddings))
    banned = _excluded(args.exclude, args.size)
    sources = [s for s in json.loads(SOURCES.read_text()) if not args.only or s["name"] in args.only]
    for key in SPLITS:
        hashes = np.concatenate([banned, _held_out(args.out)])
        for source in sources:
            if key in source:
                classes = wordnet if source["classes"] == "wordnet" else source["classes"]
                pack_split(source, key, args.sources, args.out, args.size, classes, hashes, phrases)


if __name__ == "__main__":
    main()
