"""Sketches as SVG: one plain path a stroke, and an animated form that draws them one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipkit.sketching.strokes import CANVAS, hex_color

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clipkit.sketching.strokes import Strokes

HOLD = 2.0  # seconds the finished drawing stands

_STYLE = (
    "<style>path{{animation:draw {each:.3f}s linear both}}"
    "@keyframes draw{{0%{{stroke-dasharray:1 2;stroke-dashoffset:1;opacity:0}}1%{{opacity:1}}"
    "100%{{stroke-dasharray:1 2;stroke-dashoffset:0}}}}"
    "@media (prefers-reduced-motion:reduce){{path{{animation:none}}}}</style>"
)


def svg(strokes: Strokes) -> str:
    """The sketch on white, for every viewer: paths with a stroke colour, a width and round caps, nothing else."""
    return _document([_path(strokes, i) for i in range(len(strokes))])


def animated_svg(strokes: Strokes, order: Sequence[int], seconds: float = 6.0) -> str:
    """The sketch drawing itself in `order` over `seconds`; viewers without animation show it finished.

    Strokes stay in painting order in the file; `order` decides when each begins.
    """
    each = seconds / max(1, len(strokes))
    turn = {stroke: k for k, stroke in enumerate(order)}
    paths = [
        _path(strokes, i, f' pathLength="1" style="animation-delay:{turn[i] * each:.3f}s"') for i in range(len(strokes))
    ]
    return _document([_STYLE.format(each=each), *paths])


def _document(lines: list[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{CANVAS}" height="{CANVAS}" viewBox="0 0 {CANVAS} {CANVAS}">\n'
        f'<rect width="{CANVAS}" height="{CANVAS}" fill="#ffffff"/>\n'
    )
    return head + "".join(f"{line}\n" for line in lines) + "</svg>\n"


def _path(strokes: Strokes, index: int, more: str = "") -> str:
    (x0, y0), *rest = strokes.points[index].tolist()
    curve = " ".join(f"{_number(x)} {_number(y)}" for x, y in rest)
    opacity = float(strokes.opacity[index])
    faint = "" if opacity >= 1.0 else f' stroke-opacity="{_number(opacity)}"'
    return (
        f'<path d="M {_number(x0)} {_number(y0)} C {curve}" fill="none" stroke="{hex_color(strokes.color[index])}"{faint} '
        f'stroke-width="{_number(float(strokes.width[index]))}" stroke-linecap="round" stroke-linejoin="round"{more}/>'
    )


def _number(value: float) -> str:
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text
