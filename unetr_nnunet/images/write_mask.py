"""Write a label map as a volume file, whole or not at all."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from unetr_nnunet.atomic import atomic_path

MASK_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
"""Formats a mask can be written in, each a single file."""


def write_mask(mask: sitk.Image, path: Path) -> None:
    """Write a label map in the format of the file's ending, compressed where the format can be.

    Size, spacing, origin and direction are those of ``mask``. A NIfTI file gets them as SimpleITK writes them: in
    millimetres, as qform and sform, rounded to float32 by the format.

    Args:
        mask: 3-D label image, uint8, or uint16 for labels over 255.
        path: file to write, ending with one of ``MASK_ENDINGS``; its folder is made if missing.

    Raises:
        ValueError: the ending is none of ``MASK_ENDINGS``, or the image is no label map of that kind.
        OSError: the file cannot be written.
    """
    if not path.name.endswith(MASK_ENDINGS):
        raise ValueError(f"{path.name} names no mask format; choose one of {', '.join(MASK_ENDINGS)}")
    if mask.GetPixelID() not in (sitk.sitkUInt8, sitk.sitkUInt16) or mask.GetDimension() != 3:
        raise ValueError(
            f"{path.name}: a mask is a 3-D image of uint8 or uint16, not a {mask.GetDimension()}-D one of "
            f"{mask.GetPixelIDTypeAsString()}"
        )
    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(mask, str(temporary), useCompression=not path.name.endswith(".nii"))
        except RuntimeError as error:
            raise OSError(f"{path} cannot be written: {str(error).strip().splitlines()[-1]}") from error
        if not _holds(temporary, mask):  # ITK's NIfTI writer says nothing when the disk is full
            raise OSError(f"{path} cannot be written whole: make room on the disk")


def _holds(path: Path, mask: sitk.Image) -> bool:
    try:
        written = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except RuntimeError:
        return False
    return np.array_equal(written, sitk.GetArrayViewFromImage(mask))
