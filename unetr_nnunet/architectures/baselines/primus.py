"""PrimusV3, a plain transformer with a deep convolutional stem and a light decoder, as an architecture.

From the package dynamic_network_architectures, as nnU-Net's own trainers build it. Wald et al., "Primus: Enforcing
Attention Usage for 3D Medical Image Segmentation", 2025, https://arxiv.org/abs/2503.01835.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from unetr_nnunet.architectures.architecture import Architecture

if TYPE_CHECKING:
    from torch import nn

TOKEN_SIZE = (8, 8, 8)
"""Voxels (Z, Y, X): the strides of the stem, whatever the spacing."""


def _build(
    *,
    in_channels: int,
    out_channels: int,
    patch_size: Sequence[int],
    spacing_mm: Sequence[float],
    config: str,
    transformer_blocks: bool = True,
) -> "nn.Module":
    from dynamic_network_architectures.architectures.primus import PrimusV3X
    from torch.nn import ModuleList

    network = PrimusV3X(in_channels, out_channels, config, TOKEN_SIZE, tuple(patch_size))
    if not transformer_blocks:
        network.eva.blocks = ModuleList()
    built: nn.Module = network
    return built


PRIMUS = Architecture(
    name="PrimusV3",
    build=_build,
    patch_multiple=lambda spacing_mm: TOKEN_SIZE,
    sizes={size: {"config": size} for size in ("M", "S", "B", "L")},
    reference='Wald et al., "Primus: Enforcing Attention Usage for 3D Medical Image Segmentation", 2025',
    summary="plain transformer on tokens of 8 x 8 x 8 voxels",
    dimensions=(3,),
    no_transformer={"transformer_blocks": False},
    transformer_parameters=("eva.", "down_projection.proj_to_tokens.", "down_projection.scale_proj_to_tokens."),
)
