"""The region network: each step by another route, and all of it against the published code's own answers."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from rcnn_tiny import DIM, STAGES, make_state, picture

from clipkit.detection.boxes import iou
from clipkit.detection.rcnn_boxes import HEAD_STDS, anchors, decode, pool_regions, propose
from clipkit.detection.region_network import NetworkRegions, open_network, prepare
from clipkit.errors import ModelError
from clipkit.models.rcnn import RegionNet
from clipkit.models.rcnn_checkpoint import build, convert, read, sizes

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def golden():
    """What the published code said."""
    return np.load(GOLDEN / "rcnn.npz")


@pytest.fixture
def one_thread():
    """The golden tensors were made on one thread; on more, float32 sums come in another order and differ by 5e-6."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("name", "height", "width"), [("landscape", 120, 200), ("portrait", 150, 90)])
def test_the_network_answers_as_the_published_code(golden, name, height, width):
    """Pixels, boxes within 1e-4 px, objectness and vectors within 1e-6, and as many proposals.

    Without the golden run's AVX-512 the sums over fifty layers are taken in another order: vectors within 2e-5 there.
    """
    near = 1e-6 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 2e-5
    image = picture(height, width)
    pixels, _, _ = prepare(image)
    assert np.abs(pixels[0, :, ::97, ::97] - golden[f"{name}_pixels"]).max() <= 1e-6
    found = NetworkRegions(build(make_state()), crops=False).regions(image, "")
    assert len(found.boxes) == golden[f"{name}_count"]
    count = len(golden[f"{name}_scores"])
    assert np.abs(found.boxes[:count] - golden[f"{name}_boxes"]).max() <= 1e-4
    assert np.abs(found.scores[:count] - golden[f"{name}_scores"]).max() <= 1e-6
    assert np.abs(found.features[:count] - golden[f"{name}_vectors"]).max() <= near
    assert np.abs(found.images[:count] - golden[f"{name}_images"]).max() <= near
    assert found.thinned
    assert NetworkRegions(build(make_state())).regions(image, "").images is None


def test_the_background_is_the_published_one(golden):
    """The learned background as a unit vector; none where the checkpoint has none."""
    source = NetworkRegions(build(make_state()))
    assert np.abs(source.background - golden["background"]).max() <= 1e-6
    assert NetworkRegions(build(make_state(background=False))).background is None


