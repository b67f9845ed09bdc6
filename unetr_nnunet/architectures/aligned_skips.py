"""`AlignedSkips`: each tap of the transformer is brought to its decoder scale, lightly, and may be ignored.

The original's chains of transposed convolutions hold most of its convolutional cost, and hand raw token features to the
decoder. Here a tap is normalised and projected to its scale's channels with a sub-pixel step (Shi et al., CVPR 2016,
https://arxiv.org/abs/1609.05158), smoothed there by one convolution, given unit statistics, and interpolated over the
rest of the way: it has no finer detail that a convolution at the full scale could work on. A gate that looks at the
whole tap (Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, https://arxiv.org/abs/1709.01507) weighs each
channel before it is added to the stem's map of that scale, where it has one.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from unetr_nnunet.architectures.conv_blocks import Convolution, Upsampling
from unetr_nnunet.architectures.instance_norm import instance_norm
from unetr_nnunet.architectures.unetr import add_image_features

INITIAL_GATE_LOGIT = 1.0


class AlignedSkips(nn.Module):
    """Lay the tokens out on their grid, and align each tap with its decoder scale.

    Args:
        grid: tokens per axis.
        strides: upsampling factors of the decoder stages, highest resolution first.
        kernels: size of the convolutions at each scale, highest resolution first.
        width: channels D of a token.
        feature_size: channels F at full resolution; doubled from scale to scale.
    """

    def __init__(
        self,
        grid: Sequence[int],
        strides: Sequence[Sequence[int]],
        kernels: Sequence[Sequence[int]],
        width: int,
        feature_size: int,
    ) -> None:
        super().__init__()
        self.alignments = nn.ModuleList(
            TapAlignment(grid, strides[scale:], kernels[-1], width, feature_size * 2**scale)
            for scale in range(1, len(strides))
        )
        self.alignments.append(TapAlignment(grid, [], None, width, width))

    def forward(self, image_features: list[torch.Tensor], taps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Map the stem's maps and taps (B, N, D) to maps of F, 2F, 4F ... D channels, the last at the token grid."""
        maps = [alignment(tap) for alignment, tap in zip(self.alignments, taps, strict=True)]
        return add_image_features(maps, image_features)


class TapAlignment(nn.Module):
    """Bring one tap to a decoder scale in channels, resolution and statistics, and gate it.

    Args:
        grid: tokens per axis.
        strides: upsampling factors from the scale down to the token grid, highest resolution first; none for the
            token grid itself.
        kernel_size: of the smoothing convolution; None for none.
        width: channels D of a token.
        channels: channels of the scale.
    """

    def __init__(
        self,
        grid: Sequence[int],
        strides: Sequence[Sequence[int]],
        kernel_size: Sequence[int] | None,
        width: int,
        channels: int,
    ) -> None:
        super().__init__()
        self.grid = tuple(grid)
        first = tuple(strides[-1]) if strides else (1,) * len(grid)
        self.size = tuple(
            length * prod(stride[axis] for stride in strides) for axis, length in enumerate(grid)
        )  # of the scale
        self.norm = nn.LayerNorm(width)
        self.projection = Upsampling(width, channels, first)
        self.smoothing = Convolution(channels, channels, kernel_size) if kernel_size else None
        self.gate = nn.Linear(width, channels)
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, INITIAL_GATE_LOGIT)

    def forward(self, tap: torch.Tensor) -> torch.Tensor:
        """Map (B, N, D) to (B, channels, *scale)."""
        tap = self.norm(tap)  # (B, N, D)
        gate = torch.sigmoid(self.gate(tap.mean(1)))  # (B, channels)
        x = self.projection(tap.transpose(1, 2).unflatten(2, self.grid))  # (B, channels, *(grid * first stride))
        if self.smoothing is not None:  # at the token grid the layer norm is enough
            x = instance_norm(self.smoothing(x))  # the same
            if x.shape[2:] != self.size:
                x = F.interpolate(x, self.size, mode="trilinear" if len(self.grid) == 3 else "bilinear")
        return x * gate.unflatten(1, (-1, *[1] * len(self.grid)))
