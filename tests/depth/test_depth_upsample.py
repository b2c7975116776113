"""The coarse map at the photograph's size: the guided filter window by window, ranges, flips, every size and aspect."""

from types import SimpleNamespace

import numpy as np
import pytest

from clipkit.dense.features import DenseOptions
from clipkit.depth import guided
from clipkit.depth.depthclip import DenseDepth, Layer4Depth, channel_step, working_pixels, working_size
from clipkit.depth.estimator import Estimate
from clipkit.depth.ladder import Ladder
from clipkit.depth.upsample import depth_map, enlarge
from clipkit.errors import ModelError
from clipkit.models.loader import load_clip


class Given:
    """An estimator that says what it is told to, and its mirror image for mirrored pictures."""

    id, weights_hash, method, metric, flips = "given", "0" * 12, "given", False, False

    def __init__(self, depth, *, corners=False, fov=None):
        self.depth, self.corners, self.fov = np.asarray(depth, np.float32), corners, fov
        self.asked = 0

    def estimate(self, image):
        self.asked += 1
        return Estimate(self.depth, self.corners, self.fov)


def photo(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_guided_filter_by_regression():
    """Each window's function is a ridge regression of depth on colour; a pixel's value is the mean over its windows."""
    rng = np.random.default_rng(3)
    image, depth = rng.integers(0, 256, (9, 11, 3), np.uint8), rng.random((9, 11), np.float32)
    colours, reach, epsilon = image / 255.0, 2, 1e-2
    slopes, offsets = np.zeros((9, 11, 3)), np.zeros((9, 11))
    for row in range(9):
        for column in range(11):
            window = np.s_[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
            i, p = colours[window].reshape(-1, 3), depth[window].reshape(-1)
            centred = i - i.mean(axis=0)
            normal = centred.T @ centred / len(p) + epsilon * np.eye(3)
            slopes[row, column] = np.linalg.solve(normal, centred.T @ (p - p.mean()) / len(p))
            offsets[row, column] = p.mean() - slopes[row, column] @ i.mean(axis=0)
    expected = np.zeros((9, 11))
    for row in range(9):
        for column in range(11):
            window = np.s_[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
            a, b = slopes[window].reshape(-1, 3).mean(axis=0), offsets[window].mean()
            expected[row, column] = a @ colours[row, column] + b
    np.testing.assert_allclose(guided.guided_filter(depth, image, reach, epsilon), expected, atol=1e-5)


def test_guided_filter_sharpens_at_a_colour_edge():
    """A blurred step comes out steeper where the photograph has an edge, and flatter inside one colour."""
    image = np.zeros((60, 120, 3), np.uint8)
    image[:, 60:] = (200, 160, 40)
    blurred = np.broadcast_to(np.interp(np.arange(120), [40, 80], [1, 3]).astype(np.float32), (60, 120))
    found = guided.guided_filter(blurred, image, 20, 1e-3)
    assert found[30, 62] - found[30, 57] > 4 * (blurred[30, 62] - blurred[30, 57])
    assert found[30, 70] - found[30, 64] < (blurred[30, 70] - blurred[30, 64]) / 2


def test_large_photographs_are_fitted_small(monkeypatch):
    """Fitting at a smaller size changes little of a smooth map over a smooth picture."""
    y, x = np.mgrid[0:90, 0:160]
    image = np.stack([x, y, x + y], axis=-1).astype(np.uint8)
    depth = (1 + x / 80 + y / 90).astype(np.float32)
    full = guided.guided_filter(depth, image, 8)
    monkeypatch.setattr(guided, "LONG_SIDE", 80)
    np.testing.assert_allclose(guided.guided_filter(depth, image, 8), full, atol=0.05)


def test_enlarge_keeps_corners_or_cell_centres():
    """With corners the ends of a ramp lie on the border pixels; without, in the middle of the cells."""
    ramp = np.array([[0, 1]], np.float32)
    np.testing.assert_allclose(enlarge(ramp, (1, 5), corners=True)[0], [0, 0.25, 0.5, 0.75, 1], atol=1e-6)
    np.testing.assert_allclose(enlarge(ramp, (1, 4), corners=False)[0], [0, 0.25, 0.75, 1], atol=1e-6)


@pytest.mark.parametrize("upsample", ["bilinear", "guided"])
@pytest.mark.parametrize("size", [(64, 96), (7, 300), (300, 7), (1, 1)])
def test_any_size_stays_in_range(size, upsample):
    """The map has the photograph's size and no value outside the coarse map's, edges of any contrast included."""
    coarse = np.random.default_rng(1).uniform(1, 3, (4, 6))
    depth, _ = depth_map(photo(*size), Given(coarse), upsample=upsample)
    assert depth.shape == size
    assert depth.dtype == np.float32
    assert depth.min() >= coarse.min().astype(np.float32)
    assert depth.max() <= coarse.max().astype(np.float32)


def test_flip_averages_the_mirrored_map_mirrored_back():
    """Half the map and half the mirrored picture's map turned back; asked for or the method's own."""
    given = Given([[1.0, 3.0]], fov=50.0)
    depth, fov = depth_map(photo(1, 2), given, flip=True)
    assert depth.tolist() == [[2.0, 2.0]]
    assert fov == 50.0
    depth, _ = depth_map(photo(1, 2), given)
    assert depth.tolist() == [[1.0, 3.0]]
    assert given.asked == 3


@pytest.mark.parametrize("method", ["layer4", "dense"])
def test_mirrored_picture_mirrored_depth(tiny_folders, method):
    """With flip averaging, the mirror image of a picture has the mirror image of its depth."""
    clip = load_clip(tiny_folders["resnet"], "cpu", engine="torch")
    warm = Ladder(temperature=0.5)
    if method == "layer4":
        estimator = Layer4Depth(clip, warm, size=96)
    else:
        estimator = DenseDepth(clip, warm, DenseOptions(size=96))
    image = np.kron(photo(12, 16), np.ones((8, 8, 1), np.uint8))
    depth, _ = depth_map(image, estimator)
    mirrored, _ = depth_map(np.ascontiguousarray(image[:, ::-1]), estimator)
    assert depth.std() > 1e-3
    np.testing.assert_allclose(mirrored, depth[:, ::-1], atol=1e-5)


def test_working_size():
    """Whole cells of 32, the short side near 416, extreme aspects within bounds; the authors' frame as it is."""
    assert working_size(416, 544) == (416, 544)
    assert working_size(480, 640) == (416, 544)
    assert working_size(640, 480) == (544, 416)
    assert working_size(1, 4000) == (32, 2048)
    assert working_size(3000, 4000, 64) == (64, 96)
    image = photo(416, 544)
    pixels = working_pixels(image)
    assert pixels.shape == (3, 416, 544)
    by_hand = (image[5, 7] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(pixels[:, 5, 7], by_hand, atol=1e-6)


@pytest.mark.parametrize("shape", [(40, 700), (33, 20), (1, 1)])
def test_any_aspect_through_the_model(tiny_folders, shape):
    """Strips, tiny pictures and single pixels give a map of their size within the bins, by either method and tower."""
    image = photo(*shape)
    for kind, folder in tiny_folders.items():
        clip = load_clip(folder, "cpu", engine="torch")
        estimators = [DenseDepth(clip, Ladder(), DenseOptions(size=32))]
        if kind == "resnet":
            estimators.append(Layer4Depth(clip, Ladder(), size=32))
        for estimator in estimators:
            depth, _ = depth_map(image, estimator)
            assert depth.shape == shape
            assert ((depth >= 1) & (depth <= 3)).all()


def test_towers_that_do_not_fit(tiny_folders):
    """Towers without layer4, without patch answers, or whose channels do not divide are refused with the way out."""
    clip = load_clip(tiny_folders["vit"], "cpu", engine="torch")
    strange = SimpleNamespace(id="strange", model=SimpleNamespace(visual=object()))
    with pytest.raises(ModelError, match="no patch answers"):
        DenseDepth(strange, Ladder(), DenseOptions())
    with pytest.raises(ModelError, match="depthclip-dense"):
        Layer4Depth(clip, Ladder())
    with pytest.raises(ModelError, match="2048 channels"):
        channel_step(2048, 768, "odd")


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_depth_on_cuda(tiny_folders, kind):
    """In float32 a CUDA device gives the CPU's depths."""
    image, ladder = np.kron(photo(12, 16), np.ones((8, 8, 1), np.uint8)), Ladder(temperature=1.0)
    maps = []
    for device in ("cpu", "cuda"):
        clip = load_clip(tiny_folders[kind], device, "fp32", engine="torch")
        maps.append([depth_map(image, DenseDepth(clip, ladder, DenseOptions(size=96)))[0]])
        if kind == "resnet":
            maps[-1].append(depth_map(image, Layer4Depth(clip, ladder, size=96))[0])
    for one, other in zip(*maps, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-2)
