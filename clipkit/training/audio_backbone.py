"""First stage of the built-in audio tower: the backbone learns the teacher's 521 scores and the label names' classes.

No text takes part yet, so the text tower may change without training this again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from clipkit.audio.logmel import LogMel
from clipkit.media.audio import load
from clipkit.training.audio_data import LABELS, esc10_clips
from clipkit.training.audio_scenes import RATE
from clipkit.training.audio_tower import FEATURES, AudioBackbone


class Heads(nn.Module):
    """What the backbone is trained through and then goes without."""

    def __init__(self, teacher: int) -> None:
        """One head for the teacher's scores, one for the labelled classes."""
        super().__init__()
        self.teacher = nn.Linear(FEATURES, teacher)
        self.classes = nn.Linear(FEATURES, len(LABELS))


def masked(mels: Tensor, generator: torch.Generator) -> Tensor:
    """SpecAugment: one band of frequencies and one stretch of time put to the mean, and a random shift in level."""
    count, frames, bands = mels.shape
    mels = mels + 0.3 * torch.randn(count, 1, 1, generator=generator)
    for axis, size, widest in ((1, frames, frames // 5), (2, bands, bands // 5)):
        width = torch.randint(0, widest, (count, 1), generator=generator)
        start = (torch.rand(count, 1, generator=generator) * (size - width)).long()
        places = torch.arange(size)[None]
        mask = (places >= start) & (places < start + width)
        mels = mels.masked_fill(mask[:, :, None] if axis == 1 else mask[:, None, :], 0.0)
    return mels


def losses(backbone: AudioBackbone, heads: Heads, mels: Tensor, scores: Tensor, shares: Tensor) -> Tensor:
    """Binary cross-entropy to the teacher's scores (summed over names), cross-entropy to the shares of the classes."""
    features = backbone(mels)
    teacher = (
        functional.binary_cross_entropy_with_logits(heads.teacher(features), scores, reduction="none").sum(1).mean()
    )
    log_p = functional.log_softmax(heads.classes(features), dim=1)
    return 0.3 * teacher - (shares * log_p).sum(1).mean()


@torch.no_grad()
def accuracy(backbone: AudioBackbone, heads: Heads, clips: list[tuple[Path, int]]) -> float:
    """Top-1 of the class head over whole clips."""
    backbone.eval()
    front_end = LogMel()
    right = 0
    for file, label in clips:
        mels = torch.from_numpy(front_end(load(file, RATE)))[None]
        right += int(heads.classes(backbone(mels)).argmax()) == label
    backbone.train()
    return right / len(clips)


def main() -> None:
    """Train and write `backbone.pt` (backbone and heads)."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--scenes", type=Path, nargs="+", required=True)
    parser.add_argument("--esc10", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="go on from these weights")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    options = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    parts = [np.load(file) for file in options.scenes]
    mels, scores, shares = (
        torch.from_numpy(np.concatenate([part[key] for part in parts])) for key in ("mels", "scores", "shares")
    )
    validation = esc10_clips(options.esc10, "4")
    backbone, heads = AudioBackbone(), Heads(scores.shape[1])
    if options.start is not None:
        state = torch.load(options.start, weights_only=True)
        backbone.load_state_dict(state["backbone"])
        heads.load_state_dict(state["heads"])
    backbone.to(memory_format=torch.channels_last)
    parameters = [*backbone.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=options.rate, weight_decay=0.05)
    steps = options.epochs * (len(mels) // options.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.rate, total_steps=steps, pct_start=0.15)
    generator = torch.Generator().manual_seed(0)
    began = time.monotonic()
    for epoch in range(options.epochs):
        total = 0.0
        order = torch.randperm(len(mels), generator=generator)
        for step in range(steps // options.epochs):
            batch = order[step * options.batch : (step + 1) * options.batch]
            seen = masked(mels[batch].float(), generator)
            loss = losses(backbone, heads, seen, scores[batch].float(), shares[batch].float())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
        minutes = (time.monotonic() - began) / 60
        print(
            f"epoch {epoch}: loss {total / (steps // options.epochs):.3f}, "
            f"fold 4 {accuracy(backbone, heads, validation):.3f}, {minutes:.1f} min",
            flush=True,
        )
        torch.save({"backbone": backbone.state_dict(), "heads": heads.state_dict()}, options.out)


if __name__ == "__main__":
    main()
