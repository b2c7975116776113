"""The rasteriser against counting samples, finite differences, plain loops and the other backends."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from sketch_truth import random_strokes, supersampled
from torch.nn import functional

from clipkit.errors import ModelUnavailableError, UsageError
from clipkit.sketching.rasterize import RENDERERS, choose_renderer, render
from clipkit.sketching.rasterize import torch_backend as raster
from clipkit.sketching.rasterize.bezier import bernstein, power_basis, sagitta, sample
from clipkit.sketching.rasterize.coverage import box, linear

BLACK = torch.tensor([0.0, 1.0])


def black(points, width=3.0, size=64):
    batch, count = points.shape[:2]
    widths = torch.full((batch, count), width, dtype=points.dtype)
    return render(points, widths, BLACK.to(points.dtype).expand(batch, count, 2), size, size)


def test_parity_with_supersampling():
    """Sixteen CLIPasso strokes at 224 pixels differ from 8x8 samples a pixel by at most 0.0005 in the mean."""
    points = random_strokes(16, 224, seed=3)
    error = (black(points, size=224)[0, 0] - supersampled(points[0], 3.0, 224)).abs().mean()
    assert error <= 5e-4


@pytest.mark.parametrize("width", [0.4, 1.0, 9.0])
def test_any_width(width):
    """Hairlines thinner than a pixel and broad strokes have the right amount of ink."""
    points = random_strokes(4, 48, seed=1, spread=0.6)
    truth = supersampled(points[0], width, 48, samples=16)
    drawn = black(points, width, 48)[0, 0]
    assert (drawn - truth).abs().mean() <= 3e-3
    assert abs(float((1 - drawn).sum() / (1 - truth).sum()) - 1) < 0.05


def test_box_area_equals_sampled_area():
    """The closed form is the fraction of a fine grid of the unit pixel that lies behind the edge."""
    grid = (torch.arange(400, dtype=torch.float64) + 0.5) / 400 - 0.5
    for angle in (0.0, 0.2, math.pi / 4, 1.3):
        n = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64).abs()
        for signed in (-0.6, -0.3, 0.0, 0.1, 0.65):
            counted = ((grid[None, :] * n[0] + grid[:, None] * n[1]) < signed).double().mean()
            area, _ = box(torch.tensor(signed, dtype=torch.float64), n.max(), n.min().clamp_min(1e-6))
            assert abs(float(area - counted)) < 3e-3


def test_box_density_is_the_derivative_of_area():
    """The second value of each profile is d area / d distance."""
    signed = torch.linspace(-0.9, 0.9, 181, dtype=torch.float64) + 1e-4
    wide, narrow = torch.tensor(0.8, dtype=torch.float64), torch.tensor(0.6, dtype=torch.float64)
    for profile in (box, linear):
        step = 1e-7
        numeric = (profile(signed + step, wide, narrow)[0] - profile(signed - step, wide, narrow)[0]) / (2 * step)
        assert torch.allclose(profile(signed, wide, narrow)[1], numeric, atol=1e-6)


def test_gradient_points_where_supersampling_says():
    """Gradients with exact area agree with finite differences of the counted samples: cosine at least 0.98."""
    size, step = 32, 0.25
    points = random_strokes(2, size, seed=5, spread=0.8)
    weight = functional.interpolate(
        torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)), size=size, mode="bicubic"
    )
    leaf = points.clone().requires_grad_()
    (black(leaf, size=size) * weight).sum().backward()
    numeric = torch.zeros_like(points)
    for index in np.ndindex(*points.shape):
        sides = []
        for sign in (1, -1):
            moved = points.clone()
            moved[index] += sign * step
            sides.append((supersampled(moved[0], 3.0, size, chords=60) * weight[0, 0]).sum())
        numeric[index] = (sides[0] - sides[1]) / (2 * step)
    assert functional.cosine_similarity(leaf.grad.flatten(), numeric.flatten(), dim=0) >= 0.98
    assert 0.9 < leaf.grad.norm() / numeric.norm() < 1.1


@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_in_double_precision(channels):
    """With linear coverage every gradient (points, widths, colours, opacities) is finite differences to 1e-4."""
    size = 24
    source = torch.Generator().manual_seed(2)
    start = [
        random_strokes(3, size, seed=4, batch=2, spread=0.7).double(),
        1.0 + 3.0 * torch.rand(2, 3, generator=source, dtype=torch.float64),
        torch.rand(2, 3, channels + 1, generator=source, dtype=torch.float64),
    ]
    weight = torch.randn(2, channels, size, size, generator=source, dtype=torch.float64)
    paper = torch.rand(1, channels, size, size, generator=source, dtype=torch.float64)

    def loss(values):
        return (raster.rasterise(*values, paper, size, size, linear) * weight).sum()

    leaves = [value.clone().requires_grad_() for value in start]
    loss(leaves).backward()
    for which, leaf in enumerate(leaves):
        numeric = torch.zeros_like(leaf)
        for index in np.ndindex(*leaf.shape):
            sides = []
            for sign in (1, -1):
                moved = [value.clone() for value in start]
                moved[which][index] += sign * 1e-6
                sides.append(loss(moved))
            numeric[index] = (sides[0] - sides[1]) / 2e-6
        assert (leaf.grad - numeric).norm() <= 1e-4 * numeric.norm()


def test_over_compositing_is_the_plain_loop():
    """Several translucent colours equal `alpha c + (1 - alpha) below`, drawn one stroke after the other."""
    size = 40
    points = random_strokes(6, size, seed=7, spread=0.9)
    ink = torch.rand(1, 6, 4, generator=torch.Generator().manual_seed(1))
    width = torch.full((1, 6), 5.0)
    paper = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(2))
    expected = paper
    for n in range(6):
        expected = render(points[:, n : n + 1], width[:, :1], ink[:, n : n + 1], size, size, background=expected)
    assert torch.allclose(render(points, width, ink, size, size, background=paper), expected, atol=1e-6)


def test_batch_members_do_not_see_each_other():
    """A batch of seeds renders and differentiates as each seed alone."""
    points = random_strokes(5, 32, seed=9, batch=3).requires_grad_()
    together = black(points, size=32)
    together.square().sum().backward()
    for b in range(3):
        alone = points[b : b + 1].detach().clone().requires_grad_()
        picture = black(alone, size=32)
        picture.square().sum().backward()
        assert torch.equal(picture[0], together[b])
        assert torch.allclose(alone.grad[0], points.grad[b], atol=1e-6)


def test_strokes_outside_and_collapsed_are_harmless():
    """A stroke off the canvas draws nothing; one shrunk to a point draws a dot; neither gradient is infinite."""
    points = torch.tensor([[[[-50.0, -50], [-40, -60], [-30, -70], [-20, -50]], [[8.0, 8], [8, 8], [8, 8], [8, 8]]]])
    leaf = points.requires_grad_()
    picture = black(leaf, 4.0, 16)
    picture.sum().backward()
    assert abs(float((1 - picture.detach()).sum()) - math.pi * 4) < 0.3
    assert torch.isfinite(leaf.grad).all()
    assert (leaf.grad[0, 0] == 0).all()
    assert torch.equal(black(points[:, :1], 4.0, 16), torch.ones(1, 1, 16, 16))


def test_repeats_are_identical():
    """The same strokes give the same bits, forward and backward."""
    results = []
    for _ in range(2):
        leaf = random_strokes(16, 64, seed=1, spread=0.8).requires_grad_()
        picture = black(leaf)
        picture.square().sum().backward()
        results.append((picture.detach(), leaf.grad))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_too_many_strokes_for_the_key_are_refused():
    """A call whose pixel index does not fit the packed key says so instead of wrapping around."""
    with pytest.raises(ValueError, match="too many"):
        raster.find_entries(torch.zeros(1, 4, 2), torch.ones(1), 1, 1 << 20, 1 << 20, box)


def test_bezier_forms_agree():
    """Bernstein weights sum to one and equal the power form; no chord strays further than its bound."""
    points = random_strokes(8, 100, seed=3, spread=1.0)[0]
    t = torch.linspace(0, 1, 33)
    assert torch.allclose(bernstein(t).sum(-1), torch.ones(33))
    powers = torch.stack((t**0, t, t**2, t**3), -1) @ power_basis(points)
    assert torch.allclose(bernstein(t) @ points, powers, atol=1e-3)
    fine, coarse = sample(points, 161), sample(points, 17)
    middle = 0.5 * (coarse[:, 1:] + coarse[:, :-1])
    assert ((fine[:, 5::10] - middle).norm(dim=-1) <= sagitta(points)[:, None] + 1e-3).all()


def test_the_choice_of_renderer_is_never_silent(monkeypatch):
    """`auto` is torch; what cannot run is an error that says what to use."""
    assert choose_renderer("auto") == choose_renderer("torch", "cuda") == "torch"
    with pytest.raises(UsageError, match="CUDA"):
        choose_renderer("triton", "cpu")
    with pytest.raises(UsageError, match="unknown renderer"):
        choose_renderer("cairo")
    monkeypatch.setattr("clipkit.sketching.rasterize.diffvg_backend.installed", lambda: False)
    with pytest.raises(ModelUnavailableError, match="pydiffvg"):
        choose_renderer("diffvg")
    assert set(RENDERERS) == {"auto", "torch", "triton", "diffvg"}


EMULATION = """
import torch
from clipkit.sketching.rasterize import torch_backend, triton_backend
torch.set_num_threads(1)
source = torch.Generator().manual_seed(0)
for channels in (1, 3):
    values = [torch.rand(2, 3, 4, 2, generator=source) * 24, 1 + 3 * torch.rand(2, 3, generator=source),
              torch.rand(2, 3, channels + 1, generator=source)]
    paper, weight = torch.rand(2, 2, channels, 24, 19, generator=source)
    results = []
    for backend in (torch_backend, triton_backend):
        leaves = [value.clone().requires_grad_() for value in values]
        picture = backend.rasterise(*leaves, paper, 24, 19)
        (picture * weight).sum().backward()
        results.append([picture, *(leaf.grad for leaf in leaves)])
    for a, b in zip(*results):
        assert (a - b).abs().max() <= 1e-5 * a.abs().max().clamp_min(1), (a - b).abs().max()
