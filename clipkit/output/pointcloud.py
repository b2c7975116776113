"""Coloured points as binary PLY, which every 3D program opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clipkit.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

VERTEX = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")],
)


def write_ply(path: Path, points: NDArray[np.float32], colours: NDArray[np.uint8]) -> None:
    """Write points with colours; points that are not finite or lie in the camera itself are left out.

    Args:
        path: the file.
        points: `(N, 3)` metres.
        colours: `(N, 3)` RGB.

    Raises:
        OutputError: the file cannot be written.
    """
    real = np.isfinite(points).all(axis=1) & (points[:, 2] > 0)
    vertices = np.empty(int(real.sum()), VERTEX)
    for axis, name in enumerate(("x", "y", "z")):
        vertices[name] = points[real, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        vertices[name] = colours[real, channel]
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        "comment camera axes: x right, y down, z forward; metres",
        f"element vertex {len(vertices)}",
        *(f"property float {name}" for name in ("x", "y", "z")),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
        "end_header",
        "",
    ]
    with atomic_write(path) as stream:
        stream.write("\n".join(lines).encode("ascii"))
        stream.write(vertices.tobytes())
