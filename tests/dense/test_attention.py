"""Last-block attention against loops over heads and patches."""

import math

import numpy as np
import pytest
import torch
from open_clip.transformer import VisionTransformer

from clipkit.dense import attention, resnet, vit

GRID = (2, 3)


@pytest.fixture
def qk():
    """Queries and keys (1, 2 heads, 1 + 6 tokens, 4)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 1, 2, 7, 4, generator=generator).double().unbind(0)


def softmax_rows(logits):
    return [[math.exp(v) / sum(math.exp(u) for u in row) for v in row] for row in logits]


def rows(function, tokens=7):
    return softmax_rows([[function(i, j) for j in range(tokens)] for i in range(tokens)])


def dot(a, b):
    return float(sum(x * y for x, y in zip(a, b, strict=True)))


@pytest.mark.parametrize("head", [0, 1])
def test_sclip_is_a_sum_of_two_softmaxes(qk, head):
    """Each row is softmax(q q'/2) + softmax(k k'/2) and sums to two."""
    q, k = (t[0, head].tolist() for t in qk)
    first = rows(lambda i, j: dot(q[i], q[j]) / 2)
    second = rows(lambda i, j: dot(k[i], k[j]) / 2)
    found = attention.correlative(*qk)[0, head]
    np.testing.assert_allclose(found.numpy(), np.add(first, second), atol=1e-12)


def test_clearclip_is_query_query(qk):
    """ClearCLIP's weights are softmax(q q'/2)."""
    q = qk[0][0, 1].tolist()
    np.testing.assert_allclose(
        attention.query_query(qk[0])[0, 1].numpy(), rows(lambda i, j: dot(q[i], q[j]) / 2), atol=1e-12
    )


def test_naclip_adds_a_gaussian_of_the_distance(qk):
    """NACLIP adds exp(-D^2 / 2 sigma^2) between patches (rows x columns kept apart) and nothing to the class token."""
    k = qk[1][0, 0].tolist()

    def logit(i, j):
        near = 0.0
        if i and j:
            (y0, x0), (y1, x1) = divmod(i - 1, GRID[1]), divmod(j - 1, GRID[1])
            near = math.exp(-((y0 - y1) ** 2 + (x0 - x1) ** 2) / (2 * 1.5**2))
        return dot(k[i], k[j]) / 2 + near

    found = attention.neighbourhood(qk[1], GRID, has_cls=True, sigma=1.5)[0, 0]
    np.testing.assert_allclose(found.numpy(), rows(logit), atol=1e-6)


def test_pearl_rotates_keys_onto_queries(qk):
    """With the iteration run to its end, PEARL's rotation is the SVD's U V' of the centred, weighted cross-covariance."""
    q, k = (t.float() for t in qk)
    weight = q.norm(dim=-1, keepdim=True)
    weight[..., 0, :] = 0
    weight = weight / weight.sum(dim=-2, keepdim=True)
    qc, kc = (t - (weight * t).sum(dim=-2, keepdim=True) for t in (q, k))
    u, _, vh = torch.linalg.svd(kc.transpose(-1, -2) @ qc)
    torch.testing.assert_close(attention.polar_factor(kc.transpose(-1, -2) @ qc, steps=40), u @ vh, atol=2e-3, rtol=0)
    found = attention.procrustes(q, k, has_cls=True, alpha=0.3)
    rotation = attention.polar_factor(kc.transpose(-1, -2) @ qc)
    expected = torch.softmax(
        torch.einsum("bhid,bhjd->bhij", q, k @ rotation) / 2 + 0.3 * torch.einsum("bhid,bhjd->bhij", kc, kc) / 2, dim=-1
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_polar_factor_is_orthogonal():
    """For a well-conditioned matrix a few more steps give an orthogonal matrix, and R'M is symmetric positive."""
    m = torch.eye(5) + 0.2 * torch.randn(5, 5, generator=torch.Generator().manual_seed(1))
    r = attention.polar_factor(m, steps=30)
    torch.testing.assert_close(r.T @ r, torch.eye(5), atol=1e-4, rtol=0)
    assert torch.linalg.eigvalsh((r.T @ m + m.T @ r) / 2).min() > 0


def test_plain_tokens_equal_open_clips_forward(vit_tower):
    """With CLIP's own attention the tokens are those of open_clip's forward with `output_tokens`, projected."""
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = vit.patch_tokens(vit_tower, pixels, "plain", alpha=0.08, sigma=5.0)
        vit_tower.output_tokens = True
        _, tokens = vit_tower(pixels)
        vit_tower.output_tokens = False
        torch.testing.assert_close(found.flatten(1, 2), tokens @ vit_tower.proj, atol=1e-4, rtol=0)


def test_maskclip_takes_the_values(vit_tower):
    """MaskCLIP's last block is x + Wo v, then the feed-forward part, token by token."""
    pixels = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        tokens, grid = vit.embed(vit_tower, pixels)
        x = vit.run_blocks(vit_tower, tokens)[-1]
        block = vit_tower.transformer.resblocks[-1]
        width = x.shape[-1]
        value = block.ln_1(x) @ block.attn.in_proj_weight[2 * width :].T + block.attn.in_proj_bias[2 * width :]
        x = x + value @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
        x = x + block.mlp(block.ln_2(x))
        expected = vit_tower.ln_post(x[:, 1:]) @ vit_tower.proj
        found = vit.patch_tokens(vit_tower, pixels, "maskclip", alpha=0.08, sigma=5.0)
    assert grid == (4, 6)
    torch.testing.assert_close(found.flatten(1, 2), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["plain", "maskclip", "sclip", "clearclip", "naclip", "pearl", "scclip"])
def test_blocks_that_are_not_batch_first_agree(vit_tower, method):
    """Towers built with tokens first give the same patches."""
    other = VisionTransformer(32, 8, 32, 12, 2, 4.0, output_dim=16)
    other.transformer.batch_first = False
    for block in other.transformer.resblocks:
        block.attn.batch_first = False
    other.load_state_dict(vit_tower.state_dict())
    other.eval()
    pixels = torch.randn(1, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        a, b = (vit.patch_tokens(tower, pixels, method, alpha=0.08, sigma=5.0) for tower in (vit_tower, other))
    torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_a_batch_is_its_windows_one_by_one(vit_tower):
    """No method lets windows of one batch see one another; SC-CLIP's outliers are found for each."""
    pixels = torch.randn(3, 3, 48, 40, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for method in ("naclip", "pearl", "scclip"):
            together = vit.patch_tokens(vit_tower, pixels, method, alpha=0.08, sigma=5.0)
            alone = torch.cat([vit.patch_tokens(vit_tower, one[None], method, alpha=0.08, sigma=5.0) for one in pixels])
            torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def test_the_attention_pool_over_all_tokens(resnet_tower):
    """`plain` asks the pool once for every cell: token 0 is the model's own embedding, the others are returned."""
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = resnet.patch_tokens(resnet_tower, pixels, "plain", alpha=0.08, sigma=5.0)[0].flatten(0, 1)
        pool = resnet_tower.attnpool
        x = resnet.feature_map(resnet_tower, pixels).flatten(2)[0].T
        x = torch.cat([x.mean(dim=0, keepdim=True), x]) + pool.positional_embedding
        q, k, v = (layer(x).view(5, pool.num_heads, -1) for layer in (pool.q_proj, pool.k_proj, pool.v_proj))
        out = torch.zeros_like(v)
        for head in range(pool.num_heads):
            for i in range(5):
                weights = torch.softmax((k[:, head] @ q[i, head]) * q.shape[-1] ** -0.5, dim=0)
                out[i, head] = (weights[:, None] * v[:, head]).sum(dim=0)
        expected = pool.c_proj(out.flatten(1))
    torch.testing.assert_close(expected[0], resnet_tower(pixels)[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(found, expected[1:], atol=1e-4, rtol=0)


def test_maskclip_of_a_resnet_is_two_linear_maps(resnet_tower):
    """MaskCLIP through the attention pool: value and output projection of each cell, no position, any grid."""
    pixels = torch.randn(1, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        cells = resnet.feature_map(resnet_tower, pixels)[0].permute(1, 2, 0)
        pool = resnet_tower.attnpool
        expected = pool.c_proj(pool.v_proj(cells))
        found = resnet.patch_tokens(resnet_tower, pixels, "maskclip", alpha=0.08, sigma=5.0)[0]
    assert found.shape == (3, 5, 16)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(96, 160), (64, 64), (32, 128), (128, 32)])
def test_local_of_a_resnet_pools_every_square_as_a_picture(resnet_tower, size):
    """Each cell is the tent-weighted mean of the whole-picture embeddings of the squares of cells around it."""
    pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        x = resnet.feature_map(resnet_tower, pixels)
        found = resnet.patch_tokens(resnet_tower, pixels, "local", alpha=0.08, sigma=5.0)
        h, w = x.shape[2:]
        high, wide = min(2, h), min(2, w)  # trained at 64 pixels: 2 x 2 cells
        total, weights = torch.zeros(2, h, w, 16), torch.zeros(h, w)
        for top in range(h - high + 1):
            for left in range(w - wide + 1):
                square = x[:, :, top : top + high, left : left + wide].flatten(2).permute(2, 0, 1)
                tokens = torch.cat([square.mean(dim=0, keepdim=True), square])
                pool = resnet_tower.attnpool
                place = vit.resize_positions(pool.positional_embedding, (2, 2), (high, wide))
                tokens = tokens + place[:, None]
                biases = torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias])
                whole, _ = torch.nn.functional.multi_head_attention_forward(
                    tokens[:1], tokens, tokens, tokens.shape[-1], pool.num_heads, None, biases, None, None,
                    add_zero_attn=False, dropout_p=0.0, out_proj_weight=pool.c_proj.weight,
                    out_proj_bias=pool.c_proj.bias, training=False, use_separate_proj_weight=True,
                    q_proj_weight=pool.q_proj.weight, k_proj_weight=pool.k_proj.weight, v_proj_weight=pool.v_proj.weight,
                )  # fmt: skip
                unit = whole[0] / whole[0].norm(dim=-1, keepdim=True)
                for i in range(high):
                    for j in range(wide):
                        near = (1 - abs(i - (high - 1) / 2) * 2 / (high + 1)) * (
                            1 - abs(j - (wide - 1) / 2) * 2 / (wide + 1)
                        )
                        total[:, top + i, left + j] += near * unit
                        weights[top + i, left + j] += near
    torch.testing.assert_close(found, total / weights[None, :, :, None], atol=1e-5, rtol=1e-4)
    if size == (64, 64):
        own = resnet_tower(pixels)
        torch.testing.assert_close(found[:, 0, 1], own / own.norm(dim=-1, keepdim=True), atol=1e-5, rtol=1e-4)
