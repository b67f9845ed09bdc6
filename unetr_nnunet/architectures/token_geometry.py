"""Token size, token grid and decoder strides, derived from the patch size of an nnU-Net plan. Pure functions, no torch.

UNETR (Hatamizadeh et al., WACV 2022, https://arxiv.org/abs/2103.10504) has 16 x 16 x 16 voxel tokens and four decoder
stages that each double the resolution. nnU-Net plans patches that 16 does not divide (14 x 256 x 256), so here each
axis gets its own token length, a power of two up to 16. There is a stage for each doubling of the longest axis; the
others double in the deep stages and keep their length in the high-resolution ones, as in nnU-Net's own treatment of
thick slices.

Axes are in array order, (Z, Y, X) or (Y, X), throughout.
"""

import math
from collections.abc import Sequence

LONGEST = 16
"""Most voxels along one axis of a token, as in the original."""

LEADING_LENGTH = 8
"""Shortest length along the finest axis that the other axes of a token follow."""

TOKEN_LENGTHS: tuple[int, ...] = (1, 2, 4, 8, LONGEST)
"""Voxels along one axis of a token."""

FINE_LENGTHS = (8, LONGEST)
"""Voxels along the finest axis of a token that `derive_fine_token_size` chooses from."""

MOST_FINE_TOKENS = 4096
"""Most tokens of a patch that `derive_fine_token_size` makes where it can choose, 128 x 128 x 128 voxels in eights.
Attention grows with their square."""


def derive_token_size(
    patch_size: Sequence[int], spacing_mm: Sequence[float] | None = None, longest: int = LONGEST
) -> tuple[int, ...]:
    """Choose the token size for a patch.

    Without a spacing this is the original UNETR's rule: 16 where it divides the patch, else the largest power of two
    that does. With a spacing, tokens become about as thick as they are wide in millimetres: the axis with the finest
    spacing keeps the rule above, and each other axis takes the length nearest to it on a logarithmic scale
    (at 3.0 x 0.76 x 0.76 mm: 4 x 16 x 16). An axis that not even 8 divides is no measure for the others while there is
    one that it divides: 9 x 64 x 64 voxels of 1 mm have tokens of 1 x 16 x 16.

    Args:
        patch_size: voxels per axis.
        spacing_mm: voxel spacing per axis in mm, or None for the original's rule.
        longest: voxels along the axis with the finest spacing, in place of 16.

    Returns:
        Voxels per axis of one token; divides ``patch_size``.

    Raises:
        ValueError: if the patch has not two or three positive axes, or the spacing does not fit it.
    """
    _check_patch_size(patch_size)
    lengths = [length for length in TOKEN_LENGTHS if length <= longest]
    largest = tuple(max(length for length in lengths if axis % length == 0) for axis in patch_size)
    if spacing_mm is None:
        return largest
    if len(spacing_mm) != len(patch_size) or min(spacing_mm) <= 0:
        raise ValueError(f"spacing_mm {tuple(spacing_mm)} must have one positive value per axis of {tuple(patch_size)}")
    leading = min(LEADING_LENGTH, longest)
    even = [axis for axis, length in enumerate(largest) if length >= leading] or range(len(patch_size))
    finest = min(even, key=lambda axis: spacing_mm[axis])
    width_mm = largest[finest] * spacing_mm[finest]
    halvings = [max(0, round(math.log2(width_mm / spacing))) for spacing in spacing_mm]
    return tuple(min(length, 2**count) for length, count in zip(largest, halvings, strict=True))


def derive_fine_token_size(patch_size: Sequence[int], spacing_mm: Sequence[float] | None = None) -> tuple[int, ...]:
    """Choose the finest token of which a patch has at most `MOST_FINE_TOKENS`.

    Small tokens are what transformers need for dense prediction: Wald et al., "Primus", 2025,
    https://arxiv.org/abs/2503.01835, section 4. Of 48 x 192 x 192 voxels of 3.0 x 0.76 x 0.76 mm and of 96 x 96 x 96
    voxels of 1.5 mm it makes 1728 tokens of 12 mm.

    Args:
        patch_size: voxels per axis.
        spacing_mm: voxel spacing per axis in mm; None for an isotropic one.

    Returns:
        Voxels per axis of one token, as `derive_token_size` returns them for 8 or 16 along the finest axis.

    Raises:
        ValueError: see `derive_token_size`.
    """
    spacing_mm = (1.0,) * len(patch_size) if spacing_mm is None else spacing_mm
    for longest in FINE_LENGTHS:
        token_size = derive_token_size(patch_size, spacing_mm, longest)
        if math.prod(token_grid(patch_size, token_size)) <= MOST_FINE_TOKENS:
            break
    return token_size


