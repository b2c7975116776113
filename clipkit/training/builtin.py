"""Make the built-in model: `python -m clipkit.training.builtin --data DIR --embeddings FILE --out DIR`.

DIR of --data holds what `python -m clipkit.training.pack` wrote; FILE is the .npz of CLIP's text embeddings that
`clipkit.training.names` describes. --out gets `image.pt` and `text.pt` (checkpoints, from which the same command goes on
after a kill), `image.log` and `text.log`, and the model in open_clip's local-dir layout.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from open_clip import get_tokenizer
from torch import distributed
from torch.nn import functional as F  # noqa: N812 (the field's name for it)

from clipkit.training.data import load_training_data
from clipkit.training.loop import Recipe, Trainer, worker
from clipkit.training.model import CONFIG, build, load, save
from clipkit.training.names import Names, load_names
from clipkit.training.objective import allowed_negatives
from clipkit.training.pack import SOURCES
from clipkit.training.phrases import TEMPLATES
from clipkit.training.teacher import TEACHER
from clipkit.training.text import TextRecipe, TextTrainer, encode_text

VERSION = "5"
RARE = 20
"""Names with fewer pictures than this are never held against another picture."""


def text_tower(out: Path, init: Path | None) -> dict[str, torch.Tensor] | None:
    """The text tower trained in `out`, else that of the model in `init`, else none; names as in open_clip's CLIP."""
    if (out / "text.pt").is_file():
        average: dict[str, torch.Tensor] = torch.load(out / "text.pt", map_location="cpu", weights_only=True)["average"]
        return average
    return {k: v for k, v in load(init).items() if not k.startswith("visual.")} if init else None


def own_targets(
    tower: dict[str, torch.Tensor], phrases: list[str], templates: tuple[str, ...] = TEMPLATES[::4]
) -> torch.Tensor:
    """Where the trained text tower itself puts each name: (V, D), the unit mean over templates, as at inference.

    The tower is too narrow to reproduce CLIP's vectors wholly; pictures are matched with what it says, so that is their target.
    """
    model = build().eval()
    model.load_state_dict(tower, strict=False)
    tokenize = get_tokenizer("ViT-B-32")
    total = torch.zeros(len(phrases), model.text_projection.shape[1])
    with torch.no_grad():
        for template in templates:
            tokens = tokenize([template.format(phrase) for phrase in phrases])
            tokens = tokens[:, : int(tokens.argmax(dim=-1).max()) + 1]
            total += F.normalize(torch.cat([encode_text(model, part) for part in tokens.split(256)]), dim=-1)
    return F.normalize(total, dim=-1)


def image_trainer(
    data: Path,
    names: Names,
    recipe: Recipe,
    device: torch.device,
    tower: dict[str, torch.Tensor] | None = None,
    init: Path | None = None,
    side: int | None = None,
) -> Trainer:
    """The image tower's trainer over everything packed in `data`, towards CLIP's vectors or, if given, a text tower's.

    With `init` it begins from that model's image tower and logit scale, not from chance.
    """
    training = load_training_data(data, names)
    place = {int(index): i for i, index in enumerate(training.vocabulary)}
    kinds = {place[m]: place[k] for m, k in names.kinds.items() if m in place and k in place}
    vectors = names.vectors[training.vocabulary]
    allowed = allowed_negatives(vectors, kinds, np.asarray(training.counts < RARE))
    torch.manual_seed(recipe.seed)
    used = np.union1d(training.vocabulary, names.imagenet)
    found = own_targets(tower, [names.names[i] for i in used]) if tower else torch.from_numpy(names.vectors[used])
    targets, imagenet = (found[np.searchsorted(used, rows)] for rows in (training.vocabulary, names.imagenet))
    model = build(side)
    if init:
        model.load_state_dict(load(init, side), strict=False)
    trainer = Trainer(model.visual, targets, allowed, training, recipe, device, imagenet)
    if init:
        with torch.no_grad():
            trainer.log_scale.copy_(model.logit_scale)
    return trainer


