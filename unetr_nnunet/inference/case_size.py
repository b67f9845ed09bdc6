"""How large a case is on a network's grid, and how much memory it takes."""

from collections.abc import Sequence
from math import prod

import SimpleITK as sitk

from unetr_nnunet.inference.model import Model

IMAGE_BYTES_PER_VOXEL = 14
"""Memory for a voxel of the image itself, its oriented copy, the label map and what is made on the way."""


def grid_voxels(model: Model, channels: Sequence[sitk.Image]) -> float:
    """Return about how many voxels an image has on a network's grid.

    Args:
        model: of the network.
        channels: of the image, with axes as the model was trained on.
    """
    sizes = channels[0].GetSize(), channels[0].GetSpacing()
    target = model.configuration.spacing
    millimetres = prod(length * spacing for length, spacing in zip(*sizes, strict=True))
    flat = len(target) == 2
    return millimetres / (prod(target) * (sizes[1][2 - model.plans.transpose_forward[0]] if flat else 1))


def needed_bytes(model: Model, channels: Sequence[sitk.Image]) -> int:
    """Return about what a case takes: the network's input, the logits, and the image with its label map.

    Args:
        model: of the network.
        channels: of the image, with axes as the model was trained on.
    """
    per_voxel = 4 * len(channels) + 2 * int(model.labels.num_segmentation_heads) + 5
    return int(grid_voxels(model, channels) * per_voxel + IMAGE_BYTES_PER_VOXEL * prod(channels[0].GetSize()))


def probability_bytes(model: Model, channels: Sequence[sitk.Image]) -> int:
    """Return what float16 probabilities of each output on the image take.

    Args:
        model: of the network.
        channels: of the image.
    """
    return 2 * int(model.labels.num_segmentation_heads) * prod(channels[0].GetSize())
