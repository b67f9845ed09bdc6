"""`ProjectedStem`: a convolutional tokenizer whose finer maps reach the tokens too.

`CNNStem` passes everything through its deepest map, where few channels stand for many voxels. Here the maps between
full resolution and that one are cut into patches, which are projected to the tokens and added, as in the stem of
PrimusV3 (MIC-DKFZ, dynamic-network-architectures).
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import nn

from unetr_nnunet.architectures.cnn_stem import CNNStem
from unetr_nnunet.architectures.unetr import cut_patches


class ProjectedStem(CNNStem):
    """`CNNStem` with projections from its maps to the tokens; takes and returns the same.

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
        super().__init__(strides, kernels, in_channels, width, feature_size)
        axes = range(len(strides[0]))
        self.patch_sizes = [
            tuple(prod(stride[axis] for stride in strides[scale:]) for axis in axes)
            for scale in range(1, len(strides) - 1)
        ]
        self.projections = nn.ModuleList(
            nn.Linear(feature_size * 2**scale * prod(patch), width, bias=False)
            for scale, patch in enumerate(self.patch_sizes, start=1)
        )

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Map (B, C, *S) to tokens (B, N, D) and maps of F, 2F, 4F ... channels, highest resolution first."""
        maps = self.maps(image)
        tokens = self.to_tokens(maps[-1]).flatten(2).transpose(1, 2)  # (B, N, D)
        for projection, patch, each in zip(self.projections, self.patch_sizes, maps[1:-1], strict=True):
            tokens = tokens + projection(cut_patches(each, patch))
        return self.token_norm(tokens), maps