def export(
    out: Path, logit_scale: float, init: Path | None = None, side: int | None = None, share: float = 1.0
) -> None:
    """Join the two towers' averaged weights into one model beside its config and a card without figures.

    The text tower is `init`'s where none was trained in `out`. A `share` below 1 goes only so far from `init`'s image
    tower to the trained one, which forgets less of what was not trained again (WiSE-FT, Wortsman et al. 2022).
    """
    model = build(side)
    image = torch.load(out / "image.pt", map_location="cpu", weights_only=True)
    average: dict[str, torch.Tensor] = image["average"]
    if init and share < 1:
        before = load(init, side)
        average = {
            k: v if not v.is_floating_point() else torch.lerp(before[f"visual.{k}"], v, share)
            for k, v in average.items()
        }
    model.visual.load_state_dict(average)
    tower = text_tower(out, init)
    if tower is None:
        raise FileNotFoundError(f"no text.pt in {out}: train the text tower first, or give --init")
    found = model.load_state_dict(tower, strict=False)
    assert not found.unexpected_keys
    with torch.no_grad():
        model.logit_scale.fill_(math.log(logit_scale))
    save(model, out)
    card = {
        "name": "builtin",
        "version": VERSION,
        "date": datetime.now(UTC).date().isoformat(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "image_size": int(model.visual.image_size),
        "steps": f"image {image['step']}{' more' if init else ''}",
        "teacher": TEACHER,
        "trained_on": "; ".join(f"{s['name']} ({s['licence']})" for s in json.loads(SOURCES.read_text())),
        "not_for": "decisions about people, medical, legal or safety uses, commercial use without advice on the sets' licences",
        "page": "docs/builtin-model.md",
    }
    (out / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    config = json.loads(CONFIG.read_text())
    config["model_cfg"]["vision_cfg"]["image_size"] = int(model.visual.image_size)
    (out / CONFIG.name).write_text(json.dumps(config, indent=2) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Train the text tower, then the image tower, then write the model."""
    parser = argparse.ArgumentParser(prog="python -m clipkit.training.builtin", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--embeddings", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--captions", type=Path, metavar="FILE", help="captions, one a line, for the text tower's unknown words"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--stages", nargs="*", default=["text", "image", "export"], choices=["text", "image", "export"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--steps", type=int, default=Recipe.steps, help="of the image tower; may be changed when going on"
    )
    parser.add_argument("--batch-size", type=int, default=Recipe.batch_size)
    parser.add_argument("--learning-rate", type=float, default=Recipe.learning_rate)
    parser.add_argument("--text-steps", type=int, default=TextRecipe.steps)
    parser.add_argument(
        "--phases", default="32:.8,64:1", help="side:end, comma-separated; ends are fractions of the steps"
    )
    parser.add_argument(
        "--side", type=int, help="pixels of the pictures that the model will take; its config's if not given"
    )
    parser.add_argument("--logit-scale", type=float, default=20.0, help="the factor that softmax uses at inference")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    parser.add_argument(
        "--decay", type=float, default=Recipe.decay, help="fraction of the steps in which the rate falls"
    )
    parser.add_argument("--init", type=Path, metavar="DIR", help="a model to begin from, in place of random weights")
    parser.add_argument(
        "--share", type=float, default=1.0, help="how far from --init's image tower to the trained one, from 0 to 1"
    )
    parser.add_argument("--restart", action="store_true", help="ignore the checkpoints in --out")
    args = parser.parse_args(arguments)
    if not 0 <= args.share <= 1 or (args.share < 1 and not args.init):
        parser.error("--share is from 0 to 1, and below 1 needs the model of --init")
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    if "WORLD_SIZE" in os.environ:  # torchrun's
        distributed.init_process_group("nccl" if args.device.startswith("cuda") else "gloo")
    names = load_names(args.embeddings)
    device = torch.device(args.device)
    if "text" in args.stages:
        text_recipe = replace(TextRecipe(), steps=args.text_steps, seed=args.seed)
        text = TextTrainer(build(), names, args.captions, text_recipe, device)
        _go_on(text, args.out / "text.pt", restart=args.restart)
        text.run(args.out / "text.pt", args.out / "text.log")
    if "image" in args.stages:
        phases = tuple((int(side), float(end)) for side, end in (phase.split(":") for phase in args.phases.split(",")))
        recipe = replace(
            Recipe(),
            steps=args.steps,
            batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            decay=args.decay,
            seed=args.seed,
            phases=phases,
        )
        image = image_trainer(args.data, names, recipe, device, text_tower(args.out, args.init), args.init, args.side)
        _go_on(image, args.out / "image.pt", restart=args.restart)
        image.run(args.out / "image.pt", args.out / "image.log")
    if "export" in args.stages and not worker()[0]:
        export(args.out, args.logit_scale, args.init, args.side, args.share)
    if worker()[1] > 1:
        distributed.destroy_process_group()


def _go_on(trainer: Trainer | TextTrainer, checkpoint: Path, *, restart: bool) -> None:
    if checkpoint.is_file() and not restart:
        trainer.load(checkpoint)


if __name__ == "__main__":
    main()
