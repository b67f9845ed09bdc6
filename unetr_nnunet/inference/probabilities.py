"""Probabilities of a case in the files that ``nnUNetv2_ensemble`` reads.

nnU-Net averages the arrays of several folders, takes the labels of the mean, and gives them to the plans' reader class
with the properties stored beside the first array (``nnunetv2.ensembling.ensemble.merge_files``). Nothing is reoriented
in between: the arrays must have the axes that this reader returns images in, and the properties what it stores.
"""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from nibabel.affines import voxel_sizes
from nibabel.orientations import inv_ornt_aff, io_orientation
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO, SimpleITKIOWithReorient

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.images.orientation import orientation_code, ras_affine, to_orientation


def write_probabilities(stem: Path, probabilities: npt.NDArray[np.floating[Any]], properties: dict[str, Any]) -> None:
    """Write ``<stem>.npz`` (key ``probabilities``, float16) and ``<stem>.pkl`` (the properties), each whole or absent.

    The array is converted and compressed slice by slice, without a float16 copy of it. The properties are written
    first: where there is an ``.npz``, which nnU-Net looks for, there is all of it.

    Args:
        stem: output path without an ending; dots in its name are kept.
        probabilities: softmax of the classes, or sigmoid of the regions (K, Z, Y, X). The axes Z, Y, X are those of the
            arrays that the model's reader returns: RAS (x grows towards the patient's right, y to the front, z to the
            head) for ``NibabelIOWithReorient`` and ``SimpleITKIOWithReorient``, those of the file for ``SimpleITKIO``
            and ``NibabelIO`` (see `reader_orientation`); not transposed by the plans' ``transpose_forward``.
        properties: what the reader stored of the image, see `reader_properties`.
    """
    with atomic_path(stem.with_name(f"{stem.name}.pkl")) as temporary:
        temporary.write_bytes(pickle.dumps(properties))
    header = {"descr": "<f2", "fortran_order": False, "shape": probabilities.shape}
    with (
        atomic_path(stem.with_name(f"{stem.name}.npz")) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("probabilities.npy", "w", force_zip64=True) as stream,
    ):
        np.lib.format.write_array_header_1_0(stream, header)
        for class_probabilities in probabilities:
            for one_slice in class_probabilities:
                stream.write(one_slice.astype("<f2").tobytes())


def reader_orientation(reader_class: type, original: sitk.Image) -> str:
    """Return the orientation code of the arrays that a reader of nnU-Net's makes of an image.

    Args:
        reader_class: ``plans.image_reader_writer_class`` of the model.
        original: the image as read by SimpleITK, not reoriented.
    """
    if issubclass(reader_class, NibabelIOWithReorient | SimpleITKIOWithReorient):
        return "RAS"
    return orientation_code(original)


def reader_properties(reader_class: type, original: sitk.Image) -> dict[str, Any]:
    """Return what a reader of nnU-Net's stores of an image, so that its ``write_seg`` puts a mask in the right place.

    Args:
        reader_class: ``plans.image_reader_writer_class`` of the model.
        original: the image as read by SimpleITK, not reoriented. Only its geometry is used, so that it may come from
            a format that the reader itself does not know.

    Returns:
        ``spacing`` in mm along the axes (Z, Y, X) of the reader's arrays, and ``sitk_stuff`` or ``nibabel_stuff``.

    Raises:
        ValueError: the reader is not one of nnU-Net's four for medical volumes.
    """
    if issubclass(reader_class, SimpleITKIOWithReorient):
        return _reoriented_sitk_properties(original)
    if issubclass(reader_class, SimpleITKIO):
        return _sitk_properties(original)
    affine = ras_affine(original)
    if issubclass(reader_class, NibabelIOWithReorient):
        reoriented = affine @ inv_ornt_aff(io_orientation(affine), original.GetSize())
        return {
            "nibabel_stuff": {"original_affine": affine, "reoriented_affine": reoriented},
            "spacing": _spacing(reoriented),
        }
    if issubclass(reader_class, NibabelIO):
        return {"nibabel_stuff": {"original_affine": affine}, "spacing": _spacing(affine)}
    raise _unknown_reader(reader_class)


def refuse_reader(reader_class: type) -> None:
    """Refuse a reader whose properties `reader_properties` cannot tell.

    Raises:
        ValueError: it is not one of nnU-Net's four for medical volumes.
    """
    if not issubclass(reader_class, SimpleITKIO | NibabelIO | NibabelIOWithReorient):
        raise _unknown_reader(reader_class)


def _unknown_reader(reader_class: type) -> ValueError:
    return ValueError(
        f"probabilities cannot be saved for the image reader {reader_class.__name__} of this model's plans; "
        "SimpleITKIO, NibabelIO and their WithReorient kinds are supported"
    )


def _sitk_properties(image: sitk.Image) -> dict[str, Any]:
    stuff = {"spacing": image.GetSpacing(), "origin": image.GetOrigin(), "direction": image.GetDirection()}
    return {"sitk_stuff": stuff, "spacing": list(image.GetSpacing()[::-1])}


def _reoriented_sitk_properties(original: sitk.Image) -> dict[str, Any]:
    grid = sitk.Image(original.GetSize(), sitk.sitkUInt8)
    grid.CopyInformation(original)
    properties = _sitk_properties(to_orientation(grid, "RAS"))
    properties["sitk_stuff"]["original_orientation"] = orientation_code(original)
    return properties


def _spacing(affine: npt.NDArray[np.float64]) -> list[float]:
    """Return the voxel size (z, y, x), mm, rounded as a NIfTI header does."""
    return [float(np.float32(size)) for size in voxel_sizes(affine)[::-1]]
