"""Weights that anyone can make again: every tensor of a state dict from one seed, in the order of the names."""

import numpy as np
import torch


def seeded_state(  # noqa: C901  one line a kind of tensor
    shapes: dict[str, tuple[int, ...]], seed: int = 0
) -> dict[str, torch.Tensor]:
    """A state dict of plausible size for `shapes`: fan-in scaled weights, positive variances, wavelets off their start."""
    rng = np.random.Generator(np.random.PCG64(seed))
    state = {}
    for name in sorted(shapes):
        shape = shapes[name]
        draw = rng.standard_normal(shape, dtype=np.float32)
        if name.endswith("num_batches_tracked"):
            value = np.zeros(shape, np.int64)
        elif name.endswith("window"):
            continue
        elif name.endswith("fbsp.m"):
            value = np.abs(draw)
        elif name.endswith("fbsp.fb"):
            value = 1 + 0.05 * np.abs(draw)
        elif name.endswith("fbsp.fc"):
            value = np.arange(shape[0]) + 0.1 * draw
        elif "logit_scale" in name:
            value = np.float32(3.0) + np.float32(0.1) * draw
        elif name.endswith("running_var"):
            value = 1 + 0.1 * np.abs(draw)
        elif "running_mean" in name or name.endswith("bias"):
            value = 0.05 * draw
        elif len(shape) == 1:
            value = 1 + 0.1 * draw
        elif "embedding" in name or "projection" in name:
            value = draw * shape[-1] ** -0.5
        else:
            value = draw * (1.5 / np.prod(shape[1:])) ** 0.5
        state[name] = torch.from_numpy(np.asarray(value, np.int64 if value.dtype == np.int64 else np.float32))
    return state
