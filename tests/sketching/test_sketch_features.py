"""What the image tower tells: the same numbers as open_clip, at any size it is asked for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from clipkit.errors import ModelError, UsageError
from clipkit.sketching.features import Tower, resized_positions


def normalised(tower, pixels):
    return (pixels - tower._mean) / tower._std


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_embedding_is_open_clips(towers, kind):
    """Folding batch norms and keeping layers leaves the embedding as `visual` computes it."""
    visual, tower = towers[kind]
    pixels = torch.rand(2, 3, tower.native_size, tower.native_size)
    features = tower(pixels, tower.names[-2:])
    with torch.no_grad():
        expected = visual(normalised(tower, pixels))
    assert torch.allclose(features.embedding, expected, atol=1e-4 * float(expected.abs().max()))
    assert len(features.layers) == 2


def test_resnet_layers_are_the_stages(towers):
    """`layer2` is what layer2 gives, pictures twice the native size included."""
    visual, tower = towers["resnet"]
    pixels = torch.rand(1, 3, 128, 128)
    x = normalised(tower, pixels)
    with torch.no_grad():
        stages = {"stem": visual.stem(x)}
        for before, name in (("stem", "layer1"), ("layer1", "layer2"), ("layer2", "layer3")):
            stages[name] = getattr(visual, name)(stages[before])
    found = tower(pixels, ("layer2", "layer3")).layers
    for ours, name in zip(found, ("layer2", "layer3"), strict=True):
        assert torch.allclose(ours, stages[name], atol=1e-4 * float(stages[name].abs().max()))


def test_vit_layers_are_normalised_patch_tokens(towers):
    """A block's tokens come without the class token, each with mean 0 and variance 1."""
    _, tower = towers["vit"]
    (tokens,) = tower(torch.rand(2, 3, 32, 32), ("block1",)).layers
    assert tokens.shape == (2, 16, 32)
    assert torch.allclose(tokens.mean(-1), torch.zeros(2, 16), atol=1e-5)
    assert torch.allclose(tokens.var(-1, unbiased=False), torch.ones(2, 16), atol=1e-3)


def test_vit_attention_is_the_modules_own(towers):
    """The class token's row equals the weights that nn.MultiheadAttention itself reports, averaged over blocks."""
    visual, tower = towers["vit"]
    pixels = torch.rand(1, 3, 32, 32)
    rows = []

    def spy(block, inputs):
        x = block.ln_1(inputs[0])
        _, weights = block.attn(x, x, x, need_weights=True)
        rows.append(weights[0, 0, 1:])

    handles = [block.register_forward_pre_hook(spy) for block in visual.transformer.resblocks]
    with torch.no_grad():
        visual(normalised(tower, pixels))
    for handle in handles:
        handle.remove()
    expected = torch.stack(rows).mean(0).reshape(4, 4)
    assert torch.allclose(tower.attention(pixels), expected, atol=1e-5)


def test_resnet_attention_is_the_pools_row(towers):
    """Attention over the cells is a probability short of the mean token's share, one cell for 32 pixels."""
    _, tower = towers["resnet"]
    looked = tower.attention(torch.rand(1, 3, 96, 64))
    assert looked.shape == (3, 2)
    assert (looked > 0).all()
    assert 0 < float(looked.sum()) < 1


def test_positions_resize_and_stay():
    """The mean token's position never changes; the grid's are interpolated only when the grid differs."""
    positions = torch.randn(5, 8)
    assert resized_positions(positions, (2, 2)) is positions
    large = resized_positions(positions, (4, 6))
    assert large.shape == (25, 8)
    assert torch.equal(large[0], positions[0])


def test_layer_names(towers):
    """Names, weights and a ViT's bare block numbers are read; anything else is refused by name."""
    resnet, vit = towers["resnet"][1], towers["vit"][1]
    assert resnet.parse_layers("layer2:2, layer4") == {"layer2": 2.0, "layer4": 1.0}
    assert vit.parse_layers("1:.5") == {"block1": 0.5}
    assert resnet.default_layers() == {"layer2": 1.0, "layer3": 1.0}
    assert set(vit.default_layers()) <= set(vit.names)
    for text in ("layer9", "layer2:x", "layer2:0", ","):
        with pytest.raises(UsageError):
            resnet.parse_layers(text)


def test_sizes(towers):
    """A ResNet takes multiples of 32, a ViT its own size only."""
    assert towers["resnet"][1].size(100) == 96
    assert towers["resnet"][1].size(10) == 64
    assert towers["vit"][1].size(224) == 32


def test_other_towers_are_refused():
    """A tower without known layers is a ModelError that names what works."""
    with pytest.raises(ModelError, match="RN101"):
        Tower(nn.Linear(2, 2), (0, 0, 0), (1, 1, 1))
