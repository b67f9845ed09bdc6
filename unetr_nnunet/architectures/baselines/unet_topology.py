"""Strides and kernels that nnU-Net gives a U-Net for a patch and a spacing. Pure functions, no torch.

The rule is that of nnU-Net's planners (Isensee et al., "nnU-Net", Nature Methods 2021, supplement; their
``get_pool_and_conv_props``): an axis is halved while its map keeps four voxels, and joins when its spacing is less than
twice that of the finest one; kernels are flat as long as it has not joined. A patch that nnU-Net would first enlarge is
taken as it is: an axis of odd length is not halved.

Axes are in array order, (Z, Y, X) or (Y, X), throughout.
"""

import math
from collections.abc import Sequence

Steps = tuple[tuple[int, ...], ...]

SMALLEST_MAP = 4
"""Voxels along an axis below which it is not halved."""

HALVINGS = 4
"""How often a patch can be halved along the axis of the finest spacing, whatever its size."""


def strides_and_kernels(patch_size: Sequence[int], spacing_mm: Sequence[float]) -> tuple[Steps, Steps]:
    """Return stride and kernel of each stage of the encoder, the one at full resolution first.

    Args:
        patch_size: voxels per axis.
        spacing_mm: in the same order.
    """
    axes = range(len(patch_size))
    size, spacing, kernel = list(patch_size), [float(axis) for axis in spacing_mm], [1] * len(patch_size)
    strides, kernels = [(1,) * len(size)], []
    while halved := _axes_to_halve(size, spacing):
        kernel = [3 if spacing[axis] < 2 * min(spacing) else kernel[axis] for axis in axes]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in halved else 1 for axis in axes))
        for axis in halved:
            size[axis] //= 2
            spacing[axis] *= 2
    return tuple(strides), (*kernels, (3,) * len(size))


def patch_multiple(spacing_mm: Sequence[float]) -> tuple[int, ...]:
    """Return the voxels per axis of which a patch should be a multiple, so that its map can be halved often enough."""
    large = [SMALLEST_MAP * 2**HALVINGS] * len(spacing_mm)
    strides, _ = strides_and_kernels(large, spacing_mm)
    return total_strides(strides[: HALVINGS + 1])[-1]


def total_strides(strides: Steps) -> Steps:
    """Return how much smaller each stage's map is than the patch, per axis."""
    return tuple(
        tuple(math.prod(stride[axis] for stride in strides[: stage + 1]) for axis in range(len(strides[0])))
        for stage in range(len(strides))
    )


def _axes_to_halve(size: Sequence[int], spacing: Sequence[float]) -> list[int]:
    possible = [axis for axis in range(len(size)) if size[axis] >= 2 * SMALLEST_MAP and size[axis] % 2 == 0]
    finest = min((spacing[axis] for axis in possible), default=0.0)
    joined = [axis for axis in possible if spacing[axis] / finest < 2]
    return [] if len(joined) == 1 and size[joined[0]] < 3 * SMALLEST_MAP else joined
