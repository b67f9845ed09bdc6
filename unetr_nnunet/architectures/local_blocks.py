"""Blocks that know where on the grid a token lies: `LocalBlock` for a transformer, `ConvBlock` as its control.

A transformer's block has no bias towards neighbours, and a few thousand iterations on some dozens of CTs are little to
learn one from. `LocalBlock` begins with a depthwise convolution over the token grid, added to its input: Chu et al.,
"Conditional Positional Encodings for Vision Transformers", ICLR 2023, https://arxiv.org/abs/2102.10882.

`ConvBlock` has convolutions in place of attention and perceptron, as many operations in all. A network of such blocks
shows whether attention is what helps, or any computation on the token grid.
"""

import math
from collections.abc import Sequence
from math import prod

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from unetr_nnunet.architectures.conv_blocks import NEGATIVE_SLOPE, Convolution
from unetr_nnunet.architectures.instance_norm import instance_norm
from unetr_nnunet.architectures.modern_vit import ModernBlock, RotaryPositions


class LocalBlock(nn.Module):
    """A depthwise 3 x 3 x 3 convolution over the token grid, added to its input, then a `ModernBlock`.

    Args:
        grid: tokens per axis.
        width: channels d of a token.
        heads: attention heads.
        mlp_width: hidden channels of the perceptron.
        positions: rotary positions, shared by all blocks.
        drop_path: see `ModernBlock`.
    """

    def __init__(
        self,
        grid: Sequence[int],
        width: int,
        heads: int,
        mlp_width: int,
        positions: RotaryPositions,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.grid = tuple(grid)
        self.weight = nn.Parameter(torch.empty(width, 1, *[3] * len(grid)))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.block = ModernBlock(width, heads, mlp_width, positions, drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, N, d) to (B, N, d)."""
        convolve = F.conv2d if len(self.grid) == 2 else F.conv3d
        on_grid = x.transpose(1, 2).unflatten(2, self.grid)  # (B, d, *grid)
        x = x + convolve(on_grid, self.weight, padding=1, groups=len(self.weight)).flatten(2).transpose(1, 2)
        y: torch.Tensor = self.block(x)
        return y


class ConvBlock(nn.Module):
    """Two 3 x 3 x 3 convolutions over the token grid, added to their normalised input.

    Args:
        grid: tokens per axis.
        width: channels d of a token.
        hidden: channels between the convolutions.
    """

    def __init__(self, grid: Sequence[int], width: int, hidden: int) -> None:
        super().__init__()
        self.grid = tuple(grid)
        kernel = [3] * len(grid)
        self.norm = nn.LayerNorm(width)
        self.conv1 = Convolution(width, hidden, kernel)
        self.conv2 = Convolution(hidden, width, kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, N, d) to (B, N, d)."""
        y = self.norm(x).transpose(1, 2).unflatten(2, self.grid)  # (B, d, *grid)
        y = F.leaky_relu_(instance_norm(self.conv1(y)), NEGATIVE_SLOPE)  # (B, hidden, *grid)
        return x + instance_norm(self.conv2(y)).flatten(2).transpose(1, 2)


def conv_channels(grid: Sequence[int], width: int, mlp_width: int) -> int:
    """Return the hidden channels with which a `ConvBlock` has as many operations as a `ModernBlock`.

    Args:
        grid: tokens per axis.
        width: channels d of a token.
        mlp_width: hidden channels of the block's perceptron.
    """
    attention = 4 * width**2 + 2 * prod(grid) * width  # multiplications for each token
    return max(1, round((attention + 3 * width * mlp_width) / (2 * 3 ** len(grid) * width)))
