"""Soft labels of a teacher for the packed photographs: `python -m clipkit.training.teacher --data DIR --weights FILE`.

MobileNetV2 (Sandler et al. 2018), trained on ImageNet, says of each picture which of the 1000 classes it may show
(Hinton et al. 2015): a label names one thing, the teacher also what stands beside it and what it might be taken for.
Beside each `<set>.train.images.npy` of pictures that are large enough comes a `<set>.train.teacher.npz`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the field's name for it)

from clipkit.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

TEACHER = "MobileNetV2, ImageNet (google-coral/test_data, Apache-2.0)"
"""What the card says of it."""
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, repeats, first stride of each stage (table 2 of the paper)."""
TEMPERATURE = 2.0
"""Teacher's and student's logits are divided by it (Hinton et al. 2015): the second and third guess count for more."""
KEPT = 24
"""Classes stored of each picture, the likeliest."""
SMALLEST = 64
"""Pixels of a side below which the teacher's word is worth little."""
LARGE = 96
"""Pixels of a side from which on a picture is worth enlarging to 160, not to 128."""


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's padding: what is odd of it comes last."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        high, wide = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:])
        x = F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        return super().forward(x)


def _conv(inside: int, outside: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> SameConv:
    return SameConv(inside, outside, kernel, stride, groups=groups)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project without an activation; the input is added where the shapes allow it."""

    def __init__(self, inside: int, outside: int, expansion: int, stride: int) -> None:
        """Batch normalisation is folded into the convolutions."""
        super().__init__()
        width = inside * expansion
        self.expand = _conv(inside, width) if expansion > 1 else None
        self.depthwise = _conv(width, width, 3, stride, width)
        self.project = _conv(width, outside)
        self.residual = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H / stride, W / stride)."""
        wide = x if self.expand is None else F.relu6(self.expand(x))
        y: Tensor = self.project(F.relu6(self.depthwise(wide)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """(N, 3, S, S) in [-1, 1] -> (N, 1001) logits, of which the first is for none of the classes."""

    def __init__(self, classes: int = 1001) -> None:
        """Width 1."""
        super().__init__()
        self.stem = _conv(3, 32, 3, 2)
        width, blocks = 32, []
        for expansion, outside, repeats, stride in BLOCKS:
            for number in range(repeats):
                blocks.append(InvertedResidual(width, outside, expansion, stride if number == 0 else 1))
                width = outside
        self.blocks = nn.Sequential(*blocks)
        self.head = _conv(width, 1280)
        self.fc = nn.Linear(1280, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, over the mean of all places."""
        found: Tensor = self.fc(F.relu6(self.head(self.blocks(F.relu6(self.stem(x))))).mean(dim=(2, 3)))
        return found


def load_teacher(weights: Path) -> MobileNetV2:
    """The network with the weights of a safetensors file, for inference."""
    model = MobileNetV2()
    model.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
    return model.eval().to(memory_format=torch.channels_last)


@torch.inference_mode()
def soft_labels(
    teacher: Callable[[Tensor], Tensor], images: NDArray[np.uint8], chunk: int = 64
) -> tuple[NDArray[np.int16], NDArray[np.float16]]:
    """The `KEPT` likeliest classes of each picture and their shares at `TEMPERATURE`, which sum to one.

    Args:
        teacher: (N, 3, S, S) in [-1, 1] -> (N, 1001).
        images: (N, S, S, 3); enlarged to a multiple of 32, about twice their side, since the teacher learned at 224.
        chunk: pictures at once.

    Returns:
        (N, KEPT) class numbers from 0, likeliest first; (N, KEPT) shares.
    """
    side = 160 if images.shape[1] >= LARGE else 128
    classes, shares = [], []
    for start in range(0, len(images), chunk):
        pictures = torch.from_numpy(np.array(images[start : start + chunk])).permute(0, 3, 1, 2).float()
        pictures = F.interpolate(pictures, size=(side, side), mode="bicubic", align_corners=False).clamp(0, 255)
        logits = teacher((pictures / 127.5 - 1).contiguous(memory_format=torch.channels_last))[:, 1:]
        values, indices = logits.topk(KEPT, dim=1)
        classes.append(indices.numpy().astype(np.int16))
        shares.append((values / TEMPERATURE).softmax(dim=1).numpy().astype(np.float16))
    return np.concatenate(classes), np.concatenate(shares)


def teacher_file(images: Path) -> Path:
    """Where the soft labels of `<set>.train.images.npy` lie."""
    return images.with_name(images.name.replace("images.npy", "teacher.npz"))


def main(arguments: list[str] | None = None) -> None:
    """Label every packed training set that has no soft labels yet."""
    parser = argparse.ArgumentParser(prog="python -m clipkit.training.teacher", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="what clipkit.training.pack wrote")
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="MobileNetV2, folded, safetensors")
    parser.add_argument("--only", nargs="*", default=[], help="names of sets")
    args = parser.parse_args(arguments)
    teacher = load_teacher(args.weights)
    for file in sorted(args.data.glob("*.train.images.npy")):
        name, out = file.name.split(".")[0], teacher_file(file)
        images = np.load(file, mmap_mode="r")
        if out.exists() or images.shape[1] < SMALLEST or (args.only and name not in args.only):
            continue
        classes, shares = soft_labels(teacher, images)
        with atomic_write(out) as stream:  # what is there already is not made again: never half of it
            np.savez(stream, classes=classes, shares=shares)
        print(f"{name:18} {len(images):7} pictures", flush=True)


if __name__ == "__main__":
    main()
