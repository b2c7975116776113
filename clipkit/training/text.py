"""The text tower's training: a narrow CLIP text transformer that learns where CLIP itself would put a phrase."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from open_clip import CLIP, get_tokenizer
from torch import Tensor, nn

from clipkit.training.model import fast_precision
from clipkit.training.objective import text_loss
from clipkit.training.phrases import Phrases

if TYPE_CHECKING:
    from pathlib import Path

    from clipkit.training.names import Names

UNKNOWN = 49_000
"""A rare token that stands for every token training never shows: its vector is copied to all of them at the end."""


@dataclass(frozen=True)
class TextRecipe:
    """What the text tower's loop needs to know; `unknown` is the chance, taken thrice, that a phrase gets an unknown word."""

    steps: int = 4000
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: int = 200
    decay: float = 0.5
    averaging: float = 0.998
    unknown: float = 0.15
    save_every: int = 250
    seed: int = 0

    def rate(self, step: int) -> float:
        """Learning rate of a step: the trapezoid of warm-up, hold and linear decay."""
        return self.learning_rate * min(
            1.0, (step + 1) / self.warmup, (self.steps - step) / max(1.0, self.decay * self.steps)
        )


def encode_text(model: CLIP, tokens: Tensor) -> Tensor:
    """CLIP's text tower on tokens trimmed to the longest phrase: (N, L <= context) -> (N, D), as `CLIP.encode_text` on all."""
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    last = tokens.argmax(dim=-1)
    found: Tensor = x[torch.arange(len(x), device=x.device), last] @ model.text_projection
    return found


def text_state(model: CLIP) -> dict[str, Tensor]:
    """The text tower's part of the state dict."""
    return {
        k: v
        for k, v in model.state_dict().items()
        if not k.startswith("visual.") and k not in {"logit_scale", "logit_bias", "attn_mask"}
    }


class TextTrainer:
    """The text tower of `model`, its average, its optimiser and its place in the recipe."""

    def __init__(
        self,
        model: CLIP,
        names: Names,
        captions: Path | None,
        recipe: TextRecipe,
        device: torch.device,
        favourites: tuple[int, ...] = (),
    ) -> None:
        """Place the tower on the device and begin at step 0."""
        self.model, self.recipe, self.device = model.to(device), recipe, device
        self.precision = fast_precision(device)
        self.phrases = Phrases(names, captions, favourites)
        self.tokenize = get_tokenizer("ViT-B-32", context_length=model.positional_embedding.shape[0])
        self.vocabulary = torch.from_numpy(names.vectors).to(device)
        model.visual.requires_grad_(requires_grad=False)
        parts = {k: p for k, p in model.named_parameters() if not k.startswith("visual.") and k != "logit_scale"}
        wide = [p for k, p in parts.items() if p.ndim > 1 and "embedding" not in k]
        rest = [p for k, p in parts.items() if p.ndim < 2 or "embedding" in k]
        groups = [{"params": wide, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)
        self.average = {k: v.detach().clone() for k, v in text_state(model).items()}
        self.seen = torch.zeros(model.token_embedding.num_embeddings, dtype=torch.bool)
        self.step = 0

    def tokens(self, phrases: list[str], rng: np.random.Generator) -> Tensor:
        """Token ids (N, L), some with an unknown token put in after the start, trimmed to the longest phrase."""
        tokens: Tensor = self.tokenize(phrases)
        for row in np.flatnonzero(rng.random((3, len(phrases))) < self.recipe.unknown) % len(phrases):
            end = int(tokens[row].argmax())
            if end < tokens.shape[1] - 1:
                at = int(rng.integers(1, end + 1))
                tokens[row, at + 1 :] = tokens[row, at:-1].clone()
                tokens[row, at] = UNKNOWN
        return tokens[:, : int(tokens.argmax(dim=-1).max()) + 1]

    def train_step(self) -> float:
        """One step; gives its loss."""
        recipe = self.recipe
        phrases, targets = self.phrases.batch(self.step, recipe.batch_size, recipe.seed)
        tokens = self.tokens(phrases, np.random.default_rng((recipe.seed, self.step, 2)))
        self.seen[torch.unique(tokens)] = True
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate(self.step)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            features = encode_text(self.model, tokens.to(self.device))
        loss = text_loss(features, torch.from_numpy(targets).to(self.device), self.vocabulary)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        keep = min(recipe.averaging, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in text_state(self.model).items():
                self.average[name].lerp_(value, 1 - keep)
        self.step += 1
        return float(loss.detach())

    def finished(self) -> dict[str, Tensor]:
        """The averaged weights, with the unknown token's vector in the place of every token never seen."""
        state = {k: v.clone() for k, v in self.average.items()}
        state["token_embedding.weight"][~self.seen] = state["token_embedding.weight"][UNKNOWN].clone()
        return state

    def save(self, path: Path) -> None:
        """Write the checkpoint beside its place, then move it there: a kill leaves the old one whole."""
        state = {
            "step": self.step,
            "text": text_state(self.model),
            "raw_average": self.average,
            "average": self.finished(),
            "optimizer": self.optimizer.state_dict(),
            "seen": self.seen,
        }
        part = path.with_suffix(".part")
        torch.save(state, part)
        part.replace(path)

    def load(self, path: Path) -> None:
        """Take up a checkpoint."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.step = state["step"]
        self.model.load_state_dict(state["text"], strict=False)
        self.average = state["raw_average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.seen = state["seen"].cpu()

    def run(self, checkpoint: Path, log: Path) -> None:
        """Train to the last step, with a checkpoint every `save_every` and a line of the log every 50."""
        began, total, first = time.monotonic(), 0.0, self.step
        while self.step < self.recipe.steps:
            total += self.train_step()
            if self.step % 50 == 0:
                done = self.step - first
                line = f"{self.step}\t{total / min(50, done):.4f}\t{done / (time.monotonic() - began):.2f}"
                with log.open("a") as out:
                    out.write(line + os.linesep)
                print(line, flush=True)
                total = 0.0
            if self.step % self.recipe.save_every == 0 or self.step == self.recipe.steps:
                self.save(checkpoint)
