"""The part of a CT that is not only air.

nnU-Net crops to what is not zero, which never crops a CT: air is -1000 HU. Around the patient and the table there is
nothing to segment.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

AIR_HU = -1000
AIR_BELOW_HU = -900
"""The mean of a voxel and its neighbours in air; lung is denser."""
MARGIN_MM = 15.0
ROWS = 16
"""So many slices are smoothed at once, for the memory."""


def body_box(image: npt.NDArray[np.number[Any]], spacing_mm: Sequence[float]) -> tuple[slice, ...]:
    """Return the box of everything that is not air, with a margin.

    What lies outside is air that is connected to the image's border. The image is smoothed over 3 x 3 x 3 voxels, so
    that the noise of air does not count, while a piece of tissue of two voxels does.

    Args:
        image: (Z, Y, X) in HU.
        spacing_mm: voxel spacing per axis.

    Returns:
        A slice per axis; the whole image where all of it is air.
    """
    dense = [np.zeros(length, bool) for length in image.shape]
    for start in range(0, image.shape[0], ROWS):
        stop = min(start + ROWS, image.shape[0])
        first, last = max(0, start - 1), min(image.shape[0], stop + 1)
        clipped = np.maximum(image[first:last].astype(np.float32), AIR_HU)  # padding may be far below air
        smooth = ndimage.uniform_filter(clipped, 3, mode="nearest")
        is_dense = smooth[start - first : stop - first] >= AIR_BELOW_HU
        dense[0][start:stop] = is_dense.any(axis=(1, 2))
        plane = is_dense.any(axis=0)
        dense[1] |= plane.any(axis=1)
        dense[2] |= plane.any(axis=0)
    box = []
    for places, spacing in zip(map(np.flatnonzero, dense), spacing_mm, strict=True):
        if not places.size:
            return tuple(slice(0, length) for length in image.shape)
        margin = int(np.ceil(MARGIN_MM / spacing))
        box.append(slice(max(0, int(places[0]) - margin), int(places[-1]) + 1 + margin))
    return tuple(slice(span.start, min(span.stop, length)) for span, length in zip(box, image.shape, strict=True))
