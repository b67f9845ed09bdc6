"""Which way the axes of an image run, and how to turn it: axes are permuted and flipped, never interpolated.

A code such as "RAS" names the end of the patient that the x, the y and the z axis run to, in this order: nibabel's axis
codes and ITK's ``DICOMOrient`` agree in that. Arrays have the axes (Z, Y, X).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from nibabel.affines import from_matvec
from nibabel.orientations import aff2axcodes, apply_orientation, axcodes2ornt, io_orientation, ornt_transform

from unetr_nnunet.images.grid import LPS_TO_RAS, copy_place, own_grid

_PARALLEL_TOLERANCE = 0.01
"""Of direction cosines: those of images that were not read by us may be rounded."""


def refuse_wrong_code(code: str) -> None:
    """Refuse what is no orientation.

    Raises:
        ValueError: it is not an orientation.
    """
    if len(code) != 3 or any(len(set(code) & set(axis)) != 1 for axis in ("LR", "PA", "IS")):
        raise ValueError(f'"{code}" is no orientation; three letters such as "RAS" or "LPS" are')


def directions(code: str) -> npt.NDArray[np.float64]:
    """Return the axes x, y, z of an orientation as columns (3, 3) in LPS."""
    refuse_wrong_code(code)
    return np.reshape(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(code), (3, 3))


def orientation_code(image: sitk.Image) -> str:
    """Return the nearest orientation of a 3-D image's axes, such as "LPS" for an identity direction."""
    return str(sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection()))


def array_orientation(properties: dict[str, Any]) -> str:
    """Return the orientation code of a case's array as nnU-Net's image reader returned it.

    Args:
        properties: the case's properties as nnU-Net stores them beside its preprocessed data.

    Returns:
        Three letters for x, y, z; of an oblique image, the nearest ones.

    Raises:
        ValueError: the properties hold no direction.
    """
    if "nibabel_stuff" in properties:
        stuff = properties["nibabel_stuff"]
        columns = np.asarray(stuff.get("reoriented_affine", stuff["original_affine"]))[:3, :3]
    elif "sitk_stuff" in properties and len(properties["sitk_stuff"]["direction"]) == 9:
        columns = LPS_TO_RAS[:3, :3] @ np.reshape(properties["sitk_stuff"]["direction"], (3, 3))
    else:
        raise ValueError(
            f"no direction among the properties {sorted(properties)}: left and right are unknown to this image reader"
        )
    return "".join(aff2axcodes(from_matvec(columns)))


def common_orientation(cases: Iterable[tuple[str, dict[str, Any]]]) -> str | None:
    """Return the orientation code that all cases share; None where they differ or one has no direction.

    Args:
        cases: (name, properties) of each case.
    """
    codes: set[str] = set()
    for _, properties in cases:
        try:
            codes.add(array_orientation(properties))
        except ValueError:
            return None
        if len(codes) > 1:
            return None
    return codes.pop() if codes else None


def ras_affine(image: sitk.Image) -> npt.NDArray[np.float64]:
    """Return nibabel's affine (4, 4) of an image, from voxels x, y, z to RAS in mm, as its file described it."""
    return np.asarray(LPS_TO_RAS @ own_grid(image).affine())


def to_orientation(image: sitk.Image, code: str) -> sitk.Image:
    """Return an image with its axes permuted and flipped to the nearest ones of an orientation.

    Args:
        image: 3-D; oblique directions stay oblique.
        code: the world axes that x, y and z of the result run to, such as "RAS" or "LPS" (an identity direction).

    Raises:
        ValueError: the code is no orientation.
    """
    refuse_wrong_code(code)
    return image if orientation_code(image) == code else sitk.DICOMOrient(image, code)


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
    voxels = apply_orientation(mask.T, io_orientation(from_matvec(turned))).T  # signs and places of reoriented's axes
    fits = mask.shape[::-1] == reoriented.GetSize() and voxels.shape[::-1] == original.GetSize()
    if not fits or np.abs(turned - np.rint(turned)).max() > _PARALLEL_TOLERANCE:
        raise ValueError(
            f"a mask of {mask.shape} (z, y, x) on a grid of {reoriented.GetSize()} (x, y, z) does not belong to an "
            f"image of {original.GetSize()} (x, y, z)"
        )
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels))
    copy_place(image, original)
    return image


def lps_view(image: sitk.Image) -> tuple[npt.NDArray[Any], tuple[float, ...]]:
    """Return a view of the voxels (Z, Y, X), z upwards, y to the back, x to the patient's left; and its spacing, mm.

    The view is of the image's own memory, which must be kept as long.
    """
    orientation = io_orientation(from_matvec(np.reshape(image.GetDirection(), (3, 3))))
    view = apply_orientation(sitk.GetArrayViewFromImage(image).T, orientation).T
    spacing_mm = dict(zip(orientation[:, 0], image.GetSpacing(), strict=True))
    return view, (spacing_mm[2], spacing_mm[1], spacing_mm[0])


def turn_axes(values: npt.NDArray[Any], code: str, wanted: str) -> npt.NDArray[Any]:
    """Return (K, Z, Y, X) with its axes turned from one orientation to another, a view.

    Args:
        values: one array of voxels for each of K outputs.
        code: orientation of its axes, such as "RAS".
        wanted: that of the result.
    """
    turn = ornt_transform(axcodes2ornt(code), axcodes2ornt(wanted))
    by_axes = values.transpose(3, 2, 1, 0)  # (X, Y, Z, K)
    return np.asarray(apply_orientation(by_axes, turn)).transpose(3, 2, 1, 0)
