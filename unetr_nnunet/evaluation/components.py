"""How many pieces each label consists of: what is one organ should be one."""

from typing import Final

import cc3d
import numpy as np
import numpy.typing as npt

CONNECTIVITY: Final = 26
"""Voxels that share a corner belong together, as where nnU-Net's post-processing keeps the largest component."""


def count_components(label_map: npt.NDArray[np.integer], highest_label: int) -> list[int]:
    """Return the number of connected components of each label from 1 on.

    Args:
        label_map: (Z, Y, X), 0 is background.
        highest_label: the last label counted, at least the largest in the label map.
    """
    pieces, number = cc3d.connected_components(label_map, connectivity=CONNECTIVITY, return_N=True)
    label_of = np.zeros(number + 1, label_map.dtype)
    label_of[pieces.ravel()] = label_map.ravel()
    counts: list[int] = np.bincount(label_of[1:], minlength=highest_label + 1)[1:].tolist()
    return counts
