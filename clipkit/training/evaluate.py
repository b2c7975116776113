"""Measure the built-in model on what it was not trained on: `python -m clipkit.training.evaluate`.

    python -m clipkit.training.evaluate --model DIR --data PACKED --reference FOLDER [--photos FOLDER] [--out card.json]

PACKED holds the held-out sets of `python -m clipkit.training.pack`; FOLDER of --reference `text_embeddings.npz` and
`image_embeddings.npz` of the real ViT-B/32, with `photos50/`; FOLDER of --photos pictures named `<id>_<number>_<name>.jpg`.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the field's name for it)

from clipkit.training.augment import normalise
from clipkit.training.model import CONFIG
from clipkit.training.names import clean, load_names
from clipkit.training.phrases import TEMPLATES, plural
from clipkit.training.text import encode_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Matrix = NDArray[np.float32]

CIFAR10 = ("airplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "boat", "truck")
PLAIN = ("{}",)
PARAPHRASES = (
    "a photograph showing a {}", "here you can see a {}", "look, a {}!", "picture of one {}", "a {} in the picture", "close-up of the {}",
    "a photo taken of a {}", "an old photo of a {}", "the {} over there", "a lovely {}", "a {} in the wild", "a heavily blurred {}",
)  # fmt: skip
"""Wordings that training does not use."""
CAPTIONS = (
    ("two dogs running on grass", "dog", "cat"), ("a cat asleep on a sofa", "cat", "dog"), ("a man riding a horse on the beach", "horse", "car"),
    ("planes parked at the airport", "airplane", "boat"), ("a sailing boat far out on the sea", "boat", "car"), ("slices of pizza on a plate", "pizza", "banana"),
    ("a bunch of ripe bananas", "banana", "pizza"), ("an elephant and its calf at the waterhole", "elephant", "zebra"), ("red roses in a vase", "rose", "dog"),
    ("a commuter train arriving at the station", "train", "bus"), ("a yellow school bus on the road", "bus", "train"), ("kids playing guitar in a garage", "guitar", "piano"),
)  # fmt: skip


class Model:
    """An open_clip local-dir model with what the measurements need."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        """Load the model of a folder."""
        model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}", device=device)
        self.model, self.device = model.float().eval(), device
        self.preprocess: Callable[[Image.Image], Tensor] = preprocess
        self.interpolation = str(json.loads((folder / CONFIG.name).read_text())["preprocess_cfg"]["interpolation"])
        self.tokenize = open_clip.get_tokenizer("ViT-B-32")
        self.side = int(
            model.visual.image_size[0] if isinstance(model.visual.image_size, tuple) else model.visual.image_size
        )

    @torch.no_grad()
    def texts(self, phrases: Sequence[str]) -> Tensor:
        """(N, D), unit length, on the CPU."""
        found: list[Tensor] = []
        for start in range(0, len(phrases), 256):
            tokens = self.tokenize(list(phrases[start : start + 256])).to(self.device)
            found.append(encode_text(self.model, tokens[:, : int(tokens.argmax(dim=-1).max()) + 1]))
        return F.normalize(torch.cat(found), dim=-1).cpu()

    def classes(self, names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Ensembled class vectors, (C, D): the unit mean of the templates' unit vectors."""
        phrases = [template.format(name) for name in names for template in templates]
        return F.normalize(self.texts(phrases).view(len(names), len(templates), -1).mean(dim=1), dim=-1)

    @torch.no_grad()
    def images(self, batches: Iterator[Tensor]) -> Tensor:
        """(N, D), unit length, of batches of normalised (n, 3, side, side)."""
        return F.normalize(
            torch.cat([self.model.encode_image(batch.to(self.device)).cpu() for batch in batches]), dim=-1
        )

    def pixels(self, images: NDArray[np.uint8]) -> Iterator[Tensor]:
        """Batches of packed (N, S, S, 3) pictures at the model's own side."""
        for start in range(0, len(images), 250):
            raw = torch.from_numpy(np.array(images[start : start + 250])).permute(0, 3, 1, 2).float() / 255
            if raw.shape[-1] != self.side:
                size = (self.side, self.side)
                raw = F.interpolate(raw, size=size, mode=self.interpolation, antialias=True, align_corners=False)
                raw = raw.clamp(0, 1)
            yield normalise(raw)

    def files(self, paths: Sequence[Path]) -> Iterator[Tensor]:
        """Batches of photographs, by the model's own preprocessing."""
        for start in range(0, len(paths), 100):
            yield torch.stack([self.preprocess(Image.open(path).convert("RGB")) for path in paths[start : start + 100]])


def accuracy(images: Tensor, classes: Tensor, labels: Sequence[int], top: int = 1) -> float:
    """Share of pictures whose label is among the `top` nearest classes."""
    found = (images @ classes.T).topk(top, dim=-1).indices
    return float((found == torch.tensor(labels)[:, None]).any(dim=-1).float().mean())


def _zero_shot(model: Model, images: Tensor, names: Sequence[str], labels: Sequence[int]) -> dict[str, float]:
    ensembled = model.classes(names, TEMPLATES)
    return {
        "top1": accuracy(images, ensembled, labels),
        "top5": accuracy(images, ensembled, labels, min(5, len(names))),
        "top1_plain": accuracy(images, model.classes(names, PLAIN), labels),
        "best_logit_scale": calibration(images, ensembled, labels),
        "count": len(labels),
        "classes": len(names),
    }


