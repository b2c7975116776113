"""A tiny GLIP in the layout of the authors' checkpoints: the names and shapes of their own modules, seeded values."""

import json
from pathlib import Path

import torch
from dense_seeds import seeded_state
from grounding_tiny import LETTERS, SPECIAL

FOLDER = Path(__file__).parent / "golden"
SHAPES = json.loads((FOLDER / "glip_shapes.json").read_text())
TABLES = ("cell_anchors", "relative_position_index", "position_ids", "token_type_ids")


def weights(variant="c"):
    """What is trained: `c` with fusion, `a` without."""
    return seeded_state(
        {name: tuple(shape) for name, shape in SHAPES[variant].items() if not any(table in name for table in TABLES)}
    )


def checkpoint(variant="c"):
    """A whole checkpoint, tables and all, under the prefix of distributed training."""
    state = weights(variant)
    for name, shape in SHAPES[variant].items():
        if "cell_anchors" in name:
            stride = 8 * 2 ** int(name[-1])
            state[name] = torch.tensor([[-3.5, -3.5, 4.5, 4.5]]) * stride + torch.tensor([0.0, 0.0, -1.0, -1.0])
        elif name not in state:
            state[name] = torch.zeros(shape, dtype=torch.int64)
    return {f"module.{name}": value for name, value in state.items()}


def words():
    """`vocab.txt`: every letter is a token, the special ones have BERT's own numbers."""
    vocabulary = dict(SPECIAL)
    free = (n for n in range(1, 1030) if n not in SPECIAL)
    for letter in LETTERS:
        vocabulary[next(free)] = letter
        vocabulary[next(free)] = f"##{letter}"
    for number in free:
        vocabulary[number] = f"[unused{number}]"
    return "".join(f"{vocabulary[number]}\n" for number in sorted(vocabulary))


def make_glip(folder, variant="c"):
    """A file as published, an optimizer's state beside the weights, and BERT's words beside the file."""
    path = folder / "glip_tiny.pth"
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]}
    torch.save({"model": checkpoint(variant), "optimizer": optimizer, "iteration": 7}, path)
    (folder / "vocab.txt").write_text(words())
    return path
