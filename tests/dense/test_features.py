"""Dense features: one call for any tower, size and method."""

import numpy as np
import pytest
import torch
from dense_stand import Stand, make_photo

from clipkit.dense import features, methods
from clipkit.dense.features import DenseOptions, dense_cosines, dense_features
from clipkit.errors import ModelError

VIT = sorted(name for name, method in methods.METHODS.items() if "vit" in method.towers)
RESNET = sorted(name for name, method in methods.METHODS.items() if "resnet" in method.towers)


@pytest.mark.parametrize("method", VIT)
def test_features_are_unit_and_on_the_grid(vit_clip, photo, method):
    """Every method gives (h, w, D) float32 of unit length, a cell a patch of the working image."""
    found = dense_features(vit_clip, photo, method=method, size=64, window=32, stride=16)
    assert found.shape == (8, 12, 16)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=2), 1, atol=1e-5)


@pytest.mark.parametrize("method", RESNET)
def test_a_resnet_has_features_too(resnet_clip, photo, method):
    """The attention pool gives every method but SC-CLIP, a cell every 32 pixels."""
    found = dense_features(resnet_clip, photo, method=method, size=128)
    assert found.shape == (4, 6, 16)
    np.testing.assert_allclose(np.linalg.norm(found, axis=2), 1, atol=1e-5)


@pytest.mark.parametrize("method", ["scclip", "pearl", "maskclip"])
def test_one_window_is_the_whole_image(vit_clip, photo, method):
    """Where the image fits one window, windows and no windows give the same features and the same cosines."""
    square = photo[:, :90]
    vectors = vit_clip.encode_texts(["cat", "dog"])
    windowed = DenseOptions(method=method, size=64, window=64, stride=16)
    whole = DenseOptions(method=method, size=64, window=0)
    torch.testing.assert_close(
        dense_cosines(vit_clip, square, vectors, windowed),
        dense_cosines(vit_clip, square, vectors, whole),
    )
    np.testing.assert_array_equal(
        dense_features(vit_clip, square, method=method, size=64, window=64, stride=16),
        dense_features(vit_clip, square, method=method, size=64, window=0),
    )


def test_cosines_are_features_times_text(vit_clip, photo):
    """Without windows the cosines are the patch features times the text vectors, enlarged bilinearly."""
    vectors = vit_clip.encode_texts(["cat", "dog", "tree"])
    options = DenseOptions(method="naclip", size=64, window=0)
    cosines = dense_cosines(vit_clip, photo, vectors, options)
    grid = dense_features(vit_clip, photo, method="naclip", size=64, window=0)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy((grid @ vectors.T).transpose(2, 0, 1))[None],
        size=cosines.shape[1:],
        mode="bilinear",
        align_corners=False,
    )[0]
    torch.testing.assert_close(cosines, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("clip", ["vit_clip", "resnet_clip"])
def test_flip_makes_the_answer_turn_with_the_image(request, clip):
    """With `flip`, mirroring the photo mirrors cosines and features exactly, whatever the windows."""
    model = request.getfixturevalue(clip)
    picture = make_photo(60, 120)
    mirrored = np.ascontiguousarray(picture[:, ::-1])
    vectors = model.encode_texts(["cat", "dog"])
    for window in (64, 0):
        options = DenseOptions(size=64, window=window, stride=32, flip=True)
        a, b = (dense_cosines(model, image, vectors, options) for image in (picture, mirrored))
        torch.testing.assert_close(a, b.flip(2), atol=1e-4, rtol=0)
        a, b = (dense_features(model, image, size=64, window=window, flip=True) for image in (picture, mirrored))
        np.testing.assert_allclose(a, b[:, ::-1], atol=1e-4)


@pytest.mark.parametrize("size", [(17, 900), (900, 17), (1, 1), (4000, 3000)])
def test_any_image_size(vit_clip, size):
    """Thin, tiny and very large images have features; the long side of the working image is at most 2048."""
    found = dense_features(vit_clip, make_photo(*size), size=32, window=32, stride=32)
    assert np.isfinite(found).all()
    assert min(found.shape[:2]) >= 1
    assert max(found.shape[:2]) * 8 <= features.MAX_SIDE


@pytest.mark.parametrize(
    ("size", "expected"),
    [((300, 400), (336, 448)), ((375, 500), (336, 448)), ((100, 1000), (208, 2048)), ((3, 2), (504, 336))],
)
def test_working_size(size, expected):
    """The short side is brought to 336, the long side to 2048 at most; sides within one window are whole patches."""
    assert features.working_size(*size, size=336, window=224, patch=16) == expected


def test_auto_goes_by_the_tower(vit_clip, vit_tower, resnet_clip):
    """`auto` is SC-CLIP for twelve blocks, PEARL for another depth, SCLIP for a ResNet."""
    from open_clip.transformer import VisionTransformer

    shallow = VisionTransformer(32, 8, 32, 3, 2, 4.0, output_dim=16)
    assert methods.resolve(vit_tower, "auto", "m").name == "scclip"
    assert methods.resolve(shallow, "auto", "m").name == "pearl"
    assert methods.resolve(resnet_clip.model.visual, "auto", "m").name == "sclip"


def test_scclip_needs_twelve_blocks():
    """SC-CLIP's layers are those of a tower of twelve; another depth is told which methods it has."""
    from open_clip.transformer import VisionTransformer

    with pytest.raises(ModelError, match="scclip needs a ViT of twelve blocks.*pearl"):
        methods.resolve(VisionTransformer(32, 8, 32, 3, 2, 4.0, output_dim=16), "scclip", "shallow")


def towers_without_patches():
    """A pooled CoCa-like ViT, a SigLIP-like pooled ViT, a timm trunk."""
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    yield VisionTransformer(32, 8, 32, 2, 2, 4.0, output_dim=16, attentional_pool=True, attn_pooler_heads=2)
    yield VisionTransformer(32, 8, 32, 2, 2, 4.0, output_dim=16, qk_norm=True)
    yield TimmModel("vit_tiny_patch16_224", embed_dim=16, image_size=32, pool="map", proj=None)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_towers_that_cannot_say_what_can(number, photo):
    """Towers without a class token, with other blocks or a timm trunk give a clear error that names what works."""
    clip = Stand(list(towers_without_patches())[number], "odd-model")
    with pytest.raises(ModelError, match="odd-model: this image tower.*ViT-B-16.*groupvit"):
        dense_features(clip, photo)


def test_positions_of_the_trained_grid_are_untouched(vit_tower):
    """At the trained size positions are used as they are; elsewhere the class token's stays."""
    from clipkit.dense import vit

    positions = vit_tower.positional_embedding
    assert vit.resize_positions(positions, (4, 4), (4, 4)) is positions
    resized = vit.resize_positions(positions, (4, 4), (3, 7))
    assert resized.shape == (22, 32)
    torch.testing.assert_close(resized[0], positions[0])
