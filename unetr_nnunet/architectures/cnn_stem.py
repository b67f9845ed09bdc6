"""`CNNStem`: a convolutional tokenizer, whose maps are the decoder's high-resolution skips too.

Convolutions in front of a transformer make it train faster and keep fine detail: Xiao et al., "Early Convolutions Help
Transformers See Better", NeurIPS 2021, https://arxiv.org/abs/2106.14881; for volumes, PrimusV2 of Wald et al., 2025,
https://arxiv.org/abs/2503.01835. Deviations: residual blocks and instance normalisation as in the rest of UNETR, and
the stages' strides follow the token, so that an anisotropic voxel is first downsampled in its plane.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from unetr_nnunet.architectures.conv_blocks import NEGATIVE_SLOPE, Convolution, ResidualBlock
from unetr_nnunet.architectures.instance_norm import instance_norm


class CNNStem(nn.Module):
    """Go down stride by stride to the token grid; the maps on the way are the image features.

    Args:
        strides: downsampling factors, highest resolution first; their product is the token size.
        kernels: size of the convolutions at each scale, highest resolution first.
        in_channels: channels C of the image.
        width: channels D of a token.
        feature_size: channels F at full resolution; doubled from scale to scale.
    """

    def __init__(
        self,
        strides: Sequence[Sequence[int]],
        kernels: Sequence[Sequence[int]],
        in_channels: int,
        width: int,
        feature_size: int,
    ) -> None:
        super().__init__()
        channels = [feature_size * 2**scale for scale in range(len(strides))]
        self.image_convolution = Convolution(in_channels, feature_size, kernels[0])
        self.stages = nn.ModuleList(
            DownsamplingStage(channels[scale], channels[scale + 1], kernels[scale : scale + 2], stride)
            for scale, stride in enumerate(strides[:-1])
        )
        self.to_tokens = Convolution(channels[-1], width, kernels[-1], stride=strides[-1], bias=True)
        self.token_norm = nn.LayerNorm(width)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Map (B, C, *S) to tokens (B, N, D) and maps of F, 2F, 4F ... channels, highest resolution first."""
        maps = self.maps(image)
        tokens = self.to_tokens(maps[-1])  # (B, D, *grid)
        return self.token_norm(tokens.flatten(2).transpose(1, 2)), maps

    def maps(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Map (B, C, *S) to maps of F, 2F, 4F ... channels, (B, F, *S) first; a map for each stride."""
        x = F.leaky_relu_(instance_norm(self.image_convolution(image)), NEGATIVE_SLOPE)  # (B, F, *S)
        maps = [x]
        for stage in self.stages:
            maps.append(stage(maps[-1]))  # (B, F * 2**scale, ...)
        return maps


class DownsamplingStage(nn.Module):
    """A strided convolution, then a residual block.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernels: size of the convolutions before and after the downsampling.
        stride: downsampling factor per axis; two or three axes.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernels: Sequence[Sequence[int]], stride: Sequence[int]
    ) -> None:
        super().__init__()
        self.downsampling = Convolution(in_channels, out_channels, kernels[0], stride=stride)
        self.block = ResidualBlock(out_channels, out_channels, kernels[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in, *S) to (B, out, *(S / stride))."""
        x = F.leaky_relu_(instance_norm(self.downsampling(x)), NEGATIVE_SLOPE)  # (B, out, *(S / stride))
        y: torch.Tensor = self.block(x)
        return y
