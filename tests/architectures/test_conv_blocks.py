import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from unetr_nnunet.architectures.conv_blocks import Convolution, ResidualBlock, Upsampling


@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3), (1, 1, 1), (3, 3), (1, 1)], ids=str)
@pytest.mark.parametrize("strided", [False, True])
def test_convolution_equals_torchs(kernel, strided):
    torch.manual_seed(0)
    stride = [2 if strided and length == 3 else 1 for length in kernel]
    ours = Convolution(3, 5, kernel, stride=stride, bias=True)
    x = torch.randn(2, 3, *[6] * len(kernel))
    convolve = F.conv3d if len(kernel) == 3 else F.conv2d
    expected = convolve(x, ours.weight, ours.bias, stride=stride, padding=[length // 2 for length in kernel])
    torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-5)


def test_convolution_starts_as_torchs():
    torch.manual_seed(0)
    theirs = torch.nn.Conv3d(4, 6, 3)
    torch.manual_seed(0)
    ours = Convolution(4, 6, (3, 3, 3), bias=True)
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2), (2, 1)], ids=str)
def test_upsampling_puts_each_voxel_into_its_own_block(stride):
    ours = Upsampling(2, 3, stride)
    x = torch.randn(1, 2, *[3] * len(stride))
    y = ours(x)
    assert y.shape[2:] == tuple(3 * factor for factor in stride)
    first = tuple(slice(0, factor) for factor in stride)
    corner = x[(0, slice(None), *[0] * len(stride))]
    torch.testing.assert_close(y[(0, slice(None), *first)], torch.tensordot(corner, ours.weight, dims=([0], [0])))


@pytest.mark.parametrize("channels", [(4, 4), (2, 4)], ids=str)
def test_residual_block_is_its_formula(channels):
    torch.manual_seed(0)
    block = ResidualBlock(*channels, (3, 3, 3))
    assert (block.shortcut is None) == (channels[0] == channels[1])
    x = torch.randn(2, channels[0], 4, 6, 6)
    y = F.leaky_relu(F.instance_norm(F.conv3d(x, block.conv1.weight, padding=1)), 0.01)
    y = F.instance_norm(F.conv3d(y, block.conv2.weight, padding=1))
    shortcut = x if block.shortcut is None else F.instance_norm(F.conv3d(x, block.shortcut.weight))
    torch.testing.assert_close(block(x), F.leaky_relu(y + shortcut, 0.01), rtol=1e-4, atol=1e-4)
