"""Build a network of the study from a plan's patch size and the names of its parts."""

from collections.abc import Sequence

from unetr_nnunet.architectures.presets import SIZES
from unetr_nnunet.architectures.token_geometry import check_token_size, derive_token_size, stage_strides, token_grid
from unetr_nnunet.architectures.transformer import Block, Transformer, tap_depths
from unetr_nnunet.architectures.unetr import UNETR, DeconvolutionSkips, PatchStem, UNetDecoder


def build_unetr(
    patch_size: Sequence[int],
    spacing_mm: Sequence[float] | None,
    in_channels: int,
    out_channels: int,
    *,
    size: str = "base",
    token_size: Sequence[int] | None = None,
    taps: str = "paper",
    feature_size: int | None = None,
) -> UNETR:
    """Build the original UNETR.

    Args:
        patch_size: spatial size of the input, (Z, Y, X) or (Y, X) in voxels.
        spacing_mm: voxel spacing in mm in the same order. The original's tokens depend on the patch size alone, so it
            is only checked here.
        in_channels: channels of the image.
        out_channels: logits, one for each label or region.
        size: a key of `unetr_nnunet.architectures.presets.SIZES`.
        token_size: voxels of one token per axis; None derives it from the patch size: 16 where that divides it, else
            the largest power of two that does.
        taps: ``"paper"`` or ``"monai"``; see `unetr_nnunet.architectures.transformer.tap_depths`.
        feature_size: decoder channels at full resolution, where not the preset's.

    Returns:
        A module that maps (B, in_channels, *patch_size) to logits (B, out_channels, *patch_size).

    Raises:
        ValueError: on an unknown size or tap convention, or a token that does not fit the patch.
    """
    if size not in SIZES:
        raise ValueError(f"unknown size {size!r}: choose one of {', '.join(SIZES)}")
    if spacing_mm is not None and len(spacing_mm) != len(patch_size):
        raise ValueError(f"spacing_mm {tuple(spacing_mm)} has not the axes of patch size {tuple(patch_size)}")
    preset = SIZES[size]
    patch_size = tuple(int(axis) for axis in patch_size)
    token_size = derive_token_size(patch_size) if token_size is None else check_token_size(patch_size, token_size)
    features = preset.feature_size if feature_size is None else feature_size
    strides = stage_strides(token_size)
    blocks = [Block(preset.width, preset.heads, preset.mlp_width) for _ in range(preset.layers)]
    return UNETR(
        stem=PatchStem(patch_size, token_size, in_channels, preset.width, features),
        transformer=Transformer(blocks, preset.width, tap_depths(preset.layers, taps)),
        skips=DeconvolutionSkips(token_grid(patch_size, token_size), strides, preset.width, features),
        decoder=UNetDecoder(strides, preset.width, features, out_channels),
    )