def packed(model: Model, data: Path, name: str) -> dict[str, float]:
    """Zero-shot accuracy on a packed held-out set, over its own names."""
    images = np.load(data / f"{name}.held-out.images.npy", mmap_mode="r")
    labels = json.loads((data / f"{name}.held-out.labels.json").read_text())
    names = sorted(set(labels))
    return _zero_shot(model, model.images(model.pixels(images)), names, [names.index(label) for label in labels])


def cifar500(model: Model, reference: Path) -> dict[str, float]:
    """The first 500 test pictures of CIFAR-10."""
    with np.load(reference / "image_embeddings.npz") as z:
        images, labels = z["cifar10_pixels"], z["cifar10_labels"].tolist()
    return _zero_shot(model, model.images(model.pixels(images)), CIFAR10, labels)


def photographs(model: Model, photos: Path, reference: Path) -> dict[str, float]:
    """Photographs named `<id>_<number>_<name>.jpg` whose name is one of LVIS's."""
    with np.load(reference / "text_embeddings.npz") as z:
        lvis = {clean(str(name)) for name in z["lvis_names"]}
    named = [(path, clean(re.sub(r"^n\d+_\d+_", "", path.stem))) for path in sorted(photos.glob("*.jpg"))]
    named = [(path, name) for path, name in named if name in lvis]
    names = sorted({name for _, name in named})
    return _zero_shot(
        model, model.images(model.files([p for p, _ in named])), names, [names.index(name) for _, name in named]
    )


def agreement(model: Model, reference: Path) -> dict[str, float]:
    """How often the 80 COCO names' best is the real ViT-B/32's, on 50 photographs."""
    with np.load(reference / "image_embeddings.npz") as z, np.load(reference / "text_embeddings.npz") as t:
        real = (z["photos50"].astype(np.float32) @ t["coco"].astype(np.float32).T).argmax(axis=1)
        files = [reference / "photos50" / str(name) for name in z["photos50_files"]]
        names = [str(name) for name in t["coco_names"]]
    found = _zero_shot(model, model.images(model.files(files)), names, real.tolist())
    return {"same_top1": found["top1"], "real_in_top5": found["top5"], "count": found["count"]}


def wordings(model: Model, embeddings: Path) -> dict[str, float]:
    """Share of worded names that lie nearest their own plain name, or a name with the same target, among all given ones."""
    names = load_names(embeddings)
    chosen = [i for i, name in enumerate(names.names[: names.given]) if re.fullmatch(r"[a-z' -]+", name)]
    plain = model.texts([names.names[i] for i in chosen])
    same = torch.from_numpy(
        names.vectors[chosen] @ names.vectors[chosen].T > 0.9
    )  # spellings and synonyms of one thing
    same |= (plain @ plain.T) > 0.995

    def share(phrases: list[str]) -> float:
        nearest = (model.texts(phrases) @ plain.T).argmax(dim=-1)
        return float(same[torch.arange(len(chosen)), nearest].float().mean())

    rng = np.random.default_rng(0)

    def one_each(forms: Sequence[str]) -> list[str]:
        return [forms[int(rng.integers(len(forms)))].format(names.names[i]) for i in chosen]

    target = torch.from_numpy(names.vectors[chosen])
    return {
        "plurals": share([plural(names.names[i]) for i in chosen]),
        "templates": share(one_each(TEMPLATES)),
        "paraphrases": share(one_each(PARAPHRASES)),
        "cosine_to_clip": float((model.classes([names.names[i] for i in chosen], PLAIN) * target).sum(dim=-1).mean()),
        "captions": float(np.mean([_nearer(model, *case) for case in CAPTIONS])),
        "count": len(chosen),
    }


def _nearer(model: Model, caption: str, right: str, wrong: str) -> bool:
    said, yes, no = model.texts([caption, right, wrong])
    return bool(said @ yes > said @ no)


def calibration(images: Tensor, classes: Tensor, labels: Sequence[int]) -> float:
    """The logit scale with the least cross-entropy: what makes softmax's scores honest."""
    logits, wanted = images @ classes.T, torch.tensor(labels)
    scales = torch.linspace(5, 60, 111)
    return float(scales[torch.stack([F.cross_entropy(s * logits, wanted) for s in scales]).argmin()])


def evaluate(model: Model, data: Path, reference: Path, photos: Path | None) -> dict[str, dict[str, float]]:
    """Every measurement of the card."""
    report = {"cifar10_first500": cifar500(model, reference)}
    for name in ("tiny-imagenet", "caltech101", "cats-dogs"):
        report[name] = packed(model, data, name)
    if photos:
        report["imagen_lvis"] = photographs(model, photos, reference)
    report["photos50"] = agreement(model, reference)
    report["text"] = wordings(model, reference / "text_embeddings.npz")
    return report


def main(arguments: list[str] | None = None) -> None:
    """Print the measurements as JSON, and write them into a card."""
    parser = argparse.ArgumentParser(prog="python -m clipkit.training.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--reference", type=Path, required=True, metavar="DIR")
    parser.add_argument("--photos", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a card whose `accuracy` is replaced")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(arguments)
    report = evaluate(Model(args.model, args.device), args.data, args.reference, args.photos)
    rounded = {name: {key: round(value, 4) for key, value in one.items()} for name, one in report.items()}
    print(json.dumps(rounded, indent=2))
    if args.out:
        card: dict[str, Any] = json.loads(args.out.read_text()) if args.out.is_file() else {}
        args.out.write_text(json.dumps(card | {"accuracy": rounded}, indent=2) + "\n")


if __name__ == "__main__":
    main()
