"""TLP against a dense linear solve, PAMR against loops over pixels."""

import numpy as np
import pytest
import torch

from clipkit.dense import pamr, tlp


def test_conjugate_gradients_solve_the_system():
    """On a small grid the iterations reach the solution of the dense system (C + L) x = C y, for every class."""
    rng = np.random.default_rng(0)
    h, w, q = 3, 4, 2
    y, c = rng.normal(size=(q, h, w)), rng.uniform(0.2, 1, size=(h, w))
    right, down = rng.uniform(size=(h, w - 1)), rng.uniform(size=(h - 1, w))
    a = np.diag(c.ravel())
    for i in range(h):
        for j in range(w):
            for other, weight in (
                ((i, j + 1), right[i, j] if j + 1 < w else 0),
                ((i + 1, j), down[i, j] if i + 1 < h else 0),
            ):
                if weight:
                    m, n = i * w + j, other[0] * w + other[1]
                    a[m, m] += weight
                    a[n, n] += weight
                    a[m, n] -= weight
                    a[n, m] -= weight
    expected = np.linalg.solve(a, (c * y).reshape(q, -1).T).T.reshape(q, h, w)
    found = tlp.solve(*(torch.from_numpy(t) for t in (y, c, right, down)), steps=60)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_the_guide_prefers_the_class_itself():
    """Rows sum to one, and a like class speaks louder than an unlike one."""
    text = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.2]])
    guide = tlp.text_guide(text)
    torch.testing.assert_close(guide.sum(dim=1), torch.ones(3))
    assert guide[0, 0] > 0.9
    assert guide[0, 1] > guide[0, 2]


@pytest.mark.parametrize("size", [(17, 900), (1, 1), (1, 40), (375, 500), (83, 81)])
def test_tlp_takes_any_size(size):
    """Every image size is refined on a grid of at most 159 cells a side, without invalid numbers."""
    logits = torch.rand(3, 5, 6, generator=torch.Generator().manual_seed(0))
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(1))
    found = tlp.refine(logits, image, torch.eye(3))
    assert torch.isfinite(found).all()
    assert all(cells <= max(159, 1) for cells in found.shape[1:])


def test_tlp_in_chunks_is_the_same(monkeypatch):
    """Enlarging a few maps at a time changes nothing."""
    generator = torch.Generator().manual_seed(0)
    logits, image = torch.rand(5, 9, 12, generator=generator), torch.rand(3, 90, 120, generator=generator)
    whole = tlp.refine(logits, image, torch.eye(5))
    monkeypatch.setattr(tlp, "ENLARGED", 1)
    torch.testing.assert_close(tlp.refine(logits, image, torch.eye(5)), whole)


def test_edges_hold_the_flow():
    """Noise inside two flat halves is smoothed, the step between them stays."""
    image = torch.zeros(3, 20, 40)
    image[:, :, 20:] = 1.0
    clean = torch.stack([(image[0] < 0.5).float(), (image[0] > 0.5).float()]) * 0.2
    noisy = clean + 0.1 * torch.randn(2, 20, 40, generator=torch.Generator().manual_seed(0))
    refined = tlp.refine(noisy, image, torch.eye(2))
    assert (refined - clean).abs().mean() < 0.35 * (noisy - clean).abs().mean()
    assert ((refined.argmax(dim=0) == 1) == (image[0] > 0.5)).all()


def test_pamr_by_loops():
    """Affinities and one step, written out pixel by pixel with edges repeated."""
    rng = np.random.default_rng(0)
    h, w = 5, 6
    image, logits = rng.uniform(size=(3, h, w)), rng.normal(size=(2, h, w))
    offsets = [(d * dy, d * dx) for d in (1, 2) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]

    def at(array, i, j):
        return array[:, min(max(i, 0), h - 1), min(max(j, 0), w - 1)]

    expected = np.zeros_like(logits)
    for i in range(h):
        for j in range(w):
            around = [at(image, i + dy, j + dx) for dy, dx in offsets] + [image[:, i, j]] * 2
            spread = np.std(around, axis=0, ddof=1)
            likeness = [
                np.mean(-np.abs(image[:, i, j] - at(image, i + dy, j + dx)) / (1e-8 + 0.1 * spread))
                for dy, dx in offsets
            ]
            weights = np.exp(likeness) / np.sum(np.exp(likeness))
            for weight, (dy, dx) in zip(weights, offsets, strict=True):
                expected[:, i, j] += weight * at(logits, i + dy, j + dx)
    found = pamr.refine(torch.from_numpy(logits), torch.from_numpy(image), steps=1, dilations=(1, 2))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
