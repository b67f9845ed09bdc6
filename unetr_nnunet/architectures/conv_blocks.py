"""The convolutional building blocks of UNETR, for two and three dimensions.

After Hatamizadeh et al., WACV 2022, https://arxiv.org/abs/2103.10504, whose residual blocks are those of the dynamic
U-Net: 3 x 3 x 3 convolutions without bias, instance normalisation without learned scale, leaky ReLU.

On a CPU the maps are kept channels-last (in memory (B, *S, C); the shape stays (B, C, *S)), where torch's convolutions
need no reordering, and 1 x 1 x 1 convolutions are matrix products: see ``benchmarks/results/unetr_speed.md``. On other
devices every layer is torch's own in the layout of its input.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from unetr_nnunet.architectures.instance_norm import instance_norm, runs_cpu_kernels

NEGATIVE_SLOPE = 0.01


class Convolution(nn.Module):
    """A convolution padded so that stride 1 keeps the spatial shape, initialised as torch's.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: along each of two or three axes; odd.
        stride: downsampling factor per axis; None for 1. It must divide the input's axes.
        bias: whether to add a learned constant to each output channel.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        *,
        stride: Sequence[int] | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.stride = tuple(stride or [1] * len(kernel_size))
        self.padding = tuple(length // 2 for length in kernel_size)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in, *S) to (B, out, *(S / stride))."""
        if self.weight[0, 0].numel() == 1 and runs_cpu_kernels(x):
            return F.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)
        convolve = F.conv2d if x.dim() == 4 else F.conv3d
        return convolve(x, _fast_layout(self.weight), self.bias, self.stride, self.padding)


class Upsampling(nn.Module):
    """A transposed convolution without bias whose kernel equals its stride.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: upsampling factor per axis; two or three axes.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: Sequence[int]) -> None:
        super().__init__()
        self.stride = tuple(stride)
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels, *stride))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in, *S) to (B, out, *(S * stride))."""
        upsample = F.conv_transpose2d if x.dim() == 4 else F.conv_transpose3d
        return upsample(x, _fast_layout(self.weight), stride=self.stride)


class ResidualBlock(nn.Module):
    """Two 3 x 3 x 3 convolutions with a shortcut, which is a 1 x 1 x 1 convolution where the channels change.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: of the two convolutions, along each of two or three axes.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = Convolution(in_channels, out_channels, kernel_size)
        self.conv2 = Convolution(out_channels, out_channels, kernel_size)
        point = [1] * len(kernel_size)
        self.shortcut = Convolution(in_channels, out_channels, point) if in_channels != out_channels else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in, *S) to (B, out, *S)."""
        y = F.leaky_relu_(instance_norm(self.conv1(x)), NEGATIVE_SLOPE)  # (B, out, *S)
        y = instance_norm(self.conv2(y))  # (B, out, *S)
        y += x if self.shortcut is None else instance_norm(self.shortcut(x))  # (B, out, *S)
        return F.leaky_relu_(y, NEGATIVE_SLOPE)


def _fast_layout(weight: torch.Tensor) -> torch.Tensor:
    """Return the weight channels-last on a CPU, which makes the output of its convolution channels-last too."""
    if not runs_cpu_kernels(weight):
        return weight
    return weight.contiguous(memory_format=torch.channels_last if weight.dim() == 4 else torch.channels_last_3d)
