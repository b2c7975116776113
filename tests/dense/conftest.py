"""Image towers with seeded weights behind the stand-in for a loaded model."""

import pytest
from dense_seeds import seeded_state
from dense_stand import Stand, make_photo
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer


def seeded(visual):
    """The tower with weights drawn by name."""
    visual.load_state_dict(
        seeded_state({k: tuple(v.shape) for k, v in visual.state_dict().items() if v.is_floating_point()}), strict=False
    )
    return visual.eval()


@pytest.fixture(scope="session")
def vit_tower():
    """Twelve blocks, patches of 8, trained at 32 pixels."""
    return seeded(VisionTransformer(32, 8, 32, 12, 2, 4.0, output_dim=16))


@pytest.fixture(scope="session")
def resnet_tower():
    """A ModifiedResNet of width 8, trained at 64 pixels."""
    return seeded(ModifiedResNet([1, 1, 1, 1], 16, 4, 64, width=8))


@pytest.fixture(scope="session")
def vit_clip(vit_tower):
    """A model with the ViT."""
    return Stand(vit_tower, "tiny-vit")


@pytest.fixture(scope="session")
def resnet_clip(resnet_tower):
    """A model with the ResNet."""
    return Stand(resnet_tower, "tiny-resnet")


@pytest.fixture(scope="session")
def photo():
    """A photo-like array: two flat halves and a disc, with grain."""
    return make_photo(90, 130)
