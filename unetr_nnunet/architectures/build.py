"""Build a network of the study from a plan's patch size and spacing and the names of its parts."""

from collections.abc import Mapping, Sequence, Set
from math import prod
from typing import Any

from torch import nn

from unetr_nnunet.architectures.aligned_skips import AlignedSkips
from unetr_nnunet.architectures.cnn_stem import CNNStem
from unetr_nnunet.architectures.fpn import FPN
from unetr_nnunet.architectures.local_blocks import ConvBlock, LocalBlock, conv_channels
from unetr_nnunet.architectures.modern_vit import ModernBlock, ModernViT, RotaryPositions
from unetr_nnunet.architectures.presets import (
    ARCHITECTURES,
    ModernViTSize,
    UNETRSize,
    modern_vit_of_equal_cost,
)
from unetr_nnunet.architectures.projected_stem import ProjectedStem
from unetr_nnunet.architectures.token_geometry import (
    LEADING_LENGTH,
    check_token_size,
    derive_fine_token_size,
    derive_token_size,
    nearest_patch_sizes,
    stage_kernels,
    stage_strides,
    token_grid,
)
from unetr_nnunet.architectures.transformer import Block, Transformer, tap_depths
from unetr_nnunet.architectures.unetr import UNETR, DeconvolutionSkips, PatchStem, UNetDecoder

MAX_DERIVED_TOKENS = 2**15
"""Most tokens of a patch whose token size is derived: 16-voxel tokens of 512 x 512 x 512 voxels. Attention grows with
their square."""


def size_of(fields: Mapping[str, Any]) -> UNETRSize:
    """Return a size from its fields, as plans hold them.

    Raises:
        ValueError: if figures are missing or unknown.
    """
    try:
        return UNETRSize(**{**fields, "modern_vit": ModernViTSize(**fields["modern_vit"])})
    except (KeyError, TypeError) as error:
        raise ValueError(f"the plans' size is no preset's name and not complete ({error}): plan again") from error


