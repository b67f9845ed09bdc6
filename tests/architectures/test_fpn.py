from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from unetr_nnunet.architectures.fpn import FPN
from unetr_nnunet.architectures.token_geometry import stage_kernels, stage_strides

STRIDES = stage_strides((4, 16, 16))
SIZES = [(4, 32, 48), (4, 16, 24), (4, 8, 12), (2, 4, 6), (1, 2, 3)]


@pytest.fixture
def fpn():
    torch.manual_seed(0)
    return FPN(STRIDES, stage_kernels(STRIDES), width=10, feature_size=4, channels=6, out_channels=3)


@pytest.fixture
def maps():
    torch.manual_seed(1)
    return [torch.randn(2, channels, *size) for channels, size in zip((4, 8, 16, 32, 10), SIZES, strict=True)]


def test_one_output_or_one_a_scale(fpn, maps):
    assert fpn.deep_supervision is False
    single = fpn(maps)
    fpn.deep_supervision = True
    several = fpn(maps)
    assert torch.equal(single, several[0])
    assert [tuple(x.shape) for x in several] == [(2, 3, *size) for size in SIZES[:4]]


def test_each_scale_is_fused_top_down(fpn, maps):
    fpn.deep_supervision = True
    before = fpn(maps)
    for scale in range(5):
        changed = [x + 10 * torch.randn_like(x) if index == scale else x for index, x in enumerate(maps)]
        differs = [not torch.equal(a, b) for a, b in zip(before, fpn(changed), strict=True)]
        assert differs == [index <= scale for index in range(4)]


def test_each_output_refines_the_coarser_one(fpn, maps):
    fpn.deep_supervision = True
    with torch.no_grad():
        for layer in fpn.seg_layers[:3]:
            layer.weight.zero_()
            layer.bias.zero_()
    outputs = fpn(maps)
    for fine, coarse in pairwise(outputs):
        torch.testing.assert_close(fine, F.interpolate(coarse, fine.shape[2:], mode="trilinear"))


def test_the_coarsest_output_is_the_formula(fpn, maps):
    fpn.deep_supervision = True
    top = F.conv3d(maps[4], fpn.top.weight, fpn.top.bias)
    lateral = F.conv3d(maps[3], fpn.laterals[3].weight, fpn.laterals[3].bias)
    fused = lateral + top.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    smooth = F.leaky_relu(F.instance_norm(F.conv3d(fused, fpn.smoothings[3].weight, padding=1)), 0.01)
    expected = F.conv3d(smooth, fpn.seg_layers[3].weight, fpn.seg_layers[3].bias)
    torch.testing.assert_close(fpn(maps)[3], expected, rtol=1e-4, atol=1e-4)
