"""The optimiser: several sketches of one photograph descend together, and each keeps the best it has been."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from clipkit.sketching.paint import tensors
from clipkit.sketching.rasterize import render
from clipkit.sketching.strokes import CANVAS, Strokes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from clipkit.sketching.losses import Objective
    from clipkit.sketching.rasterize import Renderer

IMPROVEMENT = 1e-5  # a sketch replaces the best only when better by this much (CLIPasso)
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Adam's own defaults
NARROWEST, WIDEST = 0.3, 20.0  # canvas units


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How a fit runs.

    Attributes:
        steps: Adam steps.
        learning_rate: of control points, canvas units a step.
        width_rate: of widths, canvas units; 0 keeps them.
        color_rate: of colours, in [0, 1]; 0 keeps them.
        halve_at: after this many steps only the best sketch goes on; None lets all run to the end.
        decay: let the rates fall along a half cosine to a tenth over the last half of the steps.
    """

    steps: int = 2001
    learning_rate: float = 1.0
    width_rate: float = 0.0
    color_rate: float = 0.0
    halve_at: int | None = None
    decay: bool = False

    def rate(self, step: int) -> float:
        """The factor on every rate at a step."""
        late = (2.0 * step - self.steps) / max(1, self.steps)
        if not self.decay or late <= 0.0:
            return 1.0
        return 0.1 + 0.45 * (1.0 + math.cos(math.pi * late))