def build_unetr(
    patch_size: Sequence[int],
    spacing_mm: Sequence[float] | None,
    in_channels: int,
    out_channels: int,
    *,
    architecture: str = "original",
    transformer_blocks: bool = True,
    size: str | UNETRSize = "base",
    token_size: Sequence[int] | None = None,
    taps: str = "paper",
    feature_size: int | None = None,
) -> UNETR:
    """Build UNETR, or a variant of it.

    Args:
        patch_size: spatial size of the input, (Z, Y, X) or (Y, X) in voxels.
        spacing_mm: voxel spacing in mm in the same order; None for an isotropic one. Tokens of a convolutional stem and
            fine tokens are about as thick as they are wide in mm; the original's depend on the patch size alone.
        in_channels: channels of the image.
        out_channels: logits, one for each label or region.
        architecture: a key of `unetr_nnunet.architectures.presets.ARCHITECTURES`.
        transformer_blocks: False puts the identity in place of every transformer block, an ablation.
        size: name of one of the architecture's sizes, or a size of one's own.
        token_size: voxels of one token per axis; None derives it, see `resolve_token_size`.
        taps: ``"paper"`` or ``"monai"``; see `unetr_nnunet.architectures.transformer.tap_depths`. With ``"monai"`` the
            original has no norms around its patch projection and on its taps, and is MONAI's network, layer by layer.
        feature_size: channels at full resolution, where not the preset's.

    Returns:
        A module that maps (B, in_channels, *patch_size) to logits (B, out_channels, *patch_size); with a feature
        pyramid and deep supervision switched on, to a list of logits.

    Raises:
        ValueError: on an unknown architecture, size or tap convention, a token that does not fit the patch, or a patch
            that only tiny tokens divide, more than `MAX_DERIVED_TOKENS`.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}: choose one of {', '.join(ARCHITECTURES)}")
    variant = ARCHITECTURES[architecture]
    if isinstance(size, str) and size not in variant.sizes:
        raise ValueError(f"unknown size {size!r}: choose one of {', '.join(variant.sizes)}")
    if spacing_mm is not None and len(spacing_mm) != len(patch_size):
        raise ValueError(f"spacing_mm {tuple(spacing_mm)} does not have the axes of patch size {tuple(patch_size)}")
    parts, preset = variant.parts, variant.sizes[size] if isinstance(size, str) else size
    patch_size = tuple(int(axis) for axis in patch_size)
    token_size = resolve_token_size(architecture, patch_size, spacing_mm, token_size)
    grid = token_grid(patch_size, token_size)
    # a projected stem makes tokens as wide as the blocks are: nothing is squeezed on the way
    width = preset.modern_vit.width if parts >= {"ProjectedStem", "LightViT"} else preset.width
    features = feature_size or preset.feature_size
    strides = stage_strides(token_size)
    kernels = stage_kernels(strides, spacing_mm)
    depths = tap_depths(_transformer_size(parts, preset).layers, taps, len(strides))
    stem: nn.Module
    if "CNNStem" in parts:
        stem = CNNStem(strides, kernels, in_channels, width, features)
    elif "ProjectedStem" in parts:
        stem = ProjectedStem(strides, kernels, in_channels, width, features)
    else:
        stem = PatchStem(token_size, in_channels, width, features, normalise=taps != "monai")
    return UNETR(
        patch_size,
        stem=stem,
        transformer=_build_transformer(parts, preset, width, grid, depths, transformer_blocks, taps != "monai"),
        skips=AlignedSkips(grid, strides, kernels, width, features)
        if "AlignedSkips" in parts
        else DeconvolutionSkips(grid, strides, width, features),
        decoder=FPN(strides, kernels, width, features, preset.fpn_channels, out_channels)
        if "FPN" in parts
        else UNetDecoder(strides, width, features, out_channels),
    )


def resolve_token_size(
    architecture: str,
    patch_size: tuple[int, ...],
    spacing_mm: Sequence[float] | None,
    token_size: Sequence[int] | None,
) -> tuple[int, ...]:
    """Return a token size as a tuple; None is derived as the architecture does.

    With fine tokens that is `unetr_nnunet.architectures.token_geometry.derive_fine_token_size`, else
    `unetr_nnunet.architectures.token_geometry.derive_token_size`, to which a convolutional stem gives the spacing.

    Raises:
        ValueError: if it does not fit the patch, or only tiny tokens divide that.
    """
    if token_size is None:
        parts = ARCHITECTURES[architecture].parts
        if "FineTokens" in parts:
            token_size = derive_fine_token_size(patch_size, spacing_mm)
        else:
            has_stem = bool(parts & {"CNNStem", "ProjectedStem"})
            token_size = derive_token_size(patch_size, spacing_mm if has_stem else None)
        _refuse_countless_tokens(patch_size, token_size)
    return check_token_size(patch_size, token_size)


def _refuse_countless_tokens(patch_size: tuple[int, ...], token_size: tuple[int, ...]) -> None:
    count = prod(token_grid(patch_size, token_size))
    if count > MAX_DERIVED_TOKENS:
        smaller, larger = nearest_patch_sizes(patch_size, (LEADING_LENGTH,) * len(patch_size))
        raise ValueError(
            f"patch size {patch_size} divides into tokens of {token_size} voxels at most, which makes {count} tokens: "
            f"plan a patch such as {smaller} or {larger} (`unetr_nnunet plan` chooses one), or give a token size"
        )


def _transformer_size(parts: Set[str], preset: UNETRSize) -> UNETRSize | ModernViTSize:
    if "LightViT" in parts:
        return preset.modern_vit
    return modern_vit_of_equal_cost(preset) if "ModernViT" in parts else preset


def _build_transformer(
    parts: Set[str],
    preset: UNETRSize,
    width: int,
    grid: Sequence[int],
    depths: Sequence[int],
    real_blocks: bool,
    normalise_taps: bool,
) -> nn.Module:
    size = _transformer_size(parts, preset)
    blocks: list[nn.Module]
    if not real_blocks:
        blocks = [nn.Identity() for _ in range(size.layers)]
    elif isinstance(size, UNETRSize):
        blocks = [Block(size.width, size.heads, size.mlp_width) for _ in range(size.layers)]
    else:
        blocks = _modern_blocks(parts, size, grid)
    if isinstance(size, UNETRSize):
        return Transformer(blocks, width, depths, prod(grid), normalise_taps=normalise_taps)
    return ModernViT(blocks, width, size.width, depths)


def _modern_blocks(parts: Set[str], size: ModernViTSize, grid: Sequence[int]) -> list[nn.Module]:
    if "ConvBlocks" in parts:
        hidden = conv_channels(grid, size.width, size.mlp_width)
        return [ConvBlock(grid, size.width, hidden) for _ in range(size.layers)]
    positions = RotaryPositions(grid, size.width // size.heads)
    drop_paths = [size.drop_path * layer / max(1, size.layers - 1) for layer in range(size.layers)]
    if "LocalBlocks" in parts:
        return [LocalBlock(grid, size.width, size.heads, size.mlp_width, positions, drop) for drop in drop_paths]
    return [ModernBlock(size.width, size.heads, size.mlp_width, positions, drop) for drop in drop_paths]
