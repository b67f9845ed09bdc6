"""The convolutional building blocks of UNETR, for two and three dimensions.

After Hatamizadeh et al., WACV 2022, https://arxiv.org/abs/2103.10504, whose residual blocks are those of the dynamic
U-Net: 3 x 3 x 3 convolutions without bias, instance normalisation without learned scale, leaky ReLU.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

NEGATIVE_SLOPE = 0.01

_CONVOLUTION: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}


def convolution(
    dimensions: int, in_channels: int, out_channels: int, kernel_size: int, *, bias: bool = False
) -> nn.Module:
    """Return a convolution of stride 1 that keeps the spatial shape; ``kernel_size`` is odd."""
    return _CONVOLUTION[dimensions](in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)


def upsampling(in_channels: int, out_channels: int, stride: Sequence[int]) -> nn.Module:
    """Return a transposed convolution whose kernel equals its stride, one factor per axis."""
    if len(stride) == 2:
        plane = (stride[0], stride[1])
        return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=plane, stride=plane, bias=False)
    volume = (stride[0], stride[1], stride[2])
    return nn.ConvTranspose3d(in_channels, out_channels, kernel_size=volume, stride=volume, bias=False)


class ResidualBlock(nn.Module):
    """Two 3 x 3 x 3 convolutions with a shortcut, which is a 1 x 1 x 1 convolution where the channels change.

    Args:
        dimensions: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
    """

    def __init__(self, dimensions: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = convolution(dimensions, in_channels, out_channels, 3)
        self.conv2 = convolution(dimensions, out_channels, out_channels, 3)
        self.shortcut = convolution(dimensions, in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in, *S) to (B, out, *S)."""
        y = F.leaky_relu(F.instance_norm(self.conv1(x)), NEGATIVE_SLOPE, inplace=True)  # (B, out, *S)
        y = F.instance_norm(self.conv2(y))  # (B, out, *S)
        residual = x if self.shortcut is None else F.instance_norm(self.shortcut(x))  # (B, out, *S)
        return F.leaky_relu(y + residual, NEGATIVE_SLOPE, inplace=True)