def test_published_sizes_fit():
    """All names and shapes of the published configuration have their place: R50, FPN 256, head 4 x 256 and 1024, D 512."""
    shapes = json.loads((GOLDEN / "rcnn_layout.json").read_text(encoding="utf-8"))
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    found = sizes(state)
    assert found.stages == ((3, 256), (4, 512), (6, 1024), (3, 2048))
    assert (found.stem, found.pyramid, found.convs, found.fcs, found.cells, found.dim) == (
        64, 256, (256,) * 4, (1024,), 7, 512,
    )  # fmt: skip
    with torch.device("meta"):
        net = RegionNet(found, None)
    own = {name: tuple(x.shape) for name, x in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert own == {name: tuple(x.shape) for name, x in convert(state).items()}


def test_sizes_come_from_the_shapes():
    """Other depths, widths and heads, with and without the parts that are left out."""
    for extras in (False, True):
        state = make_state(blocks=(1, 2, 1, 1), dim=24, extras=extras)
        net = build(state)
        assert [blocks for blocks, _ in net.sizes.stages] == [1, 2, 1, 1]
        assert tuple(channels for _, channels in net.sizes.stages) == STAGES
        assert (net.sizes.dim, net.image is not None) == (24, extras)
    assert build(make_state(), "style='caffe'").sizes.caffe
    assert not build(make_state(), "backbone=dict(style = 'pytorch')").sizes.caffe
    assert build(make_state()).sizes.caffe


def test_anchors_stand_on_the_corners_of_cells():
    """A loop over rows, columns and shapes: centre at the cell's corner, area (8 stride)^2, height over width 1/2, 1, 2."""
    found = anchors(2, 3, 16).numpy()
    row = 0
    for y in range(2):
        for x in range(3):
            for ratio in (0.5, 1.0, 2.0):
                x0, y0, x1, y1 = found[row]
                assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((16 * x, 16 * y), abs=1e-4)
                assert (x1 - x0) * (y1 - y0) == pytest.approx(128**2, rel=1e-5)
                assert (y1 - y0) / (x1 - x0) == pytest.approx(ratio, rel=1e-5)
                row += 1
    assert row == len(found)


def test_deltas_move_and_stretch():
    """Encoding a target by the paper's logarithms and decoding it gives the target; growth is bounded, the border cuts."""
    draw = np.random.default_rng(0)
    for _ in range(20):
        x0, y0, w, h = draw.uniform(5, 40, 4)
        u0, v0, p, q = draw.uniform(5, 40, 4)
        move = [((u0 + p / 2) - (x0 + w / 2)) / w, ((v0 + q / 2) - (y0 + h / 2)) / h, math.log(p / w), math.log(q / h)]
        deltas = torch.tensor([[m / s for m, s in zip(move, HEAD_STDS, strict=True)]], dtype=torch.float32)
        box = torch.tensor([[x0, y0, x0 + w, y0 + h]], dtype=torch.float32)
        assert decode(box, deltas, 500, 500, HEAD_STDS)[0].tolist() == pytest.approx([u0, v0, u0 + p, v0 + q], abs=1e-3)
    wild = decode(torch.tensor([[500.0, 500, 504, 504]]), torch.tensor([[0.0, 0, 99, 99]]), 1000, 700)
    assert wild[0].tolist() == pytest.approx([377, 377, 627, 627], abs=1e-2)
    assert decode(torch.tensor([[5.0, 5, 9, 9]]), torch.tensor([[0.0, 9, 0, 0]]), 20, 10)[0].tolist() == [5, 10, 9, 10]


def sample(features, x, y):
    """Bilinear value of `(h, w)` at a point, by its four neighbours; nothing beyond one cell outside."""
    height, width = features.shape
    if not (-1 <= x <= width and -1 <= y <= height):
        return 0.0
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    left, top = int(x), int(y)
    right, low = min(left + 1, width - 1), min(top + 1, height - 1)
    a, b = x - left, y - top
    upper = features[top, left] * (1 - a) + features[top, right] * a
    return upper * (1 - b) + (features[low, left] * (1 - a) + features[low, right] * a) * b


def test_regions_are_pooled_as_by_a_loop():
    """Every cell is the mean of its samples on the level floor(log2(side / 56)), half a pixel off."""
    draw = torch.Generator().manual_seed(0)
    maps = [torch.randn(1, 1, 128 // 2**level, 160 // 2**level, generator=draw) for level in range(4)]
    boxes = torch.tensor([[10.0, 20, 60, 90], [5, 5, 205, 305], [0, 0, 640, 512], [300, 200, 301, 201]])
    found = pool_regions(maps, boxes, 3).numpy()
    for number, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        level = min(max(math.floor(math.log2(math.sqrt((x1 - x0) * (y1 - y0)) / 56)), 0), 3)
        stride, features = 4 * 2**level, maps[level][0, 0].numpy()
        cell_w, cell_h = (x1 - x0) / stride / 3, (y1 - y0) / stride / 3
        across, down = math.ceil(cell_w), math.ceil(cell_h)
        for i in range(3):
            for j in range(3):
                total = 0.0
                for v in range(down):
                    for u in range(across):
                        x = x0 / stride - 0.5 + cell_w * (j + (u + 0.5) / across)
                        y = y0 / stride - 0.5 + cell_h * (i + (v + 0.5) / down)
                        total += sample(features, x, y)
                assert found[number, 0, i, j] == pytest.approx(total / (across * down), abs=1e-4)


def test_proposals_overlap_little_within_a_level():
    """Sorted, inside the picture, none without sides, and no two of one level overlap by more than 0.7."""
    draw = torch.Generator().manual_seed(1)
    logits = [torch.randn(3, 12, 16, generator=draw), torch.randn(3, 6, 8, generator=draw)]
    deltas = [torch.randn(12, 12, 16, generator=draw) / 2, torch.randn(12, 6, 8, generator=draw) / 2]
    boxes, scores = propose(logits, deltas, 64, 48)
    assert (scores.diff() <= 0).all()
    assert ((boxes >= 0) & (boxes <= torch.tensor([64, 48, 64, 48]))).all()
    assert ((boxes[:, 2:] - boxes[:, :2]) > 0).all()
    alone = propose(logits[:1], deltas[:1], 64, 48)[0].numpy()
    overlaps = iou(alone, alone) - np.eye(len(alone))
    assert overlaps.max() <= 0.7
    both = {tuple(row) for row in boxes.numpy().round(3).tolist()}
    assert {tuple(row) for row in alone.round(3).tolist()} <= both


@pytest.mark.parametrize(("height", "width"), [(90, 160), (160, 90), (37, 101)])
def test_boxes_come_back_to_the_pixels(height, width):
    """A shape the network sees in its own frame is told within 1 px, in any format."""

    class Seeing(torch.nn.Module):
        sizes, background = build(make_state()).sizes, None

        def forward(self, pixels, wide, high, *, image):
            assert pixels.shape[2] % 32 == pixels.shape[3] % 32 == 0
            assert min(wide, high) == 800 or max(wide, high) == 1333
            bright = pixels[0].mean(dim=0)[:high, :wide] > 0
            rows, columns = torch.nonzero(bright.any(dim=1)), torch.nonzero(bright.any(dim=0))
            box = torch.tensor([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], dtype=torch.float32)
            return box, torch.ones(1), torch.eye(1, DIM), None

    image = np.zeros((height, width, 3), np.uint8)
    image[8:29, 15:70] = 255
    found = NetworkRegions(Seeing()).regions(image, "")
    assert np.abs(found.boxes[0] - [15, 8, 70, 29]).max() <= 1


def test_files_are_read_safely(tmp_path):
    """A training checkpoint with its meta data loads; a pickle of more than weights, and other models, are refused."""
    file = tmp_path / "epoch_20.pth"
    meta = {"epoch": 20, "config": "backbone = dict(style='caffe')", "CLASSES": ("a", "b")}
    torch.save({"meta": meta, "state_dict": make_state(), "optimizer": {"state": {0: torch.ones(2)}}}, file)
    source = open_network(file, "cpu")
    assert source.embed_dim == DIM
    assert len(source.weights_hash) == 12
    assert read(file)[1] == meta["config"]
    torch.save({"state_dict": make_state(), "meta": Path("x")}, file)
    with pytest.raises(ModelError, match="holds more than weights"):
        read(file)
    torch.save({"state_dict": {"roi_head.bbox_head.0.fc_reg.weight": torch.ones(1)}}, file)
    with pytest.raises(ModelError, match="Cascade R-CNN"):
        read(file)
    torch.save({"weight": torch.ones(1)}, file)
    with pytest.raises(ModelError, match="no ViLD checkpoint"):
        read(file)
    with pytest.raises(ModelError, match="no such file"):
        read(tmp_path / "none.pth")


def test_other_layouts_are_refused():
    """Boxes by class, other anchors, names left over or missing, shapes that do not fit: one line that names it."""
    with pytest.raises(ModelError, match="7 boxes a region"):
        build(make_state(classes=7))
    state = make_state()
    state["rpn_head.rpn_cls.weight"] = torch.zeros(9, 16, 1, 1)
    with pytest.raises(ModelError, match="9 anchors"):
        build(state)
    with pytest.raises(ModelError, match="holds roi_head.extra"):
        build(make_state() | {"roi_head.extra": torch.ones(1)})
    for name in (
        "roi_head.bbox_head.fc_reg.weight",
        "roi_head.bg_embedding.bias",
        "backbone.bn1.bias",
        "backbone.layer4.0.conv3.weight",
    ):
        with pytest.raises(ModelError, match="lacks") as told:
            build({key: value for key, value in make_state().items() if key != name})
        assert "\n" not in str(told.value)
    state = make_state()
    state["backbone.bn1.weight"] = torch.ones(5)
    with pytest.raises(ModelError, match="does not fit ViLD"):
        build(state)