def check_token_size(patch_size: Sequence[int], token_size: Sequence[int]) -> tuple[int, ...]:
    """Return ``token_size`` as a tuple if it can tile the patch.

    Args:
        patch_size: voxels per axis of the patch.
        token_size: voxels per axis of one token.

    Raises:
        ValueError: if a length is no power of two up to 16 or does not divide the patch. The message names the nearest
            valid token size, and for a token of valid lengths also the nearest valid patch sizes.
    """
    _check_patch_size(patch_size)
    if len(token_size) != len(patch_size):
        raise ValueError(f"token size {tuple(token_size)} must have the {len(patch_size)} axes of {tuple(patch_size)}")
    wrong_length = any(length not in TOKEN_LENGTHS for length in token_size)
    if not wrong_length and all(axis % length == 0 for axis, length in zip(patch_size, token_size, strict=True)):
        return tuple(token_size)
    nearest = tuple(_nearest_length(axis, length) for axis, length in zip(patch_size, token_size, strict=True))
    message = f"token size {tuple(token_size)} does not fit patch size {tuple(patch_size)}: "
    if wrong_length:
        raise ValueError(message + f"lengths must be one of {TOKEN_LENGTHS}; nearest valid token size: {nearest}")
    smaller, larger = nearest_patch_sizes(patch_size, token_size)
    raise ValueError(
        message + f"it must divide it; nearest valid token size: {nearest}; nearest valid patch sizes for this token: "
        f"{smaller} and {larger}"
    )


def nearest_patch_sizes(
    patch_size: Sequence[int], token_size: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the nearest patch sizes that the token divides: (not larger, but at least one token; not smaller)."""
    pairs = list(zip(patch_size, token_size, strict=True))
    smaller = tuple(max(1, axis // length) * length for axis, length in pairs)
    larger = tuple(-(-axis // length) * length for axis, length in pairs)
    return smaller, larger


def token_grid(patch_size: Sequence[int], token_size: Sequence[int]) -> tuple[int, ...]:
    """Return the number of tokens per axis.

    Raises:
        ValueError: see `check_token_size`.
    """
    token_size = check_token_size(patch_size, token_size)
    return tuple(axis // length for axis, length in zip(patch_size, token_size, strict=True))


def stage_strides(token_size: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return the upsampling factor of each decoder stage, highest resolution first; at least one stage.

    The product over the stages is the token size. An axis with fewer halvings than the longest has stride 1 in the
    high-resolution stages: 2 x 16 x 16 gives (1, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2).

    Args:
        token_size: voxels per axis, each a power of two up to 16.
    """
    halvings = [TOKEN_LENGTHS.index(length) for length in token_size]
    stages = max(1, *halvings)
    return tuple(tuple(2 if stages - stage <= count else 1 for count in halvings) for stage in range(stages))


def stage_scales(strides: Sequence[Sequence[int]]) -> tuple[tuple[float, ...], ...]:
    """Return the size of each decoder stage's output relative to the patch, highest resolution first.

    Args:
        strides: see `stage_strides`.
    """
    axes = range(len(strides[0]))
    return tuple(
        tuple(1 / math.prod(stride[axis] for stride in strides[:stage]) for axis in axes)
        for stage in range(len(strides))
    )


def stage_kernels(
    strides: Sequence[Sequence[int]], spacing_mm: Sequence[float] | None = None
) -> tuple[tuple[int, ...], ...]:
    """Return the size of a convolution at each scale, highest resolution first: 3 voxels, or 1 across thick slices.

    As in nnU-Net's own plans, an axis is left out while its voxels are longer than the finest at that scale and it is
    not downsampled; here from a factor of the square root of 2, at which `derive_token_size` halves the token along it.

    Args:
        strides: see `stage_strides`.
        spacing_mm: voxel spacing per axis in mm at full resolution; None for an isotropic one.
    """
    voxel = [1.0] * len(strides[0]) if spacing_mm is None else list(spacing_mm)
    kernels = []
    for stride in strides:
        longest = math.sqrt(2) * min(voxel)
        kernels.append(
            tuple(1 if length > longest and factor == 1 else 3 for length, factor in zip(voxel, stride, strict=True))
        )
        voxel = [length * factor for length, factor in zip(voxel, stride, strict=True)]
    return tuple(kernels)


def _check_patch_size(patch_size: Sequence[int]) -> None:
    if len(patch_size) not in (2, 3) or min(patch_size) < 1:
        raise ValueError(f"patch size {tuple(patch_size)} must have two or three positive axes, (Y, X) or (Z, Y, X)")


def _nearest_length(axis: int, length: int) -> int:
    """Return the valid token length for an axis that lies nearest to ``length`` on a logarithmic scale."""
    valid = [candidate for candidate in TOKEN_LENGTHS if axis % candidate == 0]
    return min(valid, key=lambda candidate: abs(math.log2(candidate) - math.log2(max(length, 1))))
