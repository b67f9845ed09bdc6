"""SwinUNETR, SegResNetDS and MedNeXt of MONAI as architectures; MONAI is imported when one of them is built.

Hatamizadeh et al., "Swin UNETR", BrainLes 2021, https://arxiv.org/abs/2201.01266; Myronenko, "3D MRI brain tumor
segmentation using autoencoder regularization", BrainLes 2018, https://arxiv.org/abs/1810.11654, as MONAI's Auto3DSeg
trains it; Roy et al., "MedNeXt", MICCAI 2023, https://arxiv.org/abs/2303.09975, with kernels of 3.
"""

import math
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from unetr_nnunet.architectures.architecture import Architecture

if TYPE_CHECKING:
    from torch import nn

SEGRESNET_BLOCKS = (1, 2, 2, 4, 4)
SEGRESNET_OUTPUTS = 4
MEDNEXT_OUTPUTS = 5


def _nets() -> ModuleType:
    try:
        from monai.networks import nets
    except ImportError as error:
        raise ValueError(f"the network is MONAI's ({error}): pip install monai") from error
    return nets


def _swin(
    *, in_channels: int, out_channels: int, patch_size: Sequence[int], spacing_mm: Sequence[float], feature_size: int
) -> "nn.Module":
    network: nn.Module = _nets().SwinUNETR(
        in_channels, out_channels, feature_size=feature_size, spatial_dims=len(patch_size)
    )
    return network


def _segresnet(
    *, in_channels: int, out_channels: int, patch_size: Sequence[int], spacing_mm: Sequence[float], filters: int
) -> "nn.Module":
    network = _nets().SegResNetDS(
        len(patch_size),
        filters,
        in_channels,
        out_channels,
        norm="instance",
        blocks_down=SEGRESNET_BLOCKS,
        dsdepth=SEGRESNET_OUTPUTS,
        resolution=tuple(spacing_mm),
    )
    return _with_switch(network)


def _segresnet_strides(spacing_mm: Sequence[float]) -> list[tuple[int, ...]]:
    """Return the stride of each of the encoder's steps, as MONAI derives them."""
    scales = _nets().segresnet_ds.scales_for_resolution(tuple(spacing_mm), len(SEGRESNET_BLOCKS))
    return [tuple(int(stride) for stride in scale) for scale in scales[: len(SEGRESNET_BLOCKS) - 1]]


def _segresnet_multiple(spacing_mm: Sequence[float]) -> tuple[int, ...]:
    return tuple(math.prod(axis) for axis in zip(*_segresnet_strides(spacing_mm), strict=True))


def _segresnet_scales(
    *, patch_size: Sequence[int], spacing_mm: Sequence[float], filters: int
) -> Sequence[Sequence[float]]:
    scales = [[1.0] * len(patch_size)]
    for strides in _segresnet_strides(spacing_mm)[: SEGRESNET_OUTPUTS - 1]:
        scales.append([scale / stride for scale, stride in zip(scales[-1], strides, strict=True)])
    return scales


def _mednext(
    *, in_channels: int, out_channels: int, patch_size: Sequence[int], spacing_mm: Sequence[float], variant: str
) -> "nn.Module":
    network = _nets().mednext.create_mednext(
        variant, len(patch_size), in_channels, out_channels, kernel_size=3, deep_supervision=True
    )
    return _with_switch(network)


def _with_switch(network: "nn.Module") -> "nn.Module":
    """Wrap a network of MONAI's, which returns all outputs in training and one in evaluation.

    Neither of the two has another layer that knows the difference, so the outputs can be had in either mode.
    """
    from torch import Tensor, nn

    class Switch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.deep_supervision = False

        def forward(self, image: Tensor) -> Tensor | list[Tensor]:
            self.network.training = self.deep_supervision
            outputs = self.network(image)
            return outputs if isinstance(outputs, Tensor) else list(outputs)

    return Switch()


SWIN = Architecture(
    name="SwinUNETR",
    build=_swin,
    patch_multiple=lambda spacing_mm: (32,) * len(spacing_mm),
    sizes={f"F{features}": {"feature_size": features} for features in (48, 24)},
    reference='Hatamizadeh et al., "Swin UNETR", BrainLes 2021',
    summary="transformer with shifted windows and a convolutional decoder",
    transformer_parameters=("swinViT.",),
)

SEGRESNET = Architecture(
    name="SegResNetDS",
    build=_segresnet,
    patch_multiple=_segresnet_multiple,
    sizes={"base": {"filters": 32}},
    reference='Myronenko, "3D MRI brain tumor segmentation using autoencoder regularization", BrainLes 2018',
    summary="residual U-Net of MONAI's Auto3DSeg",
    output_scales=_segresnet_scales,
)

MEDNEXT = Architecture(
    name="MedNeXt",
    build=_mednext,
    patch_multiple=lambda spacing_mm: (2 ** (MEDNEXT_OUTPUTS - 1),) * len(spacing_mm),
    sizes={size: {"variant": size} for size in ("B", "S", "M", "L")},
    reference='Roy et al., "MedNeXt", MICCAI 2023',
    summary="U-Net of ConvNeXt blocks",
    output_scales=lambda patch_size, spacing_mm, variant: [
        [0.5**level] * len(patch_size) for level in range(MEDNEXT_OUTPUTS)
    ],
)
