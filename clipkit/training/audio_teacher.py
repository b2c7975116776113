"""The teacher of the built-in audio tower: YAMNet (Apache-2.0) names 521 kinds of sound in every second of a scene."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PATCH = 15_600
HOP = 8_000


class Yamnet:
    """YAMNet's TFLite graph under the package `ai-edge-litert` (a training-time need only)."""

    def __init__(self, graph: Path) -> None:
        """Load `yamnet.tflite`."""
        from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-not-found, unused-ignore]

        self._interpreter: Any = Interpreter(str(graph), num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T,) samples at 16 kHz -> (521,) mean of its scores over patches of 0.975 s, half a second apart."""
        scores = []
        for start in range(0, max(1, len(samples) - PATCH + 1), HOP):
            patch = np.zeros(PATCH, np.float32)
            piece = samples[start : start + PATCH]
            patch[: len(piece)] = piece
            self._interpreter.set_tensor(self._input, patch)
            self._interpreter.invoke()
            scores.append(self._interpreter.get_tensor(self._output)[0].copy())
        return np.asarray(np.mean(scores, axis=0), np.float32)


def class_names(table: Path) -> list[str]:
    """The 521 names of `yamnet_class_map.csv`, in the order of the scores."""
    with table.open(newline="", encoding="utf-8") as stream:
        return [row["display_name"] for row in csv.DictReader(stream)]
