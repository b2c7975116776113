"""A tiny random region network in the layout of DetPro's checkpoints, the same on every machine."""

import numpy as np
import torch

STAGES = (16, 32, 64, 128)
PYRAMID, FC, DIM = 16, 32, 16


class Draws(dict):
    """Tensors by name, drawn one after the other."""

    def __init__(self, seed):
        self.draw = np.random.RandomState(seed)

    def put(self, name, values):
        self[name] = torch.from_numpy(np.asarray(values, np.float32))

    def weight(self, name, *shape, gain=2.0):
        self.put(name, self.draw.standard_normal(shape) * (gain / max(np.prod(shape[1:]), 1)) ** 0.5)

    def bias(self, name, size):
        self.put(name, self.draw.standard_normal(size) * 0.1)

    def norm(self, name, size):
        self.put(f"{name}.weight", self.draw.uniform(0.8, 1.2, size))
        self.bias(f"{name}.bias", size)
        self.bias(f"{name}.running_mean", size)
        self.put(f"{name}.running_var", self.draw.uniform(0.8, 1.2, size))
        self[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def block(self, prefix, before, channels, *, shortcut):
        planes = channels // 4
        shapes = ((planes, before, 1, 1), (planes, planes, 3, 3), (channels, planes, 1, 1))
        for number, shape in enumerate(shapes, 1):
            self.weight(f"{prefix}.conv{number}.weight", *shape)
            self.norm(f"{prefix}.bn{number}", shape[0])
        if shortcut:
            self.weight(f"{prefix}.downsample.0.weight", channels, before, 1, 1)
            self.norm(f"{prefix}.downsample.1", channels)

    def linear(self, name, rows, *columns, gain=2.0):
        self.weight(f"{name}.weight", rows, *columns, gain=gain)
        self.bias(f"{name}.bias", rows)


def make_state(*, blocks=(2, 1, 1, 1), dim=DIM, background=True, extras=True, classes=1, seed=0):
    """Names and shapes as the authors save them, with a mask head, an image branch and a CLIP where `extras`."""
    state = Draws(seed)
    state.weight("backbone.conv1.weight", 8, 3, 7, 7)
    state.norm("backbone.bn1", 8)
    before = 8
    for stage, (channels, count) in enumerate(zip(STAGES, blocks, strict=True), 1):
        for number in range(count):
            state.block(f"backbone.layer{stage}.{number}", before, channels, shortcut=number == 0)
            before = channels
    for level, channels in enumerate(STAGES):
        state.weight(f"neck.lateral_convs.{level}.conv.weight", PYRAMID, channels, 1, 1)
        state.norm(f"neck.lateral_convs.{level}.bn", PYRAMID)
        state.weight(f"neck.fpn_convs.{level}.conv.weight", PYRAMID, PYRAMID, 3, 3)
        state.norm(f"neck.fpn_convs.{level}.bn", PYRAMID)
    state.linear("rpn_head.rpn_conv", PYRAMID, PYRAMID, 3, 3)
    state.linear("rpn_head.rpn_cls", 3, PYRAMID, 1, 1, gain=0.05)
    state.linear("rpn_head.rpn_reg", 12, PYRAMID, 1, 1, gain=0.05)
    head = "roi_head.bbox_head"
    for branch in ("", "_for_image") if extras else ("",):
        for number in range(4):
            state.weight(f"{head}.shared_convs{branch}.{number}.conv.weight", PYRAMID, PYRAMID, 3, 3)
            state.norm(f"{head}.shared_convs{branch}.{number}.bn", PYRAMID)
        state.linear(f"{head}.shared_fcs{branch}.0", FC, PYRAMID * 49)
        state.linear(f"roi_head.projection{branch}", dim, FC)
    state.linear(f"{head}.fc_reg", 4 * classes, FC, gain=0.2)
    if background:
        state.linear("roi_head.bg_embedding", dim, 1)
    if extras:
        state.weight("roi_head.mask_head.convs.0.conv.weight", PYRAMID, PYRAMID, 3, 3)
        state.weight("roi_head.mask_head.conv_logits.weight", 1, PYRAMID, 1, 1)
        state["roi_head.clip_model.logit_scale"] = torch.tensor(4.6, dtype=torch.float16)
    return dict(state)


def picture(height, width, seed=1):
    """Noise over a slope, so that no two places look alike."""
    slope = np.linspace(0, 127, width)[None, :, None] + np.linspace(0, 64, height)[:, None, None]
    noise = np.random.RandomState(seed).randint(0, 64, (height, width, 3))
    return (slope + noise).astype(np.uint8)
