from math import prod

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from unetr_nnunet.architectures.local_blocks import ConvBlock, LocalBlock, conv_channels
from unetr_nnunet.architectures.modern_vit import ModernBlock, RotaryPositions


def tokens_of(grid, width):
    return torch.randn(2, prod(grid), width)


@pytest.mark.parametrize("grid", [(3, 4, 5), (4, 5)], ids=str)
def test_the_convolution_is_torchs_depthwise_one_on_the_grid(grid):
    torch.manual_seed(0)
    local = LocalBlock(grid, 8, 2, 16, RotaryPositions(grid, 4), 0.0)
    local.block = nn.Identity()
    kind = nn.Conv3d if len(grid) == 3 else nn.Conv2d
    depthwise = kind(8, 8, 3, padding=1, groups=8, bias=False)
    depthwise.weight = local.weight
    tokens = tokens_of(grid, 8)
    expected = tokens + depthwise(tokens.transpose(1, 2).unflatten(2, grid)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(local(tokens), expected)


def test_without_its_convolution_a_local_block_is_a_modern_block():
    torch.manual_seed(0)
    grid = (2, 3, 4)
    local = LocalBlock(grid, 12, 2, 16, RotaryPositions(grid, 6), 0.0)
    assert isinstance(local.block, ModernBlock)
    nn.init.zeros_(local.weight)
    tokens = tokens_of(grid, 12)
    assert torch.equal(local(tokens), local.block(tokens))


def test_two_convolutions_see_two_tokens_far():
    torch.manual_seed(0)
    block = ConvBlock((7, 1, 7), 6, 5).double()
    for convolution in (block.conv1, block.conv2):  # instance norm would spread the change to every token
        nn.init.constant_(convolution.weight, 0.1)
    grid = (7, 1, 7)
    tokens = tokens_of(grid, 6).double()
    hidden = block.conv2(block.conv1(tokens.transpose(1, 2).unflatten(2, grid)))
    changed = tokens.clone()
    changed[:, 3 * 7 + 3] += 1
    difference = block.conv2(block.conv1(changed.transpose(1, 2).unflatten(2, grid))) - hidden
    seen = difference.abs().sum((0, 1))[:, 0] > 1e-9
    assert seen.sum() == 25
    assert seen[1:6, 1:6].all()
    assert block(tokens).shape == tokens.shape


def test_a_local_block_sees_every_token():
    torch.manual_seed(0)
    grid = (3, 4, 5)
    local = LocalBlock(grid, 12, 2, 16, RotaryPositions(grid, 6), 0.0)
    tokens = tokens_of(grid, 12)
    changed = tokens.clone()
    changed[:, 7] += torch.randn(12)
    assert ((local(tokens) - local(changed)).abs().amax((0, 2)) > 0).all()


@pytest.mark.parametrize("grid", [(6, 6, 6), (12, 12, 12), (16, 16)], ids=str)
def test_the_control_has_as_many_operations(grid):
    counts = []
    with torch.device("meta"):
        tokens = tokens_of(grid, 96)
        for block in (
            ModernBlock(96, 3, 256, RotaryPositions(grid, 32), 0.0),
            ConvBlock(grid, 96, conv_channels(grid, 96, 256)),
        ):
            with FlopCounterMode(display=False) as counter:
                block(tokens)
            counts.append(counter.get_total_flops())
    assert counts[1] == pytest.approx(counts[0], rel=0.02)
