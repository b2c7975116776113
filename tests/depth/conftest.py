"""Models for depth tests: RN50 with seeded weights, and tiny ones."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden():
    """What the authors' code gave."""
    with np.load(GOLDEN / "depthclip.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def rn50():
    """RN50's image tower with seeded weights, behind the torch engine's interface."""
    import open_clip
    from depth_seeds import RN50, seeded_state

    from clipkit.models.tokenizer import ClipTokenizer
    from clipkit.models.torch_engine import TorchClip

    model = open_clip.CLIP(**RN50)
    shapes = {name: tuple(v.shape) for name, v in model.state_dict().items() if "num_batches" not in name}
    shapes.pop("attn_mask", None)
    model.load_state_dict(seeded_state(shapes), strict=False)
    model.visual.preprocess_cfg = {"size": (224, 224)}
    return TorchClip(
        model, ClipTokenizer(77), model_id="seeded", digest="0" * 12, tokenizer_key="bpe", embed_dim=RN50["embed_dim"]
    )


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory):
    """Tiny random CLIPs in open_clip's local-dir layout: `resnet` and `vit`."""
    from support.tiny import make_tiny_clip

    root = tmp_path_factory.mktemp("tiny-depth")
    # layer4 of width 8 has 256 channels: every eighth is the text's 32.
    return {kind: str(make_tiny_clip(root / kind, kind, embed_dim=32, dtype="fp32")) for kind in ("resnet", "vit")}
