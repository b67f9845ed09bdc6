"""Bring an image to the orientation that a model was trained in, and its mask back to the image's own grid.

Axes are permuted and flipped, never interpolated: every voxel keeps its place in the world.
"""

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

PARALLEL_TOLERANCE = 0.01
"""Direction cosines of real files are orthonormal to within a tenth of this."""


def to_orientation(image: sitk.Image, code: str) -> sitk.Image:
    """Return an image with its axes permuted and flipped to the nearest ones of an orientation.

    Args:
        image: 3-D; oblique directions stay oblique.
        code: the world axes that x, y and z of the result run to, such as "RAS" or "LPS" (an identity direction).

    Raises:
        ValueError: the code is no orientation.
    """
    if len(code) != 3 or any(len(set(code) & set(axis)) != 1 for axis in ("LR", "PA", "IS")):
        raise ValueError(f'"{code}" is no orientation; three letters such as "RAS" or "LPS" are')
    if orientation_code(image) == code:
        return image
    return sitk.DICOMOrient(image, code)


def orientation_code(image: sitk.Image) -> str:
    """Return the nearest orientation of a 3-D image's axes, such as "LPS" for an identity direction."""
    return sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())


def like_input(mask: npt.NDArray[np.uint8 | np.uint16], reoriented: sitk.Image, original: sitk.Image) -> sitk.Image:
    """Return a mask on the grid of the image that was reoriented for it.

    Args:
        mask: (Z, Y, X) on the grid of ``reoriented``.
        reoriented: what `to_orientation` made of ``original``.
        original: the image whose size, spacing, origin and direction the result has exactly.

    Raises:
        ValueError: the mask does not lie on ``reoriented``, or that is no reorientation of ``original``.
    """
    turned = np.reshape(original.GetDirection(), (3, 3)).T @ np.reshape(reoriented.GetDirection(), (3, 3))
    signs = np.rint(turned)  # (original's axis, reoriented's axis), x y z: 1 or -1 where they are parallel
    is_permutation = (np.abs(signs).sum(axis=0) == 1).all() and (np.abs(signs).sum(axis=1) == 1).all()
    axes = np.abs(signs).argmax(axis=1)  # for each of the original's axes the reoriented's
    sizes = (mask.shape[::-1], reoriented.GetSize(), tuple(original.GetSize()[axis] for axis in np.argsort(axes)))
    if not is_permutation or np.abs(turned - signs).max() > PARALLEL_TOLERANCE or len(set(sizes)) != 1:
        raise ValueError(
            f"a mask of {mask.shape} (z, y, x) on a grid of {reoriented.GetSize()} (x, y, z) does not belong to an "
            f"image of {original.GetSize()} (x, y, z)"
        )
    voxels = mask.transpose([2 - axis for axis in axes[::-1]])
    flipped = tuple(array_axis for array_axis in range(3) if signs[2 - array_axis].sum() < 0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(np.flip(voxels, flipped)))
    image.CopyInformation(original)
    return image
