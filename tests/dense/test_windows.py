"""Windows: where they lie and how their answers are averaged."""

import pytest
import torch
from torch.nn import functional

from clipkit.dense import windows


@pytest.mark.parametrize(
    ("length", "window", "stride", "expected"),
    [
        (448, 224, 112, [0, 112, 224]),
        (336, 224, 112, [0, 112]),
        (337, 224, 112, [0, 112, 113]),
        (224, 224, 112, [0]),
        (100, 224, 112, [0]),
        (500, 224, 112, [0, 112, 224, 276]),
        (700, 224, 300, [0, 300, 476]),
    ],
)
def test_starts(length, window, stride, expected):
    """Windows step by the stride; the last is shifted inward; a short side has one."""
    assert windows.starts(length, window, stride) == expected


def test_six_windows_over_336x448():
    """The grid of the methods' authors: two rows of three."""
    laid = windows.lay(336, 448, 224, 112)
    assert [(w.top, w.left) for w in laid] == [(t, x) for t in (0, 112) for x in (0, 112, 224)]
    assert all((w.bottom - w.top, w.right - w.left) == (224, 224) for w in laid)


@pytest.mark.parametrize(("height", "width"), [(17, 900), (300, 41), (224, 225), (1, 1)])
@pytest.mark.parametrize("stride", [100, 224])
def test_every_pixel_is_seen(height, width, stride):
    """No pixel is left out, no window leaves the image, all are of one size."""
    seen = torch.zeros(height, width)
    laid = windows.lay(height, width, 224, stride)
    for w in laid:
        assert 0 <= w.top < w.bottom <= height
        assert 0 <= w.left < w.right <= width
        seen[w.top : w.bottom, w.left : w.right] += 1
    assert seen.min() >= 1
    assert len({(w.bottom - w.top, w.right - w.left) for w in laid}) == 1


def test_average_by_loops():
    """Each pixel is the mean of what the windows over it say, whatever the batch."""
    pixels = torch.rand(3, 50, 70, generator=torch.Generator().manual_seed(0))
    laid = windows.lay(50, 70, 32, 20)

    def encode(x):
        # Two maps at an eighth of the size; the window's own mean makes windows disagree.
        return torch.stack([functional.avg_pool2d(one, 8)[:2] + one.mean() for one in x])

    total, count = torch.zeros(2, 50, 70), torch.zeros(50, 70)
    for w in laid:
        part = pixels[:, w.top : w.bottom, w.left : w.right]
        total[:, w.top : w.bottom, w.left : w.right] += functional.interpolate(
            encode(part[None]), size=(32, 32), mode="bilinear", align_corners=False
        )[0]
        count[w.top : w.bottom, w.left : w.right] += 1
    for batch in (1, 3, 100):
        torch.testing.assert_close(windows.average(pixels, laid, encode, batch=batch), total / count)


def test_cells_are_averaged_without_interpolation():
    """With cells, results are put down cell by cell: a function of the patch alone stitches to itself."""
    pixels = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(0))

    def encode(x):
        return functional.avg_pool2d(x, 8)

    laid = windows.lay(64, 96, 32, 24)
    torch.testing.assert_close(windows.average(pixels, laid, encode, cell=8), functional.avg_pool2d(pixels, 8))
