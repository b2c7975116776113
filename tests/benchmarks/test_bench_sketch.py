"""How fast strokes become pixels and photographs sketches; `pytest tests/benchmarks/test_bench_sketch.py`.

With `pydiffvg` installed the rasteriser is measured beside it, and with a CUDA device there too.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from clipkit.media.paths import Source
from clipkit.models.loader import load_clip
from clipkit.sketching.augment import random_homographies, sampling_grids, warp
from clipkit.sketching.features import Tower
from clipkit.sketching.fit import Fit, FitOptions
from clipkit.sketching.losses import ClipassoLoss
from clipkit.sketching.rasterize import render
from clipkit.sketching.recipe import preset
from clipkit.sketching.strokes import Strokes
from clipkit.tasks.sketch import SketchOptions, run

CAT = Path(__file__).parents[2] / "docs" / "images" / "cat.jpg"
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def scene(count, size, batch=1, device="cpu"):
    """CLIPasso-like strokes: a quarter of the picture long, 3 of 224 wide, black."""
    source = torch.Generator().manual_seed(0)
    centre = torch.rand(batch, count, 1, 2, generator=source)
    points = (centre + 0.25 * (torch.rand(batch, count, 4, 2, generator=source) - 0.5)) * size
    width = torch.full((batch, count), 3.0 * size / 224)
    ink = torch.tensor([0.0, 1.0]).expand(batch, count, 2)
    return points.to(device).requires_grad_(), width.to(device), ink.to(device)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("renderer", ["torch", "triton", "diffvg"])
@pytest.mark.parametrize(("count", "size", "batch"), [(16, 224, 1), (16, 224, 3), (64, 224, 1), (16, 512, 1)])
def test_raster(benchmark, count, size, batch, renderer, device):
    """Forward and backward of one picture, or of three seeds in a batch."""
    if renderer == "diffvg" and find_spec("pydiffvg") is None:
        pytest.skip("pydiffvg is not installed")
    if renderer == "triton" and device == "cpu":
        pytest.skip("triton needs a CUDA device")
    points, width, ink = scene(count, size, batch, device)

    def step():
        points.grad = None
        render(points, width, ink, size, size, renderer=renderer).square().sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()

    benchmark.group = f"raster {count} strokes {size} px x{batch} {device}"
    benchmark.pedantic(step, rounds=5 if renderer == "diffvg" else 20, warmup_rounds=1)


@pytest.fixture(scope="module")
def visual():
    """A tower of the built-in model's shape; speed does not ask what its weights are."""
    from open_clip.modified_resnet import ModifiedResNet

    return ModifiedResNet([2, 2, 2, 2], 512, 16, 96, 32).eval()


MEAN, STD = (0.481, 0.458, 0.408), (0.269, 0.261, 0.276)


@pytest.mark.parametrize("augmentations", [1, 4])
def test_step_frozen_and_cached(benchmark, visual, augmentations):
    """One optimiser step for one seed, as it is."""
    tower = Tower(visual.requires_grad_(requires_grad=False), MEAN, STD)
    loss = ClipassoLoss(tower, torch.rand(3, 224, 224), augmentations=augmentations)
    points, *_ = scene(16, 224)
    fit = Fit(loss, [Strokes.black(points[0].detach().numpy(), 3.0)], FitOptions())
    benchmark.group = f"step, {augmentations} augmentations"
    benchmark.pedantic(fit.advance, rounds=8, warmup_rounds=1)


@pytest.mark.parametrize("augmentations", [1, 4])
def test_step_as_a_plain_loop(benchmark, visual, augmentations):
    """The same step as a plain loop does it: weights not frozen, the photograph encoded with gradients each time.

    The rasteriser is ours in both, so the difference is what freezing, caching and folding give.
    """
    visual.requires_grad_(requires_grad=True)
    photo = torch.rand(1, 3, 224, 224)
    points, width, ink = scene(16, 224)
    adam = torch.optim.Adam([points], lr=1.0)
    generator = torch.Generator().manual_seed(0)

    def step():
        plain_step(visual, photo, points, width, ink, adam, augmentations, generator)

    benchmark.group = f"step, {augmentations} augmentations"
    benchmark.pedantic(step, rounds=5, warmup_rounds=1)


def plain_step(visual, photo, points, width, ink, adam, augmentations, generator):
    """CLIPasso's step without any of our shortcuts; with diffvg's rasteriser where it is installed."""
    size = photo.shape[-1]

    def layers(x):
        x = (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
        x = visual.layer1(visual.stem(x))
        second = visual.layer2(x)
        third = visual.layer3(second)
        pooled = visual.layer4(third).mean((2, 3))
        return second, third, pooled

    adam.zero_grad()
    renderer = "diffvg" if find_spec("pydiffvg") else "torch"
    sketch = render(points, width, ink, size, size, renderer=renderer).expand(-1, 3, -1, -1)
    grids = sampling_grids(random_homographies(augmentations, generator), size, "cpu")
    ours = layers(torch.cat((sketch, warp(sketch, grids)[0])))
    theirs = layers(torch.cat((photo, warp(photo, grids)[0])))
    loss = sum(functional.mse_loss(a, b) for a, b in zip(ours[:2], theirs[:2], strict=True))
    loss = loss + 0.1 * (1 - functional.cosine_similarity(ours[2], theirs[2])).mean()
    loss.backward()
    adam.step()


WHOLE = [("draft", 200), ("normal", 100)]
"""Preset and steps: `normal` for a fifth of its 500 steps, which is the same share of both sides."""


@pytest.mark.parametrize(("quality", "steps"), WHOLE)
def test_whole_sketch_as_it_is(benchmark, quality, steps):
    """A photograph to 16 strokes, three seeds: saliency, starts and mask included, the model loaded."""
    clip = load_clip("builtin", engine="torch")
    options = SketchOptions(replace(preset(quality), steps=steps))
    benchmark.group = f"whole sketch, {quality}, {steps} steps"
    (outcome,) = benchmark.pedantic(lambda: list(run([Source("cat.jpg", CAT)], options, clip)), rounds=1)
    assert len(outcome.drawing.strokes) == 16


@pytest.mark.parametrize(("quality", "steps"), WHOLE)
def test_whole_sketch_as_plain_loops(benchmark, visual, quality, steps):
    """The same steps, side and views for three seeds one after the other: weights not frozen, nothing cached."""
    visual.requires_grad_(requires_grad=True)
    recipe = preset(quality)
    photo = torch.rand(1, 3, recipe.resolution, recipe.resolution)

    def loops():
        for seed in range(recipe.seeds):
            points, width, ink = scene(16, recipe.resolution)
            adam = torch.optim.Adam([points], lr=1.0)
            generator = torch.Generator().manual_seed(seed)
            for _ in range(steps):
                plain_step(visual, photo, points, width, ink, adam, recipe.augmentations, generator)

    benchmark.group = f"whole sketch, {quality}, {steps} steps"
    benchmark.pedantic(loops, rounds=1)
