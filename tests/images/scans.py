"""Hand-made scans: volumes written by SimpleITK and nibabel, DICOM series written by pydicom."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from unetr_nnunet.images.cases import Case
from unetr_nnunet.images.read import read_case, read_image

SHAPE_ZYX = (6, 8, 10)
SPACING_MM = (0.7, 0.8, 2.5)
ORIGIN_MM = (-50.0, 40.0, -110.0)
STORED_MINUS_HU = 1024

SliceEdit = Callable[[int, pydicom.Dataset], None]
"""Changes the data set of slice number ``int`` before it is written."""


def hounsfield(shape_zyx: tuple[int, int, int] = SHAPE_ZYX) -> np.ndarray:
    """(Z, Y, X) int16, each voxel another value where there are few."""
    return np.random.default_rng(0).permutation(np.prod(shape_zyx)).reshape(shape_zyx).astype(np.int16) - 1000


def volume(voxels: np.ndarray | None = None) -> sitk.Image:
    image = sitk.GetImageFromArray(hounsfield() if voxels is None else voxels)
    image.SetSpacing(SPACING_MM)
    image.SetOrigin(ORIGIN_MM)
    return image


def slice_dataset(number: int, stored: np.ndarray, uid: str) -> pydicom.Dataset:
    """A CT slice as pydicom writes it: unsigned, with an intercept, at its place in an upright stack."""
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = uid
    dataset.StudyInstanceUID = uid[:40] + ".1"
    dataset.FrameOfReferenceUID = uid[:40] + ".2"
    dataset.PatientID = "1"
    dataset.Modality = "CT"
    dataset.SeriesNumber = 3
    dataset.InstanceNumber = number + 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Rows, dataset.Columns = stored.shape
    dataset.PixelSpacing = [SPACING_MM[1], SPACING_MM[0]]
    dataset.SliceThickness = SPACING_MM[2]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [*ORIGIN_MM[:2], ORIGIN_MM[2] + number * SPACING_MM[2]]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -STORED_MINUS_HU
    dataset.PixelData = stored.astype("<u2").tobytes()
    return dataset


def write_series(
    folder: Path, edit: SliceEdit | None = None, voxels: np.ndarray | None = None, uid: str | None = None
) -> list[Path]:
    """Write a series, slices named against their order; returns the files in slice order.

    Args:
        folder: made if missing.
        edit: changes a slice; one whose ``SOPInstanceUID`` it deletes is not written.
        voxels: (Z, Y, X) Hounsfield units.
        uid: of the series.
    """
    folder.mkdir(parents=True, exist_ok=True)
    voxels = hounsfield() if voxels is None else voxels
    uid = uid or generate_uid()
    files = []
    for number, values in enumerate(voxels):
        dataset = slice_dataset(number, values.astype(np.int32) + STORED_MINUS_HU, uid)
        if edit:
            edit(number, dataset)
        if "SOPInstanceUID" not in dataset:
            continue
        files.append(folder / f"IM{len(voxels) - number:04d}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    return files


def stored(dataset: pydicom.Dataset) -> np.ndarray:
    return np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)


def read_series(files: Sequence[Path]) -> sitk.Image:
    return read_case(Case("series", (tuple(files),), True))[0]


def written(folder: Path, ending: str, compressed: bool, image: sitk.Image | None = None) -> tuple[Path, Path]:
    """Write an NRRD or MetaImage scan; returns its file and the one that holds the voxels."""
    path = folder / f"scan{ending}"
    sitk.WriteImage(volume() if image is None else image, str(path), compressed)
    others = [other for other in folder.iterdir() if other != path]
    return path, others[0] if others else path


def refuses(files: Sequence[Path], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        read_series(files)
    assert str(files[0].parent) in str(caught.value)
    assert "\n" not in str(caught.value)


def refuses_file(path: Path, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        read_image(path)
    assert "scan" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)
