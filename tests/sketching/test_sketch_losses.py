"""CLIPasso's loss written out, its augmentation against torchvision, and the contour guide."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from clipkit.sketching.augment import homographies, random_homographies, sampling_grids, warp
from clipkit.sketching.contours import ContourGuide, strongest_contours
from clipkit.sketching.losses import ClipassoLoss


def smooth(size, seed=0):
    noise = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(noise, size=size, mode="bicubic").clamp(0, 1)


def test_plain_loss_is_the_formula(towers):
    """Sum of weighted mean squares of two layers plus 0.1 (1 - cosine); zero for the photograph itself."""
    _, tower = towers["resnet"]
    photo, sketch = smooth(64)[0], smooth(64, 1)
    loss = ClipassoLoss(tower, photo, layers={"layer2": 1.0, "layer3": 0.5})
    ours, theirs = tower(sketch, ("layer2", "layer3")), tower(photo[None], ("layer2", "layer3"))
    expected = 0.1 * (1 - functional.cosine_similarity(ours.embedding, theirs.embedding))
    for weight, a, b in zip((1.0, 0.5), ours.layers, theirs.layers, strict=True):
        expected = expected + weight * ((a - b) ** 2).mean()
    assert torch.allclose(loss.plain(sketch), expected, rtol=1e-5)
    assert float(loss.plain(photo[None])) < 1e-6


def test_training_loss_averages_plain_and_warped_pairs(towers):
    """The training loss is the mean over the plain view and each warp applied to sketch and photograph alike."""
    _, tower = towers["resnet"]
    photo, sketches = smooth(64)[0], torch.cat((smooth(64, 1), smooth(64, 2)))
    loss = ClipassoLoss(tower, photo, augmentations=2)
    trained, plain = loss.training(sketches, torch.Generator().manual_seed(5))
    grids = sampling_grids(random_homographies(2, torch.Generator().manual_seed(5)), 64, "cpu")
    assert torch.allclose(plain, loss.plain(sketches), atol=1e-6)
    for b in range(2):
        parts = [plain[b]]
        for a in range(2):
            view = functional.grid_sample(photo[None], grids[a : a + 1], align_corners=False)
            pair = ClipassoLoss(tower, view[0], augmentations=0)
            seen = functional.grid_sample(sketches[b : b + 1], grids[a : a + 1], align_corners=False)
            parts.append(pair.plain(seen)[0])
        assert torch.allclose(trained[b], torch.stack(parts).mean(), rtol=1e-4)


def test_only_the_picture_gets_a_gradient(towers):
    """The model is frozen: a step leaves no gradient on it and a finite one on the picture."""
    visual, tower = towers["vit"]
    sketch = smooth(32, 3).requires_grad_()
    loss, _ = ClipassoLoss(tower, smooth(32)[0], augmentations=1).training(sketch, torch.Generator().manual_seed(0))
    loss.sum().backward()
    assert torch.isfinite(sketch.grad).all()
    assert sketch.grad.abs().sum() > 0
    assert all(p.grad is None for p in visual.parameters())


def test_homographies_take_points_to_points():
    """The four source points land on the four target points."""
    source = torch.rand(5, 4, 2, dtype=torch.float64) + torch.tensor([[0, 0], [2, 0], [2, 2], [0, 2]])
    target = source.flip(0) + 0.1
    mapped = torch.cat((source, torch.ones(5, 4, 1)), -1) @ homographies(source, target).transpose(1, 2)
    assert torch.allclose(mapped[..., :2] / mapped[..., 2:], target)


def test_warp_is_torchvisions_perspective():
    """Corners moved inwards, then resampled: the picture torchvision's `perspective` gives for the same corners."""
    from torchvision.transforms.functional import InterpolationMode, perspective

    size = 64
    picture = smooth(size)
    corners = [[0, 0], [size - 1, 0], [size - 1, size - 1], [0, size - 1]]
    moved = [[5, 8], [58, 3], [50, 60], [9, 55]]
    theirs = perspective(picture, corners, moved, InterpolationMode.BILINEAR, fill=0)
    ends = torch.tensor([corners], dtype=torch.float64) * (2 / size) - 1
    starts = torch.tensor([moved], dtype=torch.float64) * (2 / size) - 1
    ours = warp(picture, sampling_grids(homographies(starts, ends), size, "cpu"))[0]
    assert (ours - theirs)[..., 14:46, 14:46].abs().max() < 2e-3  # its edges are cut by a mask, ours blended


def test_random_views_stay_within_the_limits():
    """Every view shows corners of at most the square enlarged by the perspective, and the same seed the same view."""
    maps = random_homographies(64, torch.Generator().manual_seed(1))
    assert torch.equal(maps, random_homographies(64, torch.Generator().manual_seed(1)))
    centre = maps @ torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    assert ((centre[:, :2] / centre[:, 2:]).abs() < 0.8).all()
    assert maps.std(0).abs().sum() > 0.1


def test_contour_guide_measures_ink():
    """A blank page is 1 from the contours, the contours themselves 0, half of them in between."""
    lines = np.zeros((64, 64), bool)
    lines[20, 8:56] = True
    lines[44, 8:56] = True
    guide = ContourGuide(lines, 3.5)
    import cv2

    drawn = cv2.dilate(lines.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (1, 1))).astype(np.float32)
    full = 1 - torch.from_numpy(drawn)[None, None]
    half = full.clone()
    half[..., 40:50, :] = 1
    losses = guide(torch.cat((torch.ones_like(full), full, half)))
    assert torch.allclose(losses[:2], torch.tensor([1.0, 0.0]), atol=1e-5)
    assert 0.2 < losses[2] < 0.8


def test_contours_follow_the_object_and_the_budget():
    """A disc's outline is found, the padding's border is not, and few strokes take less line than many."""
    y, x = np.mgrid[:112, :112]
    rgb = np.full((112, 112, 3), 0.9, np.float32)
    rgb[(x - 56) ** 2 + (y - 56) ** 2 < 30**2] = (0.2, 0.4, 0.8)
    inside = np.zeros((112, 112), bool)
    inside[16:96] = True
    rgb[~inside] = 1.0
    lines = strongest_contours(rgb, np.ones((112, 112), np.float32), 16, inside=inside)
    radius = np.hypot(*(np.argwhere(lines) - 56).T)
    assert lines.any()
    assert np.abs(radius - 30).max() < 4
    assert ContourGuide(np.zeros((32, 32), bool), 3.0)(torch.rand(2, 1, 32, 32)).tolist() == [0.0, 0.0]
