"""Last stage of the built-in audio tower: a linear layer from the trained backbone into the text space, then the files.

Only this stage sees the text tower, so a new text tower costs a minute here and no training of the backbone.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from clipkit.audio.builtin import FOLDER
from clipkit.audio.logmel import LogMel
from clipkit.media.audio import load
from clipkit.training.audio_data import LABELS, WORDINGS, esc10_clips
from clipkit.training.audio_export import save_tower
from clipkit.training.audio_scenes import RATE
from clipkit.training.audio_teacher import class_names
from clipkit.training.audio_tower import FEATURES, AudioBackbone, AudioTower

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Encode = Callable[[Sequence[str]], NDArray[np.float32]]

SECONDS = 5.0


def parts_of(name: str) -> list[str]:
    """`Bark, bow-wow (dog)` -> its wordings, lower case, without parentheses."""
    plain = re.sub(r"\s*\(.*?\)", "", name).lower()
    return [part for part in (p.strip() for p in plain.split(",")) if part and part != "etc."]


def name_vectors(names: Sequence[str], encode: Encode) -> Tensor:
    """(V, D) unit vectors: the mean over each name's wordings."""
    parts = [parts_of(name) for name in names]
    flat = encode([w for words in parts for w in words])
    ends = np.cumsum([len(words) for words in parts])
    means = np.stack([block.mean(axis=0) for block in np.split(flat, ends[:-1])])
    return functional.normalize(torch.from_numpy(means), dim=1)


@torch.no_grad()
def features_of(backbone: AudioBackbone, mels: Tensor) -> Tensor:
    """(N, frames, bands) -> (N, FEATURES), in batches."""
    return torch.cat([backbone(mels[i : i + 128].float()) for i in range(0, len(mels), 128)])


@torch.no_grad()
def clip_features(backbone: AudioBackbone, clips: list[tuple[Path, int]]) -> tuple[Tensor, Tensor]:
    """Features (N, FEATURES) and classes (N,) of whole clips."""
    front_end = LogMel()
    mels = [torch.from_numpy(front_end(load(file, RATE)[: round(RATE * SECONDS)])) for file, _ in clips]
    return torch.cat([backbone(mel[None]) for mel in mels]), torch.tensor([label for _, label in clips])


class Fit(nn.Module):
    """The projection and the scale of its cosines."""

    def __init__(self, embed_dim: int) -> None:
        """Random projection, scale 20."""
        super().__init__()
        self.projection = nn.Linear(FEATURES, embed_dim)
        self.log_scale = nn.Parameter(torch.tensor(20.0).log())

    def logits(self, features: Tensor, vectors: Tensor) -> Tensor:
        """(N, FEATURES), (V, D) -> (N, V)."""
        embedded = functional.normalize(self.projection(features), dim=1)
        return self.log_scale.exp() * embedded @ vectors.T

    def loss(self, batch: tuple[Tensor, Tensor, Tensor], names: Tensor, wordings: Tensor) -> Tensor:
        """Cross-entropy to the teacher's names in proportion to its scores, and to the classes' names by their shares.

        Args:
            batch: features (N, FEATURES), teacher's scores (N, V), shares of the classes (N, C).
            names: (V, D) vectors of the teacher's names.
            wordings: (C, W, D) vectors of the classes; each step takes one wording of each at random.
        """
        features, scores, shares = batch
        labels = wordings[torch.arange(len(wordings)), torch.randint(wordings.shape[1], (len(wordings),))]
        wanted = scores / scores.sum(1, keepdim=True).clamp(min=1e-3)
        teacher = -(wanted * functional.log_softmax(self.logits(features, names), dim=1)).sum(1)
        classes = -(shares * functional.log_softmax(self.logits(features, labels), dim=1)).sum(1)
        return (teacher * scores.amax(1).clamp(max=1.0) + classes).mean()


def fit(features: Tensor, scores: Tensor, shares: Tensor, names: Tensor, wordings: Tensor, epochs: int) -> Fit:
    """Train the projection on frozen features."""
    torch.manual_seed(0)
    model = Fit(names.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    batches = len(features) // 256
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * batches)
    for _ in range(epochs):
        order = torch.randperm(len(features))
        for step in range(batches):
            batch = order[step * 256 : (step + 1) * 256]
            seen = functional.dropout(features[batch], 0.1)
            loss = model.loss((seen, scores[batch], shares[batch]), names, wordings)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return model


def main() -> None:
    """Fit the projection to the built-in text tower and write the tower's files."""
    from clipkit.models.loader import load_clip

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--scenes", type=Path, nargs="+", required=True)
    parser.add_argument("--esc10", type=Path, required=True)
    parser.add_argument("--names", type=Path, required=True, help="yamnet_class_map.csv")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument(
        "--leave-out", nargs="*", default=[], help="classes the scenes lack: measure them, write nothing"
    )
    options = parser.parse_args()

    torch.set_num_threads(1)
    backbone = AudioBackbone()
    backbone.load_state_dict(torch.load(options.backbone, weights_only=True)["backbone"])
    backbone.eval()
    encode = load_clip("builtin", "cpu", "fp32").encode_texts
    names = name_vectors(class_names(options.names), encode)
    phrases = torch.from_numpy(encode([phrase for words in WORDINGS for phrase in words]))
    wordings = functional.normalize(phrases, dim=1).reshape(len(WORDINGS), -1, phrases.shape[1])
    labels = wordings[:, 0]
    parts = [np.load(file) for file in options.scenes]
    mels, scores, shares = (
        torch.from_numpy(np.concatenate([part[key] for part in parts])) for key in ("mels", "scores", "shares")
    )
    seen = torch.tensor([i for i, label in enumerate(LABELS) if label not in options.leave_out])
    model = fit(
        features_of(backbone, mels), scores.float(), shares[:, seen].float(), names, wordings[seen], options.epochs
    )
    found, classes = clip_features(backbone, esc10_clips(options.esc10, "4"))
    with torch.no_grad():
        right = (model.logits(found, labels).argmax(1) == classes).float()
        scale = float(model.log_scale.exp())
    for index, label in enumerate(LABELS):
        print(f"{label:16s} {float(right[classes == index].mean()):.3f}{'' if index in seen else '  (unseen)'}")
    print(f"fold 4 by label names {float(right.mean()):.3f}, scale {scale:.1f}")
    if options.leave_out:
        return
    tower = AudioTower(backbone, model.projection)
    save_tower(tower, options.out, seconds=SECONDS, logit_scale=scale, image_scale=scale, templates=("{}",))


if __name__ == "__main__":
    main()
