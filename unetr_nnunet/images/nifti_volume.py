"""Read a NIfTI volume: geometry as SimpleITK understands it, voxels ourselves.

SimpleITK fills a file that was cut short with zeros and reads NaN as 0, both without a word; and it takes whichever of
the header's two geometries it likes better.
"""

import gzip
import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from nibabel.spatialimages import HeaderDataError

from unetr_nnunet.images.itk_volume import itk_reason
from unetr_nnunet.images.nifti_stream import open_nifti
from unetr_nnunet.images.voxel_values import compact, refuse_not_finite

GEOMETRY_TOLERANCE_MM = 0.1
"""The header's two geometries may place a voxel this far apart: below a voxel, above what quaternions round off."""
FORMS_TOLERANCE_VOXELS = 1.0
"""The smallest side of a voxel counts. A quaternion near half a turn rounds a qform by up to half of it."""
EXACT_IN_FLOAT32 = 2**24
LPS_FROM_RAS = np.diag((-1.0, -1.0, 1.0))
MOST_COMPRESSED = 1040
"""gzip packs 1032 bytes into one at best; a header that promises more is wrong."""


def read_nifti(path: Path) -> sitk.Image:
    """Read a volume, gzipped or not.

    Args:
        path: of a ``.nii`` or ``.nii.gz`` file.

    Returns:
        The image, 3-D, scaling applied: integers as int16 or int32, everything else as float32.

    Raises:
        ValueError: damaged, cut short, not one 3-D volume of single finite values, or without a clear geometry.
    """
    gzipped = _is_gzipped(path)
    with path.open("rb") as stream:
        try:
            if gzipped and path.suffix.lower() != ".gz":
                raise ValueError("is gzipped; name it .nii.gz")
            header, pieces = open_nifti(stream, gzipped)
            shape = _shape(header)
            scaling = _scaling(header)
            needed_bytes = math.prod(shape) * header.get_data_dtype().itemsize
            if needed_bytes > path.stat().st_size * MOST_COMPRESSED:
                raise ValueError(f"is cut short: its header promises {needed_bytes} bytes of voxels")
            geometry = _geometry(path, header, shape)
            voxels = _voxels(pieces, header.get_data_dtype(), shape, scaling)
        except ValueError as error:
            raise ValueError(f"{path} {error}") from error
    refuse_not_finite(voxels, str(path))
    image = sitk.GetImageFromArray(compact(voxels))
    image.SetSpacing(geometry.GetSpacing()[:3])
    image.SetOrigin(geometry.GetOrigin()[:3])
    dimension = geometry.GetDimension()
    image.SetDirection(np.reshape(geometry.GetDirection(), (dimension, dimension))[:3, :3].ravel())
    return image


def _shape(header: Any) -> tuple[int, int, int]:
    """Return the voxels along x, y, z."""
    shape = tuple(header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise ValueError(f"is {len(shape)}-dimensional (shape {shape}); one 3-D volume is needed")
    if min(shape) < 1:
        raise ValueError(f"holds no voxels (shape {shape})")
    kind = header.get_data_dtype().kind
    if kind not in "iuf":
        name = "complex values" if kind == "c" else "a colour image"
        raise ValueError(f"holds {name}; one real number a voxel is needed")
    return shape


def _scaling(header: Any) -> tuple[float, float]:
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise ValueError(f"has no usable scaling: {error}") from error
    return (1.0, 0.0) if slope is None else (float(slope), float(intercept))


def _geometry(path: Path, header: Any, shape: tuple[int, int, int]) -> sitk.ImageFileReader:
    """Return a reader that knows the geometry, which must be the one that the whole header agrees on."""
    zooms_mm = _stored_zooms_mm(path)
    if not np.isfinite(zooms_mm).all() or min(zooms_mm) <= 0:
        raise ValueError(f"has voxels of {_list(zooms_mm)} mm; each must be above 0")
    if int(header["qform_code"]) <= 0 and int(header["sform_code"]) <= 0:
        raise ValueError("does not say how it is oriented (qform and sform codes are 0); set one of them")
    corners = np.array([(*corner, 1) for corner in itertools.product(*((0, size - 1) for size in shape))])
    _refuse_two_places(header, corners)
    affine = np.asarray(header.get_best_affine(), np.float64)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ValueError(f"has no usable geometry: {itk_reason(error)}") from error
    dimension = reader.GetDimension()
    direction = np.reshape(reader.GetDirection(), (dimension, dimension))[:3, :3]
    read = np.eye(4)
    read[:3] = LPS_FROM_RAS @ np.column_stack([direction * reader.GetSpacing()[:3], reader.GetOrigin()[:3]])
    off_mm = _apart_mm(corners, affine, read)
    if not off_mm <= GEOMETRY_TOLERANCE_MM:
        fact = (
            f"qform, sform and voxel size place its corners {off_mm:.3g} mm apart, or its axes are not at right angles"
        )
        raise ValueError(f"contradicts itself: {fact}; resample it, or correct its header")
    return reader


def _refuse_two_places(header: Any, corners: npt.NDArray[np.int64]) -> None:
    """Refuse a header whose qform and sform are both given and place the volume differently."""
    if int(header["qform_code"]) <= 0 or int(header["sform_code"]) <= 0:
        return
    try:
        off_mm = _apart_mm(corners, header.get_qform(), header.get_sform())
    except HeaderDataError as error:
        raise ValueError(f"has no usable qform: {error}; set its code to 0 or correct it") from error
    limit_mm = FORMS_TOLERANCE_VOXELS * float(min(header.get_zooms()[:3]))
    if not off_mm <= limit_mm:
        remedy = "set the code of the wrong one to 0, or correct it"
        raise ValueError(f"contradicts itself: its qform and sform place it {off_mm:.3g} mm apart; {remedy}")


def _apart_mm(
    corners: npt.NDArray[np.int64], one: npt.NDArray[np.floating[Any]], other: npt.NDArray[np.floating[Any]]
) -> float:
    """Return the largest distance between the places that two affines give the corners."""
    return float(np.linalg.norm((corners @ (one - other).T)[:, :3], axis=1).max())


def _stored_zooms_mm(path: Path) -> npt.NDArray[np.float64]:
    """Return the voxel size along x, y, z as it is written; nibabel and SimpleITK make 1 of 0 and drop a sign."""
    with gzip.open(path) if _is_gzipped(path) else path.open("rb") as stream:
        header = nibabel.Nifti1Header.from_fileobj(stream, check=False)
    return np.asarray(header["pixdim"][1:4], np.float64)


def _is_gzipped(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def _list(numbers: Iterable[float]) -> str:
    return " x ".join(f"{number:.6g}" for number in numbers)


def _voxels(
    pieces: Iterable[npt.NDArray[Any]], stored: np.dtype[Any], shape: tuple[int, int, int], scaling: tuple[float, float]
) -> npt.NDArray[Any]:
    """Return the voxels (Z, Y, X), scaled: integers where both the stored values and the scaling are."""
    plain = scaling == (1.0, 0.0)
    voxels = np.empty(math.prod(shape), stored.newbyteorder("=") if plain else np.float32)
    filled = 0
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
        for piece in pieces:
            end = filled + len(piece)
            voxels[filled:end] = piece if plain else piece * scaling[0] + scaling[1]
            filled = end
    whole = stored.kind != "f" and not plain and all(number.is_integer() for number in scaling)
    if whole and np.abs(voxels).max() < EXACT_IN_FLOAT32:
        voxels = voxels.astype(np.int32)
    return voxels.reshape(shape[::-1])
