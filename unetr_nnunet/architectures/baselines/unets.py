"""The U-Nets of nnU-Net as architectures: its plain convolutional one, and the one with a residual encoder.

Both come from the package dynamic_network_architectures, with the features, blocks, strides and kernels that nnU-Net's
planners choose. Isensee et al., "nnU-Net", Nature Methods 2021; Isensee et al., "nnU-Net Revisited", MICCAI 2024,
https://arxiv.org/abs/2404.09556, whose presets M, L and XL are one network planned for more and more memory.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from unetr_nnunet.architectures.architecture import Architecture
from unetr_nnunet.architectures.baselines.unet_topology import patch_multiple, strides_and_kernels, total_strides
from unetr_nnunet.architectures.presets import LEARNING_RATES

if TYPE_CHECKING:
    from torch import nn

MAX_FEATURES = {2: 512, 3: 320}
"""Of a stage, by the number of axes."""

RESIDUAL_BLOCKS = (1, 3, 4, 6)
"""Of the encoder's first stages; all further ones have as many as the last."""


def _arguments(
    in_channels: int, out_channels: int, patch_size: Sequence[int], spacing_mm: Sequence[float], features: int
) -> dict[str, Any]:
    from torch import nn

    flat = len(patch_size) == 2
    strides, kernels = strides_and_kernels(patch_size, spacing_mm)
    return {
        "input_channels": in_channels,
        "num_classes": out_channels,
        "n_stages": len(strides),
        "features_per_stage": [
            min(MAX_FEATURES[len(patch_size)], features * 2**stage) for stage in range(len(strides))
        ],
        "conv_op": nn.Conv2d if flat else nn.Conv3d,
        "kernel_sizes": kernels,
        "strides": strides,
        "conv_bias": True,
        "norm_op": nn.InstanceNorm2d if flat else nn.InstanceNorm3d,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
        "deep_supervision": True,
    }


def _plain(
    *, in_channels: int, out_channels: int, patch_size: Sequence[int], spacing_mm: Sequence[float], features: int
) -> "nn.Module":
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    arguments = _arguments(in_channels, out_channels, patch_size, spacing_mm, features)
    network: nn.Module = PlainConvUNet(n_conv_per_stage=2, n_conv_per_stage_decoder=2, **arguments)
    return network.apply(PlainConvUNet.initialize)


def _residual(
    *, in_channels: int, out_channels: int, patch_size: Sequence[int], spacing_mm: Sequence[float], features: int
) -> "nn.Module":
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

    arguments = _arguments(in_channels, out_channels, patch_size, spacing_mm, features)
    more = arguments["n_stages"] - len(RESIDUAL_BLOCKS)
    blocks = (*RESIDUAL_BLOCKS, *RESIDUAL_BLOCKS[-1:] * more)[: arguments["n_stages"]]
    network: nn.Module = ResidualEncoderUNet(n_blocks_per_stage=blocks, n_conv_per_stage_decoder=1, **arguments)
    return network.apply(ResidualEncoderUNet.initialize)


def _output_scales(
    *, patch_size: Sequence[int], spacing_mm: Sequence[float], features: int
) -> Sequence[Sequence[float]]:
    strides, _ = strides_and_kernels(patch_size, spacing_mm)
    return [[1 / stride for stride in stage] for stage in total_strides(strides)[:-1]]


PLAIN = Architecture(
    name="PlainConvUNet",
    build=_plain,
    patch_multiple=patch_multiple,
    sizes={"Stock": {"features": 32}, "base": {"features": 18}, "Tiny": {"features": 8}},
    reference='Isensee et al., "nnU-Net", Nature Methods 2021',
    summary="nnU-Net's default network; base and Tiny compute as much as ours of that size",
    output_scales=_output_scales,
    learning_rates=LEARNING_RATES,
)

RESIDUAL = Architecture(
    name="ResEnc",
    build=_residual,
    patch_multiple=patch_multiple,
    sizes={"base": {"features": 32}},
    reference='Isensee et al., "nnU-Net Revisited", MICCAI 2024',
    summary="nnU-Net's U-Net with a residual encoder: its M for plans of 8 GiB, L of 24 GiB",
    output_scales=_output_scales,
)
