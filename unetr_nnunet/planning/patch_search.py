"""Which tokens and patches a configuration may have, and the largest of several that a budget allows. No torch.

The start is the patch that nnU-Net itself would plan (Isensee et al., "nnU-Net", Nature Methods 2021; its
``ExperimentPlanner``), in whole tokens. Its rule for patches that are too large is kept: the axis that covers most of
the median image gives way, here by one token. Patches grow by the reverse rule. Small tokens come before large patches:
they are what transformers for segmentation gain most from (Wald et al., "Primus", 2025, https://arxiv.org/abs/2503.01835).

Axes are in array order, (Z, Y, X) or (Y, X), throughout.
"""

import math
from collections.abc import Callable, Sequence

from unetr_nnunet.architectures.token_geometry import derive_token_size, nearest_patch_sizes

TOKEN_WIDTHS = (16, 8, 4)
"""Token lengths along the axis of the finest spacing, coarsest first."""

FINEST_TOKEN_MM = 8 / math.sqrt(2)
"""Tokens are not halved below this length: 8 mm, to the nearest power of two."""

MIN_TOKENS = 4
"""Fewest tokens along an axis, where the image is not smaller: nnU-Net's smallest feature map."""

MIN_STEPS = 2
"""Fewest steps of a patch along an axis for a network without tokens, so that its coarsest map has several voxels."""

NNUNET_MULTIPLE = 2
"""A step may be this many times as large as that of nnU-Net's own plan, in operations and in voxels of a patch."""


def sensible_tokens(spacing_mm: Sequence[float], extent: Sequence[float]) -> list[tuple[int, ...]]:
    """Return tokens about as thick as they are wide, coarsest first.

    The coarsest has 16 voxels along the axis of the finest spacing, or fewer so that there are four along the longest
    axis. The others are each half as long, down to about 8 mm.

    Args:
        spacing_mm: voxel spacing per axis.
        extent: voxels per axis that are to be covered.
    """
    tokens = {width: derive_token_size([width] * len(spacing_mm), spacing_mm) for width in TOKEN_WIDTHS}
    enough = [width for width, token in tokens.items() if _most_tokens(extent, token) >= MIN_TOKENS]
    coarsest = max(enough, default=TOKEN_WIDTHS[-1])
    finer = [width for width in TOKEN_WIDTHS if width < coarsest and width * min(spacing_mm) >= FINEST_TOKEN_MM]
    return [tokens[width] for width in (coarsest, *finer)]


def tokens_that_tile(patch_size: Sequence[int], spacing_mm: Sequence[float]) -> list[tuple[int, ...]]:
    """Return the sensible tokens that divide a given patch, coarsest first; if none does, one of 16 or 8 voxels.

    Raises:
        ValueError: if no token of 16 or 8 voxels divides the patch; the message names the nearest patches.
    """
    sensible = sensible_tokens(spacing_mm, patch_size)
    others = [derive_token_size([width] * len(spacing_mm), spacing_mm) for width in TOKEN_WIDTHS[:2]]
    tiling = [token for token in sensible if _tiles(token, patch_size)]
    tiling = tiling or [token for token in others if _tiles(token, patch_size)][:1]
    if tiling:
        return tiling
    smaller, larger = nearest_patch_sizes(patch_size, sensible[0])
    raise ValueError(
        f"--patch-size {spaced(patch_size)}: no token can tile it; at a spacing of {by(spacing_mm, 2)} mm a token has "
        f"{by(sensible[0])} voxels: take {spaced(smaller)} or {spaced(larger)}"
    )


def in_whole_tokens(
    patch_size: Sequence[int], median_shape: Sequence[float], token_size: Sequence[int]
) -> tuple[int, ...]:
    """Return the patch nearest to nnU-Net's that the token divides, no larger than the image in whole tokens."""
    counts = zip(patch_size, median_shape, token_size, strict=True)
    return tuple(
        max(1, min(math.floor(axis / length + 0.5), _tokens_to_cover(shape, length))) * length
        for axis, shape, length in counts
    )


def candidate_patches(
    nnunet_patch: Sequence[int], median_shape: Sequence[float], token_size: Sequence[int], fewest: int = MIN_TOKENS
) -> list[tuple[int, ...]]:
    """Return the patches that make sense, largest first.

    They reach from twice the voxels of nnU-Net's own patch, or the whole median image, down to ``fewest`` tokens along
    each axis, and nnU-Net's patch in whole tokens is among them.

    Args:
        nnunet_patch: voxels per axis of the patch that nnU-Net would plan.
        median_shape: voxels per axis of the median image at the same spacing.
        token_size: voxels per axis of one token, or what else a patch is a multiple of.
        fewest: of them along an axis.
    """
    start = in_whole_tokens(nnunet_patch, median_shape, token_size)
    whole = [_tokens_to_cover(shape, length) * length for shape, length in zip(median_shape, token_size, strict=True)]
    smallest = [min(axis, fewest * length) for axis, length in zip(start, token_size, strict=True)]
    largest = max(NNUNET_MULTIPLE * math.prod(nnunet_patch), math.prod(start))

    def covered(patch: Sequence[int], axis: int) -> float:
        return patch[axis] / median_shape[axis]

    def changed(patch: Sequence[int], axis: int, sign: int) -> tuple[int, ...]:
        return tuple(length + sign * token_size[place] * (place == axis) for place, length in enumerate(patch))

    patches = [start]
    while growable := [axis for axis in range(len(start)) if patches[0][axis] < whole[axis]]:
        larger = changed(patches[0], min(growable, key=lambda axis: covered(patches[0], axis)), 1)
        if math.prod(larger) > largest:
            break
        patches.insert(0, larger)
    while shrinkable := [axis for axis in range(len(start)) if patches[-1][axis] > smallest[axis]]:
        patches.append(changed(patches[-1], max(shrinkable, key=lambda axis: covered(patches[-1], axis)), -1))
    return patches


def largest_that_fits(sizes: Sequence[int], used: Callable[[int], float], first: int) -> int | None:
    """Return the first index that the budget allows, with few estimates: what a step uses grows nearly linearly.

    Args:
        sizes: what a step uses grows with, descending.
        used: index → share of the budget, at most 1 where it is allowed; expensive.
        first: the index to begin with.

    Returns:
        An index, or None where even the last is too large.
    """
    known: dict[int, float] = {}

    def fits(index: int) -> bool:
        if index not in known:
            known[index] = used(index)
        return known[index] <= 1

    index = first
    while index not in known:
        fits(index)
        expected = [size * known[index] <= sizes[index] for size in sizes]
        index = expected.index(True) if True in expected else len(sizes) - 1
    while not fits(index):
        if index == len(sizes) - 1:
            return None
        index += 1
    while index > 0 and fits(index - 1):
        index -= 1
    return index


def by(values: Sequence[float], digits: int = 0) -> str:
    """Return "96 x 96 x 16"."""
    return " x ".join(f"{value:.{digits}f}" for value in values)


def spaced(values: Sequence[float]) -> str:
    """Return "96 96 16", as an option takes it."""
    return " ".join(f"{value:g}" for value in values)


def _tiles(token_size: Sequence[int], patch_size: Sequence[int]) -> bool:
    return nearest_patch_sizes(patch_size, token_size)[0] == tuple(patch_size)


def _tokens_to_cover(shape: float, length: int) -> int:
    return max(1, math.ceil(round(shape / length, 6)))


def _most_tokens(extent: Sequence[float], token_size: Sequence[int]) -> float:
    return max(axis / length for axis, length in zip(extent, token_size, strict=True))
