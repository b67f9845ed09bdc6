"""Volumes as the page gets them: NIfTI in RAS order, int16 for a CT, uint8 for a label map on the CT's grid."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from unetr_nnunet.images.grid import grid_differences, grid_note
from unetr_nnunet.images.label_maps import read_label_map, resample_labels
from unetr_nnunet.images.nifti import nifti_image
from unetr_nnunet.images.orientation import ras_affine, to_orientation

COARSE_SPACING_MM = 2.0
"""Label maps are thinned to about this for the 3-D view, which keeps four copies of them on the graphics card."""


def prepared_ct(ct: sitk.Image) -> sitk.Image:
    """Return a CT in RAS order and whole HU, int16; values that do not fit are cut off."""
    ct = to_orientation(ct, "RAS")
    if ct.GetPixelID() == sitk.sitkInt16:
        return ct
    limits = np.iinfo(np.int16)
    values = np.clip(np.rint(sitk.GetArrayViewFromImage(ct)), limits.min, limits.max)
    rounded = sitk.GetImageFromArray(values.astype(np.int16))
    rounded.CopyInformation(ct)
    return rounded


def read_mask(path: Path, ct: sitk.Image) -> tuple[sitk.Image, str]:
    """Read a label map onto the grid of a prepared CT.

    Returns:
        The labels, uint8; and a remark on how its own grid differs, "" if it does not.

    Raises:
        ValueError: the file cannot be read or is not a label map.
    """
    image, voxels = read_label_map(path)
    mask = to_orientation(image, "RAS")
    differences = "; ".join(grid_differences(mask, ct))
    if not differences:
        note = grid_note(mask, ct, "its CT")
        return mask, f"{path.name} {note}" if note else ""
    try:
        moved, _ = resample_labels(voxels, image, ct)
    except ValueError as error:
        raise ValueError(f"{path.name} cannot be shown: {error} ({differences})") from error
    on_grid = sitk.GetImageFromArray(moved.astype(np.uint8))
    on_grid.CopyInformation(ct)
    return on_grid, f"{path.name} lies on another grid than its CT ({differences}); shown where it lies"


def coarse(mask: sitk.Image) -> sitk.Image:
    """Return every n-th voxel of a label map along each axis, about ``COARSE_SPACING_MM`` apart."""
    steps = [max(1, round(COARSE_SPACING_MM / spacing_mm)) for spacing_mm in mask.GetSpacing()]
    return mask[:: steps[0], :: steps[1], :: steps[2]]


def nifti_bytes(image: sitk.Image) -> bytes:
    """Return an image as an uncompressed NIfTI-1 file."""
    content: bytes = nifti_image(sitk.GetArrayViewFromImage(image), ras_affine(image)).to_bytes()
    return content
