"""Token, patch and batch size for a memory budget. Pure functions, no torch.

The order of things is nnU-Net's own (Isensee et al., "nnU-Net", Nature Methods 2021; its ``ExperimentPlanner``): the
patch has the same extent in mm along each axis, at most the median image; while it does not fit, the axis that covers
most of the median image gives way; memory that is left makes the batch larger, up to 5 % of the data set's voxels.
Deviations: an axis changes by one token instead of the U-Net's pooling factor, and patches beyond nnU-Net's largest,
256 x 256 x 256 voxels, are considered too.

Axes are in array order, (Z, Y, X) or (Y, X), throughout.
"""

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from unetr_nnunet.architectures.token_geometry import derive_token_size, nearest_patch_sizes

TOKEN_WIDTHS = (16, 8, 4)
"""Token lengths along the axis of the finest spacing, in order of preference."""

MIN_TOKENS = 4
"""Fewest tokens along an axis, where the image is not smaller: nnU-Net's smallest feature map."""

NNUNET_LARGEST = {2: 2048**2, 3: 256**3}
"""Axes → voxels of the patch from which nnU-Net begins to shrink."""


class Estimate(Protocol):
    """What the search needs to know of a memory estimate."""

    @property
    def peak(self) -> int:
        """Bytes at the peak."""

    @property
    def fixed(self) -> int:
        """Those of them that do not depend on patch and batch."""


def near_isotropic_token(spacing_mm: Sequence[float], extent: Sequence[float]) -> tuple[int, ...]:
    """Return the token for images of a spacing: about as thick as wide in mm, at least four along the longest axis.

    Args:
        spacing_mm: voxel spacing per axis.
        extent: voxels per axis that are to be covered.
    """
    tokens = _tokens(spacing_mm)
    return next((token for token in tokens if _most_tokens(extent, token) >= MIN_TOKENS), tokens[-1])


def token_that_tiles(patch_size: Sequence[int], spacing_mm: Sequence[float]) -> tuple[int, ...]:
    """Return the token for a given patch: the near-isotropic one, or where it does not divide the patch, one like it.

    Raises:
        ValueError: if no token of 16 or 8 voxels divides the patch; the message names the nearest patches.
    """
    preferred, (wide, middle, _) = near_isotropic_token(spacing_mm, patch_size), _tokens(spacing_mm)
    for token in (preferred, wide, middle):
        if nearest_patch_sizes(patch_size, token)[0] == tuple(patch_size):
            return token
    smaller, larger = nearest_patch_sizes(patch_size, preferred)
    raise ValueError(
        f"--patch-size {_words(patch_size)}: no token can tile it; at a spacing of {by(spacing_mm, 2)} mm a token has "
        f"{by(preferred)} voxels: take {_words(smaller)} or {_words(larger)}"
    )


def candidate_patches(
    spacing_mm: Sequence[float], median_shape: Sequence[float], token_size: Sequence[int]
) -> list[tuple[int, ...]]:
    """Return the patches that make sense, from the whole median image down to four tokens along each axis.

    Args:
        spacing_mm: voxel spacing per axis.
        median_shape: voxels per axis of the median image at that spacing.
        token_size: voxels per axis of one token.
    """
    patch = _patch_of_extent(math.inf, spacing_mm, median_shape, token_size)
    patches = [patch]
    while math.prod(patch) > NNUNET_LARGEST[len(patch)]:  # of equal extent in mm
        lengths = zip(patch, token_size, spacing_mm, strict=True)
        next_extent_mm = max((axis - token) * spacing for axis, token, spacing in lengths)
        patch = _patch_of_extent(next_extent_mm, spacing_mm, median_shape, token_size)
        patches.append(patch)
    smallest = [min(axis, MIN_TOKENS * length) for axis, length in zip(patch, token_size, strict=True)]
    while shrinkable := [axis for axis in range(len(patch)) if patch[axis] > smallest[axis]]:
        shrunk = max(shrinkable, key=lambda axis: patches[-1][axis] / median_shape[axis])
        patch = tuple(length - token_size[axis] * (axis == shrunk) for axis, length in enumerate(patch))
        patches.append(patch)
    return patches


def _patch_of_extent(
    extent_mm: float, spacing_mm: Sequence[float], median_shape: Sequence[float], token_size: Sequence[int]
) -> tuple[int, ...]:
    """Return the patch of an extent along each axis, at most the median image's, in whole tokens."""
    covered = [min(extent_mm / spacing, shape) for spacing, shape in zip(spacing_mm, median_shape, strict=True)]
    tokens = [math.ceil(round(axis / length, 6)) for axis, length in zip(covered, token_size, strict=True)]
    return tuple(max(1, count) * length for count, length in zip(tokens, token_size, strict=True))


def largest_that_fits(sizes: Sequence[int], estimate: Callable[[int], Estimate], budget: float) -> int | None:
    """Return the first index whose peak is within the budget, with few estimates: memory grows nearly linearly.

    Args:
        sizes: what memory grows with, descending.
        estimate: index → memory; expensive.
        budget: bytes.

    Returns:
        An index, or None where even the last is too large.
    """
    known: dict[int, Estimate] = {}

    def fits(index: int) -> bool:
        if index not in known:
            known[index] = estimate(index)
        return known[index].peak <= budget

    index = len(sizes) - 1
    while index not in known:
        if not fits(index) and index == len(sizes) - 1:
            return None
        slope = (known[index].peak - known[index].fixed) / sizes[index]
        expected = [known[index].fixed + slope * size <= budget for size in sizes]
        index = expected.index(True) if True in expected else len(sizes) - 1
    while not fits(index):
        index += 1
    while index > 0 and fits(index - 1):
        index -= 1
    return index


def by(values: Sequence[float], digits: int = 0) -> str:
    """Return "96 x 96 x 16"."""
    return " x ".join(f"{value:.{digits}f}" for value in values)


def _tokens(spacing_mm: Sequence[float]) -> list[tuple[int, ...]]:
    return [derive_token_size([width] * len(spacing_mm), spacing_mm) for width in TOKEN_WIDTHS]


def _most_tokens(extent: Sequence[float], token_size: Sequence[int]) -> float:
    return max(axis / length for axis, length in zip(extent, token_size, strict=True))


def _words(values: Sequence[int]) -> str:
    return " ".join(str(value) for value in values)
