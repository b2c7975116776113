"""Where strokes begin: CLIP's attention times the photograph's edges (CLIPasso, section 3.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clipkit.sketching.features import Tower

TEMPERATURE = 0.3
SPREAD = 0.05  # of the canvas: how far a control point may lie from the one before


def attention_map(tower: Tower, photo: NDArray[np.float32]) -> NDArray[np.float32]:
    """The tower's attention on a photograph (S, S, 3) in [0, 1], bicubic to (S, S), stretched to [0, 1]."""
    import torch
    from torch.nn import functional

    side = photo.shape[0]
    pixels = torch.from_numpy(np.ascontiguousarray(photo.transpose(2, 0, 1)))[None].to(tower.device)
    looked = tower.attention(pixels)[None, None].cpu()
    large = functional.interpolate(looked, size=(side, side), mode="bicubic", align_corners=False)[0, 0]
    return stretched(large.numpy())


def stretched(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values moved and scaled to [0, 1]; all ones where they are constant."""
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-12:
        return np.ones_like(values)
    return ((values - low) / (high - low)).astype(np.float32)


def xdog(
    grey: NDArray[np.float32],
    *,
    gamma: float = 0.98,
    phi: float = 200.0,
    epsilon: float = -0.1,
    sigma: float = 0.8,
    k: float = 10.0,
) -> NDArray[np.float32]:
    """Edges by the extended difference of Gaussians (Winnemoeller 2011), binarised by Otsu: 0 on lines, 1 elsewhere.

    Args:
        grey: (H, W), in CLIP's normalised units as the authors feed it.
        gamma: weight of the wider Gaussian.
        phi: steepness of the soft threshold.
        epsilon: level under which a pixel is line.
        sigma: the narrow Gaussian, pixels.
        k: the wide Gaussian in narrow ones.
    """
    import cv2

    def blurred(deviation: float) -> NDArray[np.float32]:
        side = 2 * int(4.0 * deviation + 0.5) + 1
        return np.asarray(cv2.GaussianBlur(grey, (side, side), deviation, borderType=cv2.BORDER_REFLECT), np.float32)

    difference = blurred(sigma) - gamma * blurred(sigma * k)
    soft = np.where(difference < epsilon, 1.0, 1.0 + np.tanh(phi * difference))
    scaled = stretched(soft.astype(np.float32))
    level, _ = cv2.threshold((scaled * 255).astype(np.uint8), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return (scaled * 255 > level).astype(np.float32)


def start_probability(
    attention: NDArray[np.float32],
    photo: NDArray[np.float32],
    *,
    temperature: float = TEMPERATURE,
    mask: NDArray[np.float32] | None = None,
    lines: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """The chance of each pixel to begin a stroke, (S, S), summing to one: softmax of attention on edges.

    Args:
        attention: (S, S) in [0, 1].
        photo: (S, S, 3) in [0, 1].
        temperature: tau of the softmax.
        mask: (S, S), 1 on the object; strokes begin on it.
        lines: (S, S), what strokes begin on instead of XDoG's edges, masked already.
    """
    if lines is None:
        grey = photo @ np.asarray([0.2125, 0.7154, 0.0721], np.float32)
        edges = 1.0 - xdog(((grey - 0.45) / 0.27).astype(np.float32))
        weight = attention * edges
    else:
        weight = np.where(lines, np.maximum(attention, 1e-3), 0.0).astype(np.float32)
    if mask is not None and lines is None:
        weight = weight * (mask > 0.5)
    if np.count_nonzero(weight) < 64:  # no lines at all: attention alone
        weight = attention if mask is None else attention * (mask > 0.5)
    if not weight.any():
        weight = np.ones_like(attention)
    chance = np.zeros(weight.shape, np.float64)
    hot = weight > 0
    raised = np.exp(weight[hot].astype(np.float64) / temperature)
    chance[hot] = raised / raised.sum()
    return chance


def draw_starts(
    chance: NDArray[np.float64], count: int, canvas: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """First guesses: `count` short curves (count, 4, 2) that begin at pixels drawn without replacement.

    Each next control point is the one before plus up to `SPREAD / 2` of the canvas on each axis.
    """
    side = chance.shape[1]
    flat = chance.ravel()
    support = int(np.count_nonzero(flat))
    picked = rng.choice(flat.size, size=count, replace=support < count, p=flat / flat.sum())
    start = np.stack((picked % side + 0.5, picked // side + 0.5), -1) * (canvas / side)
    steps = SPREAD * canvas * (rng.random((count, 3, 2)) - 0.5)
    points = np.concatenate((start[:, None], start[:, None] + steps.cumsum(1)), 1)
    return points.astype(np.float32)
