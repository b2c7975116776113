"""The last-block variants against tensors frozen from their authors' code (golden/last_block.md says how)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from dense_seeds import seeded_picture, seeded_state
from open_clip.transformer import QuickGELU, VisionTransformer
from torch.nn import functional

from clipkit.dense import pamr, tlp, vit

GOLDEN = np.load(Path(__file__).parent / "golden" / "last_block.npz")


@pytest.fixture(scope="module")
def tower():
    """The ViT the golden tensors were made with: 224 pixels, patches of 16, twelve blocks of width 128."""
    visual = VisionTransformer(224, 16, 128, 12, 2, 4.0, output_dim=16, act_layer=QuickGELU).eval()
    visual.load_state_dict(seeded_state({name: tuple(t.shape) for name, t in visual.state_dict().items()}))
    return visual


def tokens(visual, picture, method):
    with torch.inference_mode():
        pixels = torch.from_numpy(picture)[None]
        return vit.patch_tokens(visual, pixels, method, alpha=0.08, sigma=5.0)[0].flatten(0, 1).numpy()


@pytest.mark.parametrize("method", ["plain", "sclip", "clearclip", "naclip", "pearl", "scclip"])
def test_patch_tokens_equal_the_authors_code(tower, method):
    """At 224 pixels every patch token agrees with the authors' implementation to 1e-4."""
    np.testing.assert_allclose(tokens(tower, seeded_picture(224, 224), method), GOLDEN[method], atol=1e-4)


def test_scclip_on_a_wide_image(tower):
    """SC-CLIP at 336x448, where the published code stops with an index error, equals that code with rows put right."""
    picture = seeded_picture(336, 448, seed=1)
    np.testing.assert_allclose(tokens(tower, picture, "scclip"), GOLDEN["scclip_336x448"], atol=1e-4)


def test_the_golden_methods_differ():
    """The frozen tensors are far apart, so agreeing with one is not agreeing with another."""
    names = ["plain", "sclip", "clearclip", "naclip", "pearl", "scclip"]
    for i, a in enumerate(names):
        for b in names[:i]:
            assert np.abs(GOLDEN[a] - GOLDEN[b]).max() > 0.1


@pytest.fixture(scope="module")
def refinement_input():
    """The cosines, picture and text vectors the refinement goldens were made with."""
    rng = np.random.default_rng(5)
    text = torch.from_numpy(rng.normal(size=(6, 16)).astype(np.float32))
    text = functional.normalize(text + 0.8 * text[:1], dim=-1)
    coarse = torch.from_numpy((0.1 * rng.normal(size=(1, 6, 10, 15))).astype(np.float32))
    logits = functional.interpolate(coarse, size=(160, 240), mode="bilinear", align_corners=False)[0]
    return logits, torch.from_numpy(seeded_picture(160, 240, seed=2)), text


def test_tlp_equals_the_authors_code(refinement_input):
    """Laplacian propagation with the paper's p'Gp agrees with the authors' solver to 1e-4."""
    coarse = tlp.refine(*refinement_input)
    refined = functional.interpolate(coarse[None], size=(160, 240), mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(refined[:, ::4, ::4].numpy(), GOLDEN["tlp"], atol=1e-4)


def test_pamr_equals_the_authors_code(refinement_input):
    """Pixel-adaptive refinement, summed neighbour by neighbour, agrees with the stacked form to 1e-4."""
    logits, image, _ = refinement_input
    refined = pamr.refine(logits[:, :96, :120], image[:, :96, :120])
    np.testing.assert_allclose(refined[:, ::3, ::3].numpy(), GOLDEN["pamr"], atol=1e-4)
