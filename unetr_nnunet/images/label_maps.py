"""Label maps: read one, write one, bring one to another grid.

The grid of a given spacing is that of MONAI's ``Orientation("RAS")`` and ``Spacing(pixdim, mode="nearest")``, with
which UNETR's repository prepares BTCV: it starts at the centre of the first voxel, and its last centre is the nearest
to that of the last voxel. A mask that was predicted on that grid therefore needs no resampling.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.images.files import volume_ending
from unetr_nnunet.images.grid import own_grid
from unetr_nnunet.images.itk_formats import itk_reason
from unetr_nnunet.images.nifti import write_nifti
from unetr_nnunet.images.orientation import ras_affine, to_orientation
from unetr_nnunet.images.read import read_volume, stored_voxels

HIGHEST_LABEL = 255
OUTSIDE = -1
"""Marks voxels that the resampled label map does not cover; no label is negative."""
MASK_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
"""Formats a mask can be written in, each a single file."""
UNORIENTED = "RAS"
"""The orientation assumed for a label map that has none: its partner on the same grid has none either."""


def read_label_map(path: Path) -> tuple[sitk.Image, npt.NDArray[np.uint8]]:
    """Read a label map.

    Returns:
        The image (for its geometry) and its voxels (Z, Y, X).

    Raises:
        ValueError: the file cannot be read, or a value is not an integer in 0..255.
        OSError: the file cannot be opened.
    """
    image = read_volume(path, label_values, UNORIENTED)
    return image, sitk.GetArrayFromImage(image)


def label_values(voxels: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
    """Return stored values as labels.

    Args:
        voxels: (Z, Y, X), of any type.
        name: of the file, for the message.

    Raises:
        ValueError: a value is not an integer in 0..255.
    """
    if voxels.dtype == np.uint8:
        return voxels
    if np.issubdtype(voxels.dtype, np.floating):
        broken = voxels[~(np.rint(voxels) == voxels)]  # NaN, too
        if broken.size:
            raise ValueError(f"{name} holds {broken[0]:g}, which is no label; labels are integers (is it an image?)")
    low, high = voxels.min().item(), voxels.max().item()
    if low < 0 or high > HIGHEST_LABEL:
        values = f"{low:g}..{high:g}" if isinstance(low, float) else f"{low}..{high}"
        raise ValueError(f"{name} holds labels {values}; they must be in 0..{HIGHEST_LABEL} (is it an image?)")
    return voxels.astype(np.uint8)


def write_mask(mask: sitk.Image, path: Path) -> None:
    """Write a label map in the format of the file's ending, compressed where the format can be, whole or not at all.

    Size, spacing, origin and direction are those of ``mask``; where it was made for an image whose direction had to be
    mended (`unetr_nnunet.images.grid.copy_place`), the direction is that of the image's file. A NIfTI file gets them
    in millimetres, as qform and sform, rounded to float32 by the format.

    Args:
        mask: 3-D label image, uint8, or uint16 for labels over 255.
        path: file to write, ending with one of ``MASK_ENDINGS``; its folder is made if missing.

    Raises:
        ValueError: the ending is not one of ``MASK_ENDINGS``, or the image is not a label map of that kind.
        OSError: the file cannot be written.
    """
    if not path.name.endswith(MASK_ENDINGS):
        raise ValueError(f"{path.name} names no mask format; choose one of {', '.join(MASK_ENDINGS)}")
    if mask.GetPixelID() not in (sitk.sitkUInt8, sitk.sitkUInt16) or mask.GetDimension() != 3:
        raise ValueError(
            f"{path.name}: a mask is a 3-D image of uint8 or uint16, not a {mask.GetDimension()}-D one of "
            f"{mask.GetPixelIDTypeAsString()}"
        )
    voxels = sitk.GetArrayViewFromImage(mask)
    with atomic_path(path) as temporary:
        try:
            _write(mask, voxels, temporary)
            whole = np.array_equal(stored_voxels(temporary), voxels)
        except RuntimeError as error:
            raise OSError(f"{path} cannot be written: {itk_reason(error)}") from error
        except ValueError:
            whole = False
        if not whole:  # ITK's NIfTI writer says nothing when the disk is full
            raise OSError(f"{path} cannot be written whole: make room on the disk")


def _write(mask: sitk.Image, voxels: npt.NDArray[np.uint8 | np.uint16], path: Path) -> None:
    direction = own_grid(mask).direction.ravel().tolist()
    is_nifti = ".nii" in volume_ending(path)
    if is_nifti and direction != list(mask.GetDirection()):  # SimpleITK would write the nearest right angles
        write_nifti(voxels, ras_affine(mask), path)
        return
    plain = sitk.Image(mask)
    plain.SetDirection(direction)
    for key in plain.GetMetaDataKeys():
        plain.EraseMetaData(key)
    sitk.WriteImage(plain, str(path), useCompression=not path.name.endswith(".nii"))


def respaced_grid(image: sitk.Image, spacing_mm: Sequence[float]) -> sitk.Image:
    """Return an empty image that covers the same space with another spacing.

    Args:
        image: any volume; a view of it with axes to the right, to the front and upwards (RAS) sets the grid.
        spacing_mm: (right-left, front-back, head-foot).
    """
    oriented = to_orientation(image, "RAS")
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
