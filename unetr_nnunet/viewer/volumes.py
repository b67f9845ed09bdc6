"""Volumes as the page gets them: NIfTI in RAS order, int16 for a CT, uint8 for a label map on the CT's grid."""

from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from unetr_nnunet.images.grid import grid_differences
from unetr_nnunet.images.label_files import read_label_map
from unetr_nnunet.images.label_resampling import resample_labels
from unetr_nnunet.nnunet.label_table import HIGHEST_LABEL

COARSE_SPACING_MM = 2.0
"""Label maps are thinned to about this for the 3-D view, which keeps four copies of them on the graphics card."""


def prepared_ct(ct: sitk.Image) -> sitk.Image:
    """Return a CT in RAS order and whole HU, int16; values that do not fit are cut off."""
    ct = sitk.DICOMOrient(ct, "RAS")
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
        The labels, uint8; and a word on how its own grid differs, "" where it does not.

    Raises:
        ValueError: the file cannot be read or is no label map of labels in 0..255.
    """
    image, voxels = read_label_map(path)
    low, high = (int(voxels.min()), int(voxels.max())) if voxels.size else (0, 0)
    if low < 0 or high > HIGHEST_LABEL:
        raise ValueError(f"{path} holds labels {low}..{high}; they must be in 0..{HIGHEST_LABEL} (is it an image?)")
    mask = sitk.GetImageFromArray(voxels.astype(np.uint8))
    mask.CopyInformation(image)
    mask = sitk.DICOMOrient(mask, "RAS")
    differences = "; ".join(grid_differences(mask, ct))
    if not differences:
        return mask, ""
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
    """Return an image as an uncompressed NIfTI-1 file. ITK's world is LPS, that of NIfTI is RAS."""
    to_ras = np.diag([-1.0, -1.0, 1.0])
    affine = np.eye(4)
    affine[:3, :3] = to_ras @ np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    affine[:3, 3] = to_ras @ np.array(image.GetOrigin())
    content: bytes = nibabel.Nifti1Image(sitk.GetArrayViewFromImage(image).T, affine).to_bytes()
    return content
