"""The object without its background: the file's transparency, a mask of the user's, or attention refined by GrabCut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Origin = Literal["alpha", "file", "attention", "none"]
LEAST, MOST = 0.03, 0.90  # shares of the picture between which an object is plausible
ROUNDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """The object's (S, S) share of each pixel in [0, 1], None for the whole picture; where it is from; a remark."""

    values: NDArray[np.float32] | None
    origin: Origin
    remark: str = ""


def choose_mask(
    rgb: NDArray[np.float32],
    inside: NDArray[np.bool_],
    *,
    alpha: NDArray[np.float32] | None,
    given: NDArray[np.float32] | None,
    attention: NDArray[np.float32] | None,
) -> Mask:
    """The first that there is: alpha, the user's mask, attention with GrabCut; an implausible one is not used.

    Args:
        rgb: (S, S, 3) in [0, 1].
        inside: (S, S), False on padding.
        alpha: (S, S) transparency of the file.
        given: (S, S) from `--mask`.
        attention: (S, S) in [0, 1]; None masks nothing by itself.
    """
    if alpha is not None:
        return _checked(alpha, inside, "alpha", "the picture's transparency")
    if given is not None:
        return _checked(given, inside, "file", "the mask")
    if attention is not None:
        return _checked(grabcut(rgb, attention, inside), inside, "attention", "the object found")
    return Mask(None, "none")


def _checked(values: NDArray[np.float32], inside: NDArray[np.bool_], origin: Origin, what: str) -> Mask:
    share = float(values[inside].mean())
    if LEAST <= share <= MOST:
        return Mask(values, origin)
    much = "almost nothing" if share < LEAST else "almost everything"
    return Mask(
        None, "none", f"{what} covers {much} ({share:.0%}), so the whole picture is drawn; see --mask, --no-mask"
    )


def grabcut(rgb: NDArray[np.float32], attention: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Colour models of object and background (Rother et al. 2004), begun from an attention map: (S, S) in {0, 1}.

    The most attended tenth is object, the least attended part of the border is background, the rest is guessed from
    attention, the middle of the picture preferred, and decided by colour and edges.
    """
    import cv2

    side = rgb.shape[0]
    ramp = np.linspace(-1.0, 1.0, side, dtype=np.float32)
    middle_first = np.exp(-(ramp[:, None] ** 2 + ramp[None, :] ** 2))
    picture = (rgb[..., ::-1] * 255).round().astype(np.uint8).copy()
    look = cv2.GaussianBlur((0.2 + attention) * middle_first, (0, 0), side / 56)
    low, middle, high = np.quantile(look[inside], (0.3, 0.55, 0.9))
    labels = np.full(look.shape, cv2.GC_PR_BGD, np.uint8)
    labels[look > middle] = cv2.GC_PR_FGD
    labels[look >= high] = cv2.GC_FGD
    rim = max(2, side // 32)
    border = np.ones_like(inside)
    border[rim:-rim, rim:-rim] = False
    labels[border & (look < low)] = cv2.GC_BGD
    labels[~inside] = cv2.GC_BGD
    if not (labels == cv2.GC_BGD).any():
        labels[border & (look < middle)] = cv2.GC_BGD
    if not (labels == cv2.GC_BGD).any():
        return np.ones(look.shape, np.float32)
    cv2.setRNGSeed(0)  # the colour clusters start at random
    cv2.grabCut(picture, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    return _without_specks(found)


def _without_specks(found: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Regions under a tenth of the largest go; holes are filled."""
    import cv2

    count, parts, stats, _ = cv2.connectedComponentsWithStats(found)
    if count > 1:
        areas = stats[1:, cv2.CC_STAT_AREA]
        found[np.isin(parts, 1 + np.flatnonzero(areas < 0.1 * areas.max()))] = 0
    outlines, _ = cv2.findContours(found, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(found, outlines, -1, 1, cv2.FILLED)
    return found.astype(np.float32)


def over_white(rgb: NDArray[np.float32], mask: NDArray[np.float32]) -> NDArray[np.float32]:
    """(S, S, 3) with the background white."""
    share = mask[..., None]
    return (rgb * share + (1.0 - share)).astype(np.float32)
