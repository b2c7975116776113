"""DepthCLIP here equals the authors' code, step by step.

Depth is compared to 1e-5 absolute and relative, on one thread and with AVX-512, as the golden run was: cosines are multiplied
by 1000 before the softmax, so the order in which float32 sums are taken, which the number of threads and the processor decide,
moves depths by more. On other processors a cosine off by 1e-7 is a logit off by 1e-4, so depths may be off by 3e-4.
"""

import numpy as np
import pytest
from depth_seeds import seeded_photo, seeded_rgbd

from clipkit.depth.depthclip import Layer4Depth, channel_step, working_pixels
from clipkit.depth.ladder import Ladder
from clipkit.depth.protocol import Protocol
from clipkit.depth.upsample import depth_map


@pytest.fixture
def near():
    """How near depths come to the golden run's."""
    import torch

    return 1e-5 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 3e-4


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in the golden run's order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_text_vectors(rn50, golden):
    """The seven prompts give the authors' vectors."""
    vectors = Ladder().vectors(rn50)
    assert vectors.shape == (7, 1024)
    np.testing.assert_allclose(vectors[:, ::8], golden["text"], atol=1e-6)


def test_every_second_channel(rn50, golden):
    """Unit layer4, then channels 0, 2, 4...: not the first half, not averaged pairs, and not normalised again."""
    depth = Layer4Depth(rn50, Ladder())
    features = depth.features(working_pixels(seeded_photo(416, 544)))
    assert features.shape == (13, 17, 1024)
    np.testing.assert_allclose(features.reshape(221, 1024)[::17, ::16], golden["features"], atol=1e-6)
    assert (np.linalg.norm(features, axis=-1) < 0.99).all()
    assert channel_step(2048, 1024, "RN50") == channel_step(1024, 512, "builtin") == 2


def test_depth_of_one_view(rn50, golden, near):
    """Softmax over the words at T = 0.1 and the bins' mean."""
    estimate = Layer4Depth(rn50, Ladder()).estimate(seeded_photo(416, 544))
    np.testing.assert_allclose(estimate.depth, golden["single"], rtol=near, atol=near)
    assert estimate.depth.std() > 0.3


def test_whole_pipeline(rn50, golden, near):
    """Flip averaging and the corner-aligned enlargement."""
    depth, fov = depth_map(seeded_photo(416, 544), Layer4Depth(rn50, Ladder()))
    assert depth.shape == (416, 544)
    assert fov is None
    np.testing.assert_allclose(depth[::13, ::17], golden["full"], rtol=near, atol=near)


def test_errors_of_the_authors(golden):
    """Crop, caps and numbers equal the authors' evaluation, holes and far pixels included."""
    predicted, truth = seeded_rgbd()
    found, _ = Protocol().compare(truth, predicted)
    _, a1, a2, a3, abs_rel, log10, rmse = golden["errors"]
    expected = (a1, a2, a3, abs_rel, rmse, log10)
    np.testing.assert_allclose(found.values(), expected, rtol=2e-5)