print("equal")
"""


def test_triton_kernels_interpreted():
    """The CUDA kernels, run by Triton's interpreter on the CPU, equal the torch backend to 1e-5, gradients too."""
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-c", EMULATION],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "equal", done.stderr[-2000:]


@pytest.mark.gpu
def test_triton_on_a_gpu():
    """Compiled, the kernels equal the torch backend to 1e-5 and repeat bit for bit."""
    points = random_strokes(16, 224, seed=1, batch=3).cuda()
    width, ink = torch.full((3, 16), 3.0, device="cuda"), BLACK.cuda().expand(3, 16, 2)
    results = []
    for renderer in ("torch", "triton", "triton"):
        leaf = points.clone().requires_grad_()
        picture = render(leaf, width, ink, 224, 224, renderer=renderer)
        picture.square().sum().backward()
        results.append((picture.detach(), leaf.grad))
    assert torch.allclose(results[0][0], results[1][0], atol=1e-5)
    assert torch.allclose(results[0][1], results[1][1], atol=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(results[1], results[2], strict=True))


@pytest.mark.skipif(importlib.util.find_spec("pydiffvg") is None, reason="pydiffvg is not installed")
def test_diffvg_draws_the_same_picture():
    """An installed diffvg at 12x12 samples agrees with ours to 0.001 in the mean."""
    from clipkit.sketching.rasterize import diffvg_backend

    points = random_strokes(16, 224, seed=3)
    width, ink = torch.full((1, 16), 3.0), BLACK.expand(1, 16, 2)
    theirs = diffvg_backend.rasterise(points, width, ink, torch.ones(1), 224, 224, samples=12)
    assert (theirs - black(points, size=224)).abs().mean() <= 1e-3
