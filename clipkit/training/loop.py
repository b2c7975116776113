"""The image tower's training loop: warm up, hold, decay; resumable after a kill to the same numbers.

Under `torchrun` each worker draws its share of every batch, and the workers' gradients are averaged.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed, nn

from clipkit.training.data import TrainingData, batch
from clipkit.training.model import encode_image, fast_precision
from clipkit.training.objective import image_loss, teacher_loss

if TYPE_CHECKING:
    from pathlib import Path


def worker() -> tuple[int, int]:
    """This worker's number and how many there are: (0, 1) without `torchrun`."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def share_gradients(parameters: list[nn.Parameter], workers: int) -> None:
    """Replace each worker's gradients by their mean over the workers."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    distributed.all_reduce(flat)
    for gradient, part in zip(gradients, torch.split(flat / workers, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


SEED_STEP = 1_000_003
"""Between the seeds of two workers."""


@dataclass(frozen=True)
class Recipe:
    """What the loop needs to know.

    Attributes:
        steps: optimiser steps in all.
        batch_size: pictures a step.
        phases: (side in pixels, fraction of the steps at which the phase ends).
        learning_rate: AdamW's, after `warmup` steps and before the last `decay` of the steps, in which it falls to 0.
        averaging: decay of the moving average of the weights, which is what ships.
        save_every: steps between checkpoints.
    """

    steps: int = 12_000
    batch_size: int = 256
    phases: tuple[tuple[int, float], ...] = ((32, 0.8), (64, 1.0))
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 300
    decay: float = 0.4
    averaging: float = 0.995
    save_every: int = 200
    seed: int = 0

    def side(self, step: int) -> int:
        """Pixels of a side at a step."""
        return next((side for side, end in self.phases if step < end * self.steps), self.phases[-1][0])

    def rate(self, step: int) -> float:
        """Learning rate of a step: the trapezoid of warm-up, hold and linear decay."""
        return self.learning_rate * min(
            1.0, (step + 1) / self.warmup, (self.steps - step) / max(1.0, self.decay * self.steps)
        )


class Trainer:
    """The tower, its average, its optimiser and its place in the recipe."""

    def __init__(
        self,
        visual: nn.Module,
        targets: Tensor,
        allowed: Tensor,
        data: TrainingData,
        recipe: Recipe,
        device: torch.device,
        teacher_targets: Tensor | None = None,
    ) -> None:
        """Place the tower on the device and begin at step 0.

        Without `teacher_targets`, (C, D) for the teacher's C classes, soft labels are left aside.
        """
        self.visual = visual.to(device).to(memory_format=torch.channels_last)
        self.log_scale = nn.Parameter(torch.tensor(20.0, device=device).log())
        self.targets, self.allowed = targets.to(device), allowed.to(device)
        self.teacher_targets = None if teacher_targets is None else teacher_targets.to(device)
        self.data, self.recipe, self.device = data, recipe, device
        self.step = 0
        self.worker, self.workers = worker()
        self.precision = fast_precision(device)
        wide = [p for p in visual.parameters() if p.ndim > 1]
        thin = [p for p in visual.parameters() if p.ndim < 2]
        groups = [
            {"params": wide, "weight_decay": recipe.weight_decay},
            {"params": [*thin, self.log_scale], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)
        self.average = {k: v.detach().clone() for k, v in visual.state_dict().items()}

    def train_step(self) -> float:
        """One step; gives its loss."""
        recipe = self.recipe
        share, seed = recipe.batch_size // self.workers, recipe.seed + SEED_STEP * self.worker
        drawn = batch(self.data, self.step, share, recipe.side(self.step), seed, self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate(self.step)
        self.visual.train()
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            features = encode_image(self.visual, drawn.images.contiguous(memory_format=torch.channels_last))
        scale = self.log_scale.exp()
        loss = image_loss(features, drawn.labels, drawn.shown, self.targets, self.allowed, scale)
        if self.teacher_targets is not None:
            loss = loss + teacher_loss(features, drawn.classes, drawn.shares, self.teacher_targets, scale)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.workers > 1:
            share_gradients([*self.visual.parameters(), self.log_scale], self.workers)
        nn.utils.clip_grad_norm_(self.visual.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.log_scale.clamp_(max=4.0)
            keep = min(recipe.averaging, (1 + self.step) / (10 + self.step))
            for name, value in self.visual.state_dict().items():
                if value.is_floating_point():
                    self.average[name].lerp_(value, 1 - keep)
                else:
                    self.average[name].copy_(value)
        self.step += 1
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Write the checkpoint beside its place, then move it there: a kill leaves the old one whole."""
        if self.worker:
            return
        state = {
            "step": self.step,
            "visual": self.visual.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "log_scale": self.log_scale.detach(),
        }
        part = path.with_suffix(".part")
        torch.save(state, part)
        part.replace(path)

    def load(self, path: Path) -> None:
        """Take up a checkpoint."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.step = state["step"]
        self.visual.load_state_dict(state["visual"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            self.log_scale.copy_(state["log_scale"])

    def run(self, checkpoint: Path, log: Path) -> None:
        """Train to the last step, with a checkpoint every `save_every` and a line of the log every 50."""
        began, total, first = time.monotonic(), 0.0, self.step
        while self.step < self.recipe.steps:
            total += self.train_step()
            if self.step % 50 == 0 and not self.worker:
                done = self.step - first
                speed = done * self.recipe.batch_size / (time.monotonic() - began)
                line = f"{self.step}\t{self.recipe.side(self.step - 1)}\t{total / min(50, done):.4f}\t{self.log_scale.exp().item():.2f}\t{speed:.0f}"
                with log.open("a") as out:
                    out.write(line + os.linesep)
                print(line, flush=True)
                total = 0.0
            if self.step % self.recipe.save_every == 0 or self.step == self.recipe.steps:
                self.save(checkpoint)
