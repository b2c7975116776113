"""The dense methods: what each is called, the frame its authors chose, and which towers it fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from clipkit.errors import ModelError

Tower = Literal["vit", "resnet"]


@dataclass(frozen=True, slots=True)
class Method:
    """One method and its authors' settings.

    `size` is the image's short side, `window` and `stride` are pixels, `scale` multiplies the cosines before the
    softmax, `threshold` is the probability under which a pixel is background where there is one (the authors' value
    for Pascal VOC with background).
    """

    name: str
    towers: tuple[Tower, ...]
    scale: float = 40.0
    threshold: float = 0.1
    size: int = 336
    window: int = 224
    stride: int = 112


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("scclip", ("vit",), scale=50.0, threshold=0.15),
        Method("pearl", ("vit", "resnet")),
        Method("naclip", ("vit", "resnet")),
        Method("sclip", ("vit", "resnet"), scale=65.0),
        Method("clearclip", ("vit", "resnet"), scale=50.0, threshold=0.5, size=448, window=448, stride=224),
        Method("maskclip", ("vit", "resnet")),
        Method("local", ("resnet",)),
        Method("plain", ("vit", "resnet")),
    )
}


def tower(visual: Any) -> Tower | None:
    """Which kind of image tower this is; None where patch tokens cannot be had."""
    from clipkit.dense import resnet, vit

    if vit.is_vit(visual):
        return "vit"
    return "resnet" if resnet.is_resnet(visual) else None


def resolve(visual: Any, name: str, model: str) -> Method:
    """The method to use with this image tower.

    `auto` is SC-CLIP for ViTs of twelve blocks, PEARL for ViTs of another depth, SCLIP for ResNets.

    Args:
        visual: an open_clip image tower.
        name: a key of `METHODS` or `auto`.
        model: the model's name, for the message.

    Raises:
        ModelError: the tower has no patch tokens to read, or the method does not fit it.
    """
    kind = tower(visual)
    if kind is None:
        raise ModelError(
            f"{model}: this image tower ({type(visual).__name__}) has no class token over plain ViT blocks and no "
            f"attention pool, so it gives no patch answers; take a CLIP ViT or ResNet (ViT-B-16, RN50, builtin), or "
            f"--method groupvit, lseg or clipseg"
        )
    depth = len(visual.transformer.resblocks) if kind == "vit" else 0
    if name == "auto":
        name = "sclip" if kind == "resnet" else "scclip" if depth == _scclip_layers() else "pearl"
    method = METHODS[name]
    fitting = [
        m.name for m in METHODS.values() if kind in m.towers and (m.name != "scclip" or depth == _scclip_layers())
    ]
    if name not in fitting:
        why = "needs a ViT of twelve blocks" if name == "scclip" else f"does not fit a {kind}"
        raise ModelError(f"{model}: {name} {why}; with this model take one of: {', '.join(fitting)}")
    return method


def _scclip_layers() -> int:
    from clipkit.dense import scclip

    return scclip.LAYERS
