"""Where the body is in a CT: the box of everything denser than lung that hangs together.

nnU-Net crops to what is not zero, which never crops a CT: air is -1000 HU. Outside the body there is nothing to
segment, and a wide field of view is mostly that.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

DENSER_THAN_HU = -300
MARGIN_MM = 15.0
COARSE_MM = 4.0
SMALLEST_SHARE = 0.1
"""A piece with less of the largest one's volume is table, tube or clothing."""


def body_box(image: npt.NDArray[np.number[Any]], spacing_mm: Sequence[float]) -> tuple[slice, ...]:
    """Return the box of the body with a margin.

    Thin things, such as a table top or a tube, are removed by an opening on a coarse grid; of the rest, the largest
    piece and every one of at least a tenth of its volume are kept.

    Args:
        image: (Z, Y, X) in HU.
        spacing_mm: voxel spacing per axis.

    Returns:
        A slice per axis; the whole image where nothing is dense enough.
    """
    steps = [max(1, round(COARSE_MM / spacing)) for spacing in spacing_mm]
    dense = image[tuple(slice(step // 2, None, step) for step in steps)] > DENSER_THAN_HU
    opened = ndimage.binary_opening(dense, iterations=2)
    pieces, count = ndimage.label(opened if opened.any() else dense)
    if count == 0:
        return tuple(slice(0, length) for length in image.shape)
    volumes = np.bincount(pieces.ravel())[1:]
    boxes = [
        box
        for box, volume in zip(ndimage.find_objects(pieces), volumes, strict=True)
        if volume >= SMALLEST_SHARE * volumes.max()
    ]
    found = []
    for axis, (step, spacing) in enumerate(zip(steps, spacing_mm, strict=True)):
        margin = round(MARGIN_MM / spacing)
        start = min(box[axis].start for box in boxes) * step - margin
        stop = max(box[axis].stop for box in boxes) * step + margin
        found.append(slice(max(0, start), min(image.shape[axis], stop)))
    return tuple(found)
