"""Bring the weights of an original UNETR to another axis order and another token grid.

MONAI's arrays have the axes (x, y, z), nnU-Net's (z, y, x) or what the plans' ``transpose_forward`` makes of it. Every
layer of UNETR treats the axes alike, so that a network whose kernels, patch projection and position table have their
axes permuted does on a permuted array what it did before.
"""

from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional as F  # noqa: N812

POSITIONS = "transformer.positions"
PROJECTION = "stem.projection.weight"


def reorder_axes(
    weights: Mapping[str, torch.Tensor], order: Sequence[int], grid: Sequence[int], token_size: Sequence[int]
) -> dict[str, torch.Tensor]:
    """Return the weights for images whose axes are permuted.

    Args:
        weights: of `unetr_nnunet.architectures.unetr.UNETR` with the original's parts.
        order: for each new axis the old one, such as (2, 1, 0).
        grid: tokens per old axis.
        token_size: voxels of a token per old axis.
    """
    reordered = {}
    for name, tensor in weights.items():
        if name == POSITIONS:  # (1, N, D)
            reordered[name] = _permute(tensor.unflatten(1, tuple(grid)), order, 1).flatten(1, 3)
        elif name == PROJECTION:  # (D, C * voxels)
            reordered[name] = _permute(tensor.unflatten(1, (-1, *token_size)), order, 2).flatten(1)
        elif tensor.dim() == 5:  # (out, in, *kernel)
            reordered[name] = _permute(tensor, order, 2).contiguous()
        else:
            reordered[name] = tensor
    return reordered


def interpolate_positions(
    weights: Mapping[str, torch.Tensor], grid: Sequence[int], new_grid: Sequence[int]
) -> dict[str, torch.Tensor]:
    """Return the weights for another number of tokens per axis.

    The learned positions are interpolated linearly on their grid, as Dosovitskiy et al., ICLR 2021, section 3.2
    (https://arxiv.org/abs/2010.11929) do in two dimensions. On the same grid they stay as they are.

    Args:
        weights: of a UNETR with the original's transformer.
        grid: tokens per axis that the weights are for.
        new_grid: tokens per axis that are wanted.
    """
    table = weights[POSITIONS].unflatten(1, tuple(grid)).movedim(-1, 1)  # (1, D, *grid)
    table = F.interpolate(table, size=tuple(new_grid), mode="trilinear", align_corners=False)
    return {**weights, POSITIONS: table.flatten(2).transpose(1, 2).contiguous()}


def _permute(tensor: torch.Tensor, order: Sequence[int], first: int) -> torch.Tensor:
    """Permute three axes of a tensor, of which ``first`` is the first."""
    axes = list(range(tensor.dim()))
    axes[first : first + 3] = [first + axis for axis in order]
    return tensor.permute(axes)
