"""ViLD's region network as its PyTorch re-implementation has it: a Faster R-CNN whose boxes embed in CLIP's space.

The re-implementation is that of Du et al. 2022 (DetPro, section 4): ResNet-50, FPN with batch norm, and a head of four
convolutions and a linear layer, from which one class-agnostic box and one vector leave, beside a second one for images
(ViLD-ensemble, Gu et al. 2022, section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.resnet import Bottleneck
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from clipkit.detection.rcnn_boxes import HEAD_STDS, RATIOS, decode, pool_regions, propose

if TYPE_CHECKING:
    from torch import Tensor

REGIONS_AT_ONCE = 250


@dataclass(frozen=True, slots=True)
class Sizes:
    """Everything a checkpoint's shapes say.

    Attributes:
        stem: channels of the first convolution.
        stages: number of blocks and channels of each of the four stages.
        caffe: whether a stage halves its map in the first convolution of its first block, not in the second.
        pyramid: channels of the FPN.
        pyramid_norm: whether its convolutions have batch norm.
        convs: channels of the head's convolutions.
        head_norm: whether they have batch norm.
        fcs: widths of the head's linear layers.
        cells: side of a region's pooled map.
        dim: D, the width of the joint space.
        image: whether a second branch, distilled from CLIP's embeddings of crops, stands beside the one for texts.
    """

    stem: int
    stages: tuple[tuple[int, int], ...]
    caffe: bool
    pyramid: int
    pyramid_norm: bool
    convs: tuple[int, ...]
    head_norm: bool
    fcs: tuple[int, ...]
    cells: int
    dim: int
    image: bool = False


class Body(nn.Module):
    """ResNet without its classifier (He et al. 2016)."""

    def __init__(self, sizes: Sizes) -> None:
        """Lay out the stages."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, sizes.stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(sizes.stem)
        before = sizes.stem
        for number, (blocks, channels) in enumerate(sizes.stages, 1):
            stage = _stage(before, channels, blocks, 1 if number == 1 else 2, caffe=sizes.caffe)
            self.add_module(f"layer{number}", stage)
            before = channels

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """`(1, 3, H, W)` -> maps at strides 4, 8, 16 and 32."""
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(pixels))), 3, 2, 1)
        maps = []
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
            maps.append(x)
        return maps


class Branch(nn.Module):
    """Pooled maps `(N, C, s, s)` -> hidden values `(N, F)`, and these to unit vectors `(N, D)`."""

    def __init__(self, sizes: Sizes) -> None:
        """Lay out convolutions, linear layers and the projection."""
        super().__init__()
        self.convs, self.fcs = nn.ModuleList(), nn.ModuleList()
        before = sizes.pyramid
        for channels in sizes.convs:
            conv = nn.Conv2d(before, channels, 3, padding=1, bias=not sizes.head_norm)
            norm = [nn.BatchNorm2d(channels)] if sizes.head_norm else []
            self.convs.append(nn.Sequential(conv, *norm, nn.ReLU(inplace=True)))
            before = channels
        before *= sizes.cells**2
        for width in sizes.fcs:
            self.fcs.append(nn.Linear(before, width))
            before = width
        self.projection = nn.Linear(before, sizes.dim)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden values and vectors."""
        x = pooled
        for conv in self.convs:
            x = conv(x)
        x = x.flatten(1)
        for fc in self.fcs:
            x = functional.relu(fc(x))
        return x, functional.normalize(self.projection(x), dim=1)


class RegionNet(nn.Module):
    """A picture to boxes with vectors in CLIP's joint space."""

    def __init__(self, sizes: Sizes, background: Tensor | None) -> None:
        """Put the parts together.

        Args:
            sizes: the layout.
            background: the learned unit vector `(D,)` of what is no object, where the checkpoint has one.
        """
        super().__init__()
        self.sizes = sizes
        self.background = background
        self.body = Body(sizes)
        self.fpn = FeaturePyramidNetwork(
            [channels for _, channels in sizes.stages],
            sizes.pyramid,
            LastLevelMaxPool(),
            nn.BatchNorm2d if sizes.pyramid_norm else None,
        )
        self.rpn = RPNHead(sizes.pyramid, len(RATIOS))
        self.text = Branch(sizes)
        self.box = nn.Linear(self.text.projection.in_features, 4)
        self.image = Branch(sizes) if sizes.image else None

    def forward(
        self, pixels: Tensor, width: int, height: int, *, image: bool = False
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Propose, pool, embed and refine.

        Args:
            pixels: one normalised picture `(1, 3, H, W)`, sides multiples of 32.
            width: of the picture without what was added at its right.
            height: likewise.
            image: whether the image branch is asked, too.

        Returns:
            Refined boxes `(N, 4)` in these pixels, objectness `(N,)`, best first, unit vectors `(N, D)` for texts, and
            those of the image branch, where there is one and it is asked.
        """
        levels = dict(enumerate(self.body(pixels)))
        maps = list(self.fpn(levels).values())
        logits, deltas = self.rpn(maps)
        boxes, scores = propose([x[0] for x in logits], [x[0] for x in deltas], width, height)
        moves, vectors, crops = [], [], []
        for some in torch.split(boxes, REGIONS_AT_ONCE):
            pooled = pool_regions(maps[:4], some, self.sizes.cells)
            hidden, vector = self.text(pooled)
            moves.append(self.box(hidden))
            vectors.append(vector)
            if image and self.image is not None:
                crops.append(self.image(pooled)[1])
        refined = decode(boxes, torch.cat(moves), width, height, HEAD_STDS)
        return refined, scores, torch.cat(vectors), torch.cat(crops) if crops else None


def _stage(before: int, channels: int, blocks: int, stride: int, *, caffe: bool) -> nn.Sequential:
    planes = channels // Bottleneck.expansion
    shortcut = nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
    first = Bottleneck(before, planes, stride, shortcut)
    if caffe:
        first.conv1.stride, first.conv2.stride = (stride, stride), (1, 1)
    return nn.Sequential(first, *(Bottleneck(channels, planes) for _ in range(blocks - 1)))
