"""SC-CLIP's parts against loops."""

import numpy as np
import pytest
import torch

from clipkit.dense import scclip


def test_outliers_by_loops():
    """The local outlier factor, written out with sorted distances, marks the same five percent."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 5))
    x[[7, 33]] += 6
    distance = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    order = np.argsort(distance, axis=1)[:, 1:31]
    density = np.array([1 / distance[i, order[i, -1]] for i in range(80)])
    factor = np.array([np.mean([density[j] / density[i] for j in order[i]]) for i in range(80)])
    expected = factor > np.quantile(factor, 0.95)
    found = scclip.outlier_mask(torch.from_numpy(x)[None])[0].numpy()
    np.testing.assert_array_equal(found, expected)
    assert found[[7, 33]].all()


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_small_grids_have_fewer_neighbours(count):
    """Grids with less than 31 patches take all there are; hardly any patch gives no outlier and no error."""
    found = scclip.outlier_mask(torch.randn(1, count, 4, generator=torch.Generator().manual_seed(0)))
    assert found.shape == (1, count)
    assert int(found.sum()) <= max(count // 20 + 1, 1)


def test_repair_by_loops():
    """An outlier becomes the mean of the neighbours that are none; alone among outliers it stays."""
    rng = np.random.default_rng(0)
    h, w = 4, 6
    x = rng.normal(size=(h, w, 3))
    bad = np.zeros((h, w), bool)
    bad[0, 0] = bad[2, 3] = bad[2, 4] = True
    bad[2:, :3] = True
    expected = x.copy()
    for i in range(h):
        for j in range(w):
            near = [
                x[a, b]
                for a in range(max(i - 1, 0), min(i + 2, h))
                for b in range(max(j - 1, 0), min(j + 2, w))
                if not bad[a, b]
            ]
            if bad[i, j] and near:
                expected[i, j] = np.mean(near, axis=0)
    assert not any(bad[a, b] == 0 for a in (2, 3) for b in (0, 1))
    patches, mask = torch.from_numpy(x).view(1, h * w, 3), torch.from_numpy(bad).view(1, -1)
    found = scclip.repair(patches, mask, (h, w))
    np.testing.assert_allclose(found.view(h, w, 3).numpy(), expected, atol=1e-12)


def test_aggregate_by_loops():
    """Similarities under 0.4 do not count; the rest weight an average."""
    rng = np.random.default_rng(0)
    x, s = rng.normal(size=(5, 3)), rng.uniform(size=(5, 5))
    np.fill_diagonal(s, 1)
    expected = [
        sum(s[i, j] * x[j] for j in range(5) if s[i, j] >= 0.4) / sum(s[i, j] for j in range(5) if s[i, j] >= 0.4)
        for i in range(5)
    ]
    found = scclip.aggregate(torch.from_numpy(x)[None], torch.from_numpy(s)[None])[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_middle_attention_by_loops():
    """Half softmax(3 (S - mean)) over what is above the mean, half key-key attention; rows sum to one."""
    rng = np.random.default_rng(0)
    unit = rng.normal(size=(6, 4))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    s, k = unit @ unit.T, rng.normal(size=(2, 6, 4))
    found = scclip.middle_attention(torch.from_numpy(k)[None], torch.from_numpy(s)[None])[0].numpy()
    for head in range(2):
        for i in range(6):
            sharp = np.array([np.exp(3 * (v - s.mean())) if v >= s.mean() else 0 for v in s[i]])
            keys = np.exp(k[head] @ k[head][i] / 2)
            np.testing.assert_allclose(found[head, i], (sharp / sharp.sum() + keys / keys.sum()) / 2, atol=1e-9)
