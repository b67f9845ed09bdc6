"""Read the images of a case, and refuse with a reason what is no sound 3-D scan.

A refusal costs one case of a run; an image that was read wrongly without a word would cost a patient's result.
"""

import numpy as np
import SimpleITK as sitk

from unetr_nnunet.images.cases import Case, in_utf8, volume_ending
from unetr_nnunet.images.dicom_series import read_series
from unetr_nnunet.images.grid import grid_differences
from unetr_nnunet.images.itk_volume import read_itk_volume
from unetr_nnunet.images.nifti_volume import read_nifti
from unetr_nnunet.images.voxel_values import compact

_LARGEST_EXTENT_MM = 3000.0
_SMALLEST_SPACING_MM = 0.01
_ORTHONORMAL_TOLERANCE = 1e-3


def read_case(case: Case) -> list[sitk.Image]:
    """Read the channels of a case.

    Returns:
        One 3-D scalar image a channel, on one grid: int16 or int32 where the file holds integers (a DICOM or NIfTI
        rescale applied), else float32, all values finite.

    Raises:
        ValueError: a channel is missing, damaged, no volume of single values, or on another grid; in one line.
        OSError: a file cannot be opened.
    """
    images = [_read_channel(case, channel) for channel in range(len(case.channels))]
    for channel, image in enumerate(images[1:], start=1):
        differences = grid_differences(image, images[0])
        if differences:
            path = case.channels[channel][0]
            raise ValueError(f"{path} lies on another grid than channel 0: {'; '.join(differences)}; resample it")
    return images


def _read_channel(case: Case, channel: int) -> sitk.Image:
    files = case.channels[channel]
    if not files:
        given = next((paths[0].name for paths in case.channels if paths), "nothing")
        expected = f"{case.name}_{channel:04d}.nii.gz (or another ending)"
        raise ValueError(f"channel {channel} of {len(case.channels)} has no file; {expected} belongs beside {given}")
    for path in files:
        if (name := in_utf8(str(path))) != str(path):  # SimpleITK would end the whole run
            raise ValueError(f"{name} has a name that is not UTF-8: rename the file, or the folder it lies in")
        if not path.is_file():
            raise ValueError(f"{path} is no file, or a link to none: put the file in its place or remove the name")
    if case.is_dicom:
        image = read_series(files)
    elif len(files) > 1:
        raise ValueError(f"channel {channel} has {len(files)} files, keep one: {', '.join(map(str, files))}")
    elif ".nii" in volume_ending(files[0]).lower():
        image = read_nifti(files[0])
    else:
        image = read_itk_volume(files[0])
    _refuse_wrong_geometry(image, str(files[0]))
    return image if image.GetPixelID() in (sitk.sitkInt16, sitk.sitkFloat32) else _compacted(image)


def _refuse_wrong_geometry(image: sitk.Image, name: str) -> None:
    spacing, origin = np.array(image.GetSpacing()), np.array(image.GetOrigin())
    direction = np.reshape(image.GetDirection(), (3, 3))
    if not (np.isfinite(spacing).all() and (spacing >= _SMALLEST_SPACING_MM).all()):
        fact = f"each must be {_SMALLEST_SPACING_MM} mm at least"
        raise ValueError(f"{name} has spacing {image.GetSpacing()} mm; {fact}: correct its spacing")
    extent_mm = spacing * image.GetSize()
    if extent_mm.max() > _LARGEST_EXTENT_MM:
        sides = " x ".join(f"{side:.0f}" for side in extent_mm)
        raise ValueError(f"{name} is {sides} mm large, more than any scanner's table: correct its spacing")
    if not np.isfinite(origin).all():
        raise ValueError(f"{name} has origin {image.GetOrigin()} mm; it must be finite")
    if not np.abs(direction.T @ direction - np.eye(3)).max() <= _ORTHONORMAL_TOLERANCE:
        raise ValueError(f"{name} has axes that are not at right angles: {image.GetDirection()}; resample it first")


def _compacted(image: sitk.Image) -> sitk.Image:
    smaller = sitk.GetImageFromArray(compact(sitk.GetArrayViewFromImage(image)))
    smaller.CopyInformation(image)
    return smaller
