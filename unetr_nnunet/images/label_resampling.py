"""Label maps on another grid, by nearest neighbour.

The grid of a given spacing is that of MONAI's ``Orientation("RAS")`` and ``Spacing(pixdim, mode="nearest")``, with
which UNETR's repository prepares BTCV: it starts at the centre of the first voxel, and its last centre is the nearest
to that of the last voxel. A mask that was predicted on that grid therefore needs no resampling.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

OUTSIDE = -1
"""Marks voxels that the resampled label map does not cover; no label is negative."""


def respaced_grid(image: sitk.Image, spacing_mm: Sequence[float]) -> sitk.Image:
    """Return an empty image that covers the same space with another spacing.

    Args:
        image: any volume; a view of it with axes to the right, to the front and upwards (RAS) sets the grid.
        spacing_mm: (right-left, front-back, head-foot).
    """
    oriented = sitk.DICOMOrient(image, "RAS")
    extents_mm = ((n - 1) * old for n, old in zip(oriented.GetSize(), oriented.GetSpacing(), strict=True))
    size = [round(extent / new + 1) for extent, new in zip(extents_mm, spacing_mm, strict=True)]
    grid = sitk.Image(size, sitk.sitkUInt8)
    grid.SetOrigin(oriented.GetOrigin())
    grid.SetDirection(oriented.GetDirection())
    grid.SetSpacing(tuple(spacing_mm))
    return grid


def resample_labels(
    labels: npt.NDArray[np.integer], image: sitk.Image, grid: sitk.Image
) -> tuple[npt.NDArray[np.int16], float]:
    """Bring a label map to another grid; what it does not cover becomes background.

    Args:
        labels: label map (Z, Y, X), labels 0..255.
        image: the image it was read from, for its geometry.
        grid: an image on the grid wanted.

    Returns:
        The label map (Z, Y, X) on the grid, and the share of the grid that it does not cover.

    Raises:
        ValueError: it covers nothing of the grid.
    """
    volume = sitk.GetImageFromArray(labels.astype(np.int16))
    volume.CopyInformation(image)
    moved = sitk.GetArrayFromImage(sitk.Resample(volume, grid, sitk.Transform(), sitk.sitkNearestNeighbor, OUTSIDE))
    outside = moved == OUTSIDE
    share = float(outside.mean())
    if share == 1:
        raise ValueError("the images share no space; was the header of one of them lost?")
    moved[outside] = 0
    return moved, share
