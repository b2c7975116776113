"""Make the built-in model: `python -m clipkit.training.builtin --data DIR --embeddings FILE --out DIR`.

DIR of --data holds what `python -m clipkit.training.pack` wrote; FILE is the .npz of CLIP's text embeddings that
`clipkit.training.names` describes. --out gets `image.pt` and `text.pt` (checkpoints, from which the same command goes on
after a kill), `image.log` and `text.log`, and the model in open_clip's local-dir layout.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from clipkit.training.data import load_training_data
from clipkit.training.loop import Recipe, Trainer
from clipkit.training.model import CONFIG, build, save
from clipkit.training.names import Names, load_names
from clipkit.training.objective import allowed_negatives
from clipkit.training.text import TextRecipe, TextTrainer

RARE = 20
"""Names with fewer pictures than this are never held against another picture."""


def image_trainer(data: Path, names: Names, recipe: Recipe, device: torch.device) -> Trainer:
    """The image tower's trainer over everything packed in `data`."""
    training = load_training_data(data, names)
    place = {int(index): i for i, index in enumerate(training.vocabulary)}
    kinds = {place[m]: place[k] for m, k in names.kinds.items() if m in place and k in place}
    vectors = names.vectors[training.vocabulary]
    allowed = allowed_negatives(vectors, kinds, np.asarray(training.counts < RARE))
    torch.manual_seed(recipe.seed)
    return Trainer(build().visual, torch.from_numpy(vectors), allowed, training, recipe, device)


def export(out: Path, logit_scale: float) -> None:
    """Join the two towers' averaged weights into one model beside its config."""
    model = build()
    image = torch.load(out / "image.pt", map_location="cpu", weights_only=True)
    model.visual.load_state_dict(image["average"])
    text = torch.load(out / "text.pt", map_location="cpu", weights_only=True)
    missing = model.load_state_dict(text["average"], strict=False)
    assert not missing.unexpected_keys
    with torch.no_grad():
        model.logit_scale.fill_(float(np.log(logit_scale)))
    save(model, out)
    if CONFIG.parent.resolve() != out.resolve():
        shutil.copy(CONFIG, out / CONFIG.name)


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
        "--phases", default="32:.15,64:.85,96:1", help="side:end, comma-separated; ends are fractions of the steps"
    )
    parser.add_argument("--logit-scale", type=float, default=20.0, help="the factor that softmax uses at inference")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    parser.add_argument("--restart", action="store_true", help="ignore the checkpoints in --out")
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
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
            seed=args.seed,
            phases=phases,
        )
        image = image_trainer(args.data, names, recipe, device)
        _go_on(image, args.out / "image.pt", restart=args.restart)
        image.run(args.out / "image.pt", args.out / "image.log")
    if "export" in args.stages:
        export(args.out, args.logit_scale)


def _go_on(trainer: Trainer | TextTrainer, checkpoint: Path, *, restart: bool) -> None:
    if checkpoint.is_file() and not restart:
        trainer.load(checkpoint)


if __name__ == "__main__":
    main()
