"""`FPN`: a light top-down decoder over all scales, with an output at each.

Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, https://arxiv.org/abs/1612.03144: a 1 x 1
lateral connection brings each scale to the same few channels, the coarser map is upsampled (nearest neighbour) and
added, and a 3 x 3 convolution smooths the sum. Deviations: normalised and activated after smoothing, the smoothed map
is what goes further down, and at full resolution, where the memory is spent, the map has half the stem's channels. So
few cannot tell many classes apart; hence each scale's logits refine the upsampled logits of the coarser one, as in the
Laplacian pyramid of Ghiasi and Fowlkes, ECCV 2016, https://arxiv.org/abs/1605.02264. The width of 48 follows EffiDec3D
(Rahman and Marculescu, CVPR 2025). Deep supervision is nnU-Net's own.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from unetr_nnunet.architectures.conv_blocks import NEGATIVE_SLOPE, Convolution
from unetr_nnunet.architectures.instance_norm import instance_norm


class FPN(nn.Module):
    """Top-down fusion of all scales.

    Args:
        strides: upsampling factor of each stage, highest resolution first.
        kernels: size of the convolutions at each scale, highest resolution first.
        width: channels D of the deepest map.
        feature_size: channels F of the full-resolution map; doubled from scale to scale.
        channels: channels P of the pyramid below full resolution.
        out_channels: K, one for each label or region.

    Attributes:
        deep_supervision: whether to return the logits of all scales; nnU-Net sets it.
    """

    def __init__(
        self,
        strides: Sequence[Sequence[int]],
        kernels: Sequence[Sequence[int]],
        width: int,
        feature_size: int,
        channels: int,
        out_channels: int,
    ) -> None:
        super().__init__()
        self.deep_supervision = False
        point = [1] * len(strides[0])
        self.strides = [tuple(float(factor) for factor in stride) for stride in strides]
        pyramid = [feature_size // 2] + [channels] * (len(strides) - 1)
        self.laterals = nn.ModuleList(
            Convolution(feature_size * 2**scale, pyramid[scale], point, bias=True) for scale in range(len(strides))
        )
        self.top = Convolution(width, channels, point, bias=True)
        self.to_full_resolution = Convolution(channels, pyramid[0], point)
        self.smoothings = nn.ModuleList(
            Convolution(count, count, kernel) for count, kernel in zip(pyramid, kernels, strict=True)
        )
        self.seg_layers = nn.ModuleList(Convolution(count, out_channels, point, bias=True) for count in pyramid)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
        """Map the scales, (B, F, *S) first and (B, D, *grid) last, to logits (B, K, *S).

        With ``deep_supervision`` the result is a list, one map of logits a scale, highest resolution first.
        """
        x = self.top(maps[-1])  # (B, P, *grid)
        logits: list[torch.Tensor] = []
        for scale in reversed(range(len(self.laterals))):
            if scale == 0:
                x = self.to_full_resolution(x)  # (B, F / 2, *(S / stride))
            coarse = F.interpolate(
                x, scale_factor=self.strides[scale]
            )  # (B, P, ...); F / 2 channels at full resolution
            x = self.smoothings[scale](self.laterals[scale](maps[scale]) + coarse)  # the same
            x = F.leaky_relu_(instance_norm(x), NEGATIVE_SLOPE)
            refined = self.seg_layers[scale](x)  # (B, K, ...)
            if logits:
                linear = "trilinear" if x.dim() == 5 else "bilinear"
                refined = refined + F.interpolate(logits[0], refined.shape[2:], mode=linear)
            logits.insert(0, refined)
        return logits if self.deep_supervision else logits[0]