class Fit:
    """Sketches of one photograph, one a seed, as one batch of parameters.

    The picture that is scored is the one that is kept: a snapshot is taken before the step, from the loss of the plain
    view that the step computes anyway. All randomness comes from one CPU generator, so an interrupted fit that is
    loaded again ends where the uninterrupted one would have.
    """

    def __init__(
        self,
        objective: Objective,
        starts: Sequence[Strokes],
        options: FitOptions,
        *,
        seed: int = 0,
        under: Strokes | None = None,
        renderer: Renderer = "torch",
    ) -> None:
        """Set out from one sketch a seed.

        Args:
            objective: what to descend.
            starts: B first guesses of N strokes each.
            options: how.
            seed: of the augmentations.
            under: strokes that are drawn already and stay; the fitted ones are painted over them.
            renderer: a resolved rasteriser.
        """
        self.objective, self.options, self.renderer = objective, options, renderer
        device = objective.device
        self.colour = options.color_rate > 0.0 or any(s.coloured for s in (*starts, *([under] if under else [])))
        channels = 3 if self.colour else 1
        self._values = {
            "points": _stacked([s.points for s in starts], device),
            "width": _stacked([s.width for s in starts], device),
            "color": _stacked([s.color[:, :channels] for s in starts], device),
        }
        self._opacity = _stacked([s.opacity for s in starts], device)
        self._rates = {"points": options.learning_rate, "width": options.width_rate, "color": options.color_rate}
        self._moments = {
            name: (torch.zeros_like(value), torch.zeros_like(value))
            for name, value in self._values.items()
            if self._rates[name] > 0.0
        }
        self._paper = self._underpainting(under, channels)
        self._generator = torch.Generator().manual_seed(seed)
        self.step = 0
        self.alive = list(range(len(starts)))
        self.best = list(starts)
        self.best_loss = [math.inf] * len(starts)
        self.first_loss = [math.inf] * len(starts)
        self.history: list[float] = []  # the best plain loss so far, a value a step

    def _underpainting(self, under: Strokes | None, channels: int) -> Tensor:
        size = self.objective.size
        if under is None or not len(under):
            return torch.ones(1, 1, 1, 1, device=self.objective.device)
        with torch.no_grad():
            picture = render(*tensors(under, size, self.objective.device), size, size, renderer=self.renderer)
        return picture.expand(1, channels, size, size)

    def pictures(self, values: dict[str, Tensor]) -> Tensor:
        """Render parameters as the objective wants them: (B, C, S, S)."""
        size = self.objective.size
        scale = size / CANVAS
        ink = torch.cat((values["color"], self._opacity.unsqueeze(-1)), -1)
        points, width = values["points"] * scale, values["width"] * scale
        return render(points, width, ink, size, size, background=self._paper, renderer=self.renderer)

    @property
    def leader(self) -> int:
        """The seed with the lowest plain loss so far."""
        return int(np.argmin(self.best_loss))

    def run(
        self,
        on_step: Callable[[Fit], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> bool:
        """Go on to the last step; False where `should_stop` ended it early, between two steps."""
        while self.step < self.options.steps:
            if should_stop is not None and should_stop():
                return False
            self.advance()
            if on_step is not None:
                on_step(self)
        with torch.no_grad():
            self._keep(self.objective.plain(self.pictures(self._values)))
        return True

    def advance(self) -> None:
        """One step for every sketch still running."""
        leaves = {name: value.detach().requires_grad_(name in self._moments) for name, value in self._values.items()}
        loss, plain = self.objective.training(self.pictures(leaves), self._generator)
        self._keep(plain)
        loss.sum().backward()  # type: ignore[no-untyped-call, unused-ignore]
        self.step += 1
        with torch.no_grad():
            for name in self._moments:
                self._adam(name, leaves[name])
        if self.step == self.options.halve_at and len(self.alive) > 1:
            self._select([self.alive.index(min(self.alive, key=self.best_loss.__getitem__))])
        self.history.append(min(self.best_loss))

    def _adam(self, name: str, leaf: Tensor) -> None:
        gradient = leaf.grad
        assert gradient is not None
        mean, square = self._moments[name]
        mean.lerp_(gradient, 1.0 - BETA1)
        square.mul_(BETA2).addcmul_(gradient, gradient, value=1.0 - BETA2)
        size = (square / (1.0 - BETA2**self.step)).sqrt_().add_(EPSILON)
        rate = self._rates[name] * self.options.rate(self.step - 1) / (1.0 - BETA1**self.step)
        value = leaf.detach().addcdiv(mean, size, value=-rate)
        if name == "width":
            value.clamp_(NARROWEST, WIDEST)
        elif name == "color":
            value.clamp_(0.0, 1.0)
        self._values[name] = value

    def _keep(self, plain: Tensor) -> None:
        losses = plain.tolist()
        for row, (which, loss) in enumerate(zip(self.alive, losses, strict=True)):
            if not self.step:
                self.first_loss[which] = loss
            if loss < self.best_loss[which] - IMPROVEMENT:
                self.best_loss[which] = loss
                self.best[which] = self._snapshot(row)

    def _snapshot(self, row: int) -> Strokes:
        parts = {name: value[row].detach().cpu().numpy().copy() for name, value in self._values.items()}
        color = np.broadcast_to(parts["color"], (len(parts["color"]), 3)).copy()
        return Strokes(parts["points"], parts["width"], color, self._opacity[row].cpu().numpy().copy())

    def _select(self, rows: list[int]) -> None:
        self.alive = [self.alive[row] for row in rows]
        self._values = {name: value[rows] for name, value in self._values.items()}
        self._moments = {name: (m[rows], v[rows]) for name, (m, v) in self._moments.items()}
        self._opacity = self._opacity[rows]

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything `load` needs, as arrays."""
        arrays: dict[str, NDArray[Any]] = {
            "step": np.asarray(self.step),
            "alive": np.asarray(self.alive),
            "best_loss": np.asarray(self.best_loss),
            "first_loss": np.asarray(self.first_loss),
            "history": np.asarray(self.history),
            "generator": self._generator.get_state().numpy(),
        }
        for name, value in self._values.items():
            arrays[f"value_{name}"] = value.detach().cpu().numpy()
        for name, (mean, square) in self._moments.items():
            arrays[f"mean_{name}"], arrays[f"square_{name}"] = mean.cpu().numpy(), square.cpu().numpy()
        for name in ("points", "width", "color", "opacity"):
            arrays[f"best_{name}"] = np.stack([getattr(strokes, name) for strokes in self.best])
        return arrays

    def load(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take up where `state` was written."""
        device = self.objective.device
        self.step = int(arrays["step"])
        rows = [int(i) for i in arrays["alive"]]
        if rows != self.alive:
            self._select([self.alive.index(i) for i in rows])
        self.best_loss, self.first_loss = arrays["best_loss"].tolist(), arrays["first_loss"].tolist()
        self.history = arrays["history"].tolist()
        self._generator.set_state(torch.from_numpy(arrays["generator"].copy()))
        self._values = {name: torch.from_numpy(arrays[f"value_{name}"].copy()).to(device) for name in self._values}
        self._moments = {
            name: tuple(torch.from_numpy(arrays[f"{kind}_{name}"].copy()).to(device) for kind in ("mean", "square"))  # type: ignore[misc]
            for name in self._moments
        }
        stacks = [arrays[f"best_{name}"] for name in ("points", "width", "color", "opacity")]
        self.best = [Strokes(*(stack[i] for stack in stacks)) for i in range(len(self.best))]


def _stacked(arrays: Sequence[NDArray[np.float32]], device: torch.device) -> Tensor:
    return torch.from_numpy(np.stack(arrays).astype(np.float32)).to(device)
