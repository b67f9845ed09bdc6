import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from tests.images.scans import hounsfield, volume
from unetr_nnunet.images.grid import grid_differences
from unetr_nnunet.images.nifti_volume import read_nifti

SHAPE_XYZ = (5, 4, 3)
DIM, DATATYPE, PIXDIM, SCALING, FORM_CODES, SFORM = 40, 70, 76, 112, 252, 280
"""Byte offsets in a NIfTI-1 header."""


def voxels(dtype: type = np.int16) -> np.ndarray:
    """(X, Y, Z)."""
    return (np.arange(60).reshape(SHAPE_XYZ) * 7).astype(dtype)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.name.lower().endswith(".gz") else content)
    return path


def nifti_bytes(array: np.ndarray, affine: np.ndarray | None = None) -> bytearray:
    return bytearray(nibabel.Nifti1Image(array, np.diag([1, 2, 3, 1]) if affine is None else affine).to_bytes())


def put(content: bytearray, offset: int, kind: str, *values: float) -> bytearray:
    packed = struct.pack(f"<{len(values)}{kind}", *values)
    content[offset : offset + len(packed)] = packed
    return content


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "SCAN.NII.GZ"])
def test_what_simpleitk_wrote_is_read_alike(tmp_path: Path, name: str) -> None:
    image = sitk.DICOMOrient(volume(), "SAR")
    path = tmp_path / name
    sitk.WriteImage(image, str(tmp_path / name.lower()))
    (tmp_path / name.lower()).rename(path)
    result = read_nifti(path)
    assert np.array_equal(sitk.GetArrayFromImage(result), sitk.GetArrayFromImage(image))
    assert grid_differences(result, image) == []
    assert result.GetDirection() == sitk.ReadImage(str(path)).GetDirection()


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (np.int16, sitk.sitkInt16),
        (np.uint8, sitk.sitkInt16),
        (np.int8, sitk.sitkInt16),
        (np.uint16, sitk.sitkInt16),
        (np.int32, sitk.sitkInt16),
        (np.int64, sitk.sitkInt16),
        (">i2", sitk.sitkInt16),
        (np.float32, sitk.sitkFloat32),
        (">f8", sitk.sitkFloat32),
    ],
)
def test_every_type_of_number(tmp_path: Path, stored: type, read: int) -> None:
    array = (voxels() % 100).astype(stored)
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4), dtype=array.dtype), path)
    result = read_nifti(path)
    assert result.GetPixelID() == read
    assert np.array_equal(sitk.GetArrayFromImage(result).T, array)


@pytest.mark.parametrize(
    ("slope", "intercept", "read"),
    [(1, -1024, sitk.sitkInt16), (2, 0, sitk.sitkInt16), (0.5, 3, sitk.sitkFloat32), (100, 0, sitk.sitkInt32)],
)
def test_the_header_s_scaling_is_applied_as_nibabel_does(
    tmp_path: Path, slope: float, intercept: float, read: int
) -> None:
    path = write(tmp_path / "scan.nii", put(nifti_bytes(voxels()), SCALING, "f", slope, intercept))
    if read == sitk.sitkInt32:
        path = write(path, put(nifti_bytes(voxels() + 1000), SCALING, "f", slope, intercept))
    result = read_nifti(path)
    assert result.GetPixelID() == read
    assert np.array_equal(sitk.GetArrayFromImage(result).T, nibabel.load(path).get_fdata())


@pytest.mark.parametrize("slope", [0, np.nan])
def test_no_slope_is_no_scaling(tmp_path: Path, slope: float) -> None:
    path = write(tmp_path / "scan.nii", put(nifti_bytes(voxels()), SCALING, "f", slope, 7))
    assert np.array_equal(sitk.GetArrayFromImage(read_nifti(path)).T, voxels())


def test_trailing_axes_of_length_one_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels()[..., None, None], np.diag([1, 2, 3, 1])), path)
    result = read_nifti(path)
    assert result.GetSpacing() == (1, 2, 3)
    assert np.array_equal(sitk.GetArrayFromImage(result).T, voxels())


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 1, 3), (2, 2, 5000), (4, 4, 1)])
def test_extreme_shapes(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.int16), np.eye(4)), path)
    assert read_nifti(path).GetSize() == shape


def refused(path: Path, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        read_nifti(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_cut_short_anywhere(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"scan{ending}"
    sitk.WriteImage(volume(), str(path))
    content = path.read_bytes()
    for kept in (0, 1, 100, 347, 350, len(content) // 2, len(content) - 9, len(content) - 1):
        path.write_bytes(content[:kept])
        refused(path, "gzip|NIfTI|bytes")


def test_damage_inside_the_gzip_stream(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    sitk.WriteImage(volume(np.random.default_rng(0).integers(-9, 9, (20, 30, 30)).astype(np.int16)), str(path))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    refused(path, "gzip")


def test_a_sound_gzip_of_a_short_file(tmp_path: Path) -> None:
    refused(write(tmp_path / "scan.nii.gz", nifti_bytes(voxels())[:-2]), "118 bytes of voxels .* promises 120")


def test_a_header_without_voxels(tmp_path: Path) -> None:
    refused(write(tmp_path / "scan.nii", nifti_bytes(voxels())[:352]), "holds 0 bytes of voxels")
    refused(write(tmp_path / "scan.nii", put(nifti_bytes(voxels()), DIM + 2, "h", 5, 4, 0)), r"holds no voxels")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_not_finite(tmp_path: Path, bad: float, dtype: type) -> None:
    array = voxels(dtype)
    array[1, 2, 1] = bad
    if dtype is np.float64:
        array[2, 2, 1] = 1e300
        refused(write(tmp_path / "scan.nii.gz", nifti_bytes(array)), "2 voxels that are NaN or infinite")
        array[2, 2, 1] = 0
    refused(write(tmp_path / "scan.nii.gz", nifti_bytes(array)), "1 voxels that are NaN or infinite")


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda b: put(b, DIM, "h", 2, 15, 4), "2-dimensional"),
        (lambda b: put(b, DIM, "h", 4, 5, 4, 1, 3), "4-dimensional"),
        (lambda b: put(b, DIM, "h", 3, 32767, 32767, 32767), "cut short: its header promises"),
        (lambda b: put(b, DIM, "h", 3, -5, 4, 3), "no voxels|unreadable"),
        (lambda b: put(b, DATATYPE, "h", 9999), "unreadable NIfTI header"),
        (lambda b: put(b, PIXDIM + 8, "f", 0), "voxels of 1 x 0 x 3 mm; each must be above 0"),
        (lambda b: put(b, PIXDIM + 12, "f", -3), "voxels of 1 x 2 x -3 mm; each must be above 0"),
        (lambda b: put(b, PIXDIM + 12, "f", np.nan), "voxels of 1 x 2 x nan mm"),
        (lambda b: put(b, PIXDIM + 12, "f", 4), "contradicts itself"),
        (lambda b: put(b, FORM_CODES, "h", 0, 0), "does not say how it is oriented"),
        (lambda b: put(b, SFORM, "f", 0, 0, 0, 0), "geometry|contradicts"),
        (lambda b: put(b, SFORM, "f", np.nan), "geometry|contradicts"),
        (lambda b: put(b, SFORM + 12, "f", np.inf), "geometry|contradicts"),
        (lambda b: put(b, SCALING, "f", 2, np.nan), "no usable scaling"),
    ],
)
def test_a_wrong_header(tmp_path: Path, edit: Callable[[bytearray], bytearray], reason: str) -> None:
    refused(write(tmp_path / "scan.nii.gz", edit(nifti_bytes(voxels()))), reason)


def test_axes_that_are_not_at_right_angles(tmp_path: Path) -> None:
    sheared = np.diag([1.0, 2, 3, 1])
    sheared[0, 1] = 0.2
    refused(write(tmp_path / "scan.nii", nifti_bytes(voxels(), sheared)), "orthonormal|right angles")
    image = nibabel.Nifti1Image(voxels(), np.diag([1, 2, 3, 1]))
    image.set_qform(np.diag([1, 2, 3, 1]), 1)
    image.set_sform(sheared, 1)
    refused(write(tmp_path / "both.nii", bytearray(image.to_bytes())), "orthonormal|right angles|qform and sform place")


def two_forms(path: Path, qform: np.ndarray, sform: np.ndarray, codes: tuple[int, int] = (1, 1)) -> Path:
    image = nibabel.Nifti1Image(voxels(), sform)
    image.set_qform(qform, codes[0])
    image.set_sform(sform, codes[1])
    return write(path, bytearray(image.to_bytes()))


@pytest.mark.parametrize(
    ("change", "codes"),
    [((-1, 1, 1, 0), (1, 1)), ((1, 1, 1, 50), (1, 1)), ((-1, -1, 1, 0), (1, 4)), ((1, 1, 1, 1.2), (2, 1))],
)
def test_qform_and_sform_that_disagree(
    tmp_path: Path, change: tuple[float, float, float, float], codes: tuple[int, int]
) -> None:
    qform = np.diag([change[0], 2 * change[1], 3 * change[2], 1.0])
    qform[0, 3] = change[3]
    path = two_forms(tmp_path / "scan.nii", qform, np.diag([1.0, 2, 3, 1]), codes)
    refused(path, "its qform and sform place it .* mm apart; set the code of the wrong one to 0, or correct it")


def test_qform_and_sform_that_agree_but_for_rounding(tmp_path: Path) -> None:
    turn = np.diag([1.0, 2, 3, 1])
    turn[0, 3] = 0.3
    path = two_forms(tmp_path / "scan.nii", turn, np.diag([1.0, 2, 3, 1]))
    assert read_nifti(path).GetSize() == SHAPE_XYZ


@pytest.mark.parametrize("codes", [(0, 1), (1, 0)])
def test_a_form_whose_code_is_0_is_not_looked_at(tmp_path: Path, codes: tuple[int, int]) -> None:
    path = two_forms(tmp_path / "scan.nii", np.diag([-1.0, -2, 3, 1]), np.diag([1.0, 2, 3, 1]), codes)
    x = -1 if codes[1] else 1  # LPS
    assert read_nifti(path).GetDirection() == (x, 0, 0, 0, x, 0, 0, 0, 1)


def test_more_than_one_value_a_voxel(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True)
    sitk.WriteImage(image, str(tmp_path / "rgb.nii.gz"))
    refused(tmp_path / "rgb.nii.gz", "5-dimensional|colour")
    colour = np.zeros(SHAPE_XYZ, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    refused(write(tmp_path / "colour.nii", nifti_bytes(colour)), "holds a colour image")
    refused(write(tmp_path / "complex.nii", nifti_bytes(voxels(np.complex64))), "holds complex values")


def test_other_files_under_its_name(tmp_path: Path) -> None:
    refused(write(tmp_path / "text.nii", b"no image at all" * 100), "NIfTI")
    path = tmp_path / "text.nii.gz"
    path.write_bytes(b"no image at all" * 100)
    refused(path, "NIfTI")
    path = tmp_path / "packed.nii"
    path.write_bytes(gzip.compress(nifti_bytes(voxels())))
    refused(path, r"is gzipped; name it \.nii\.gz")
    nibabel.save(nibabel.Nifti2Image(voxels(), np.eye(4)), tmp_path / "two.nii")
    refused(tmp_path / "two.nii", "NIfTI-1")


def test_the_real_ct(real_ct: Path) -> None:
    path = real_ct / "abdomen_3mm" / "ct.nii.gz"
    image, reference = read_nifti(path), sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(reference))
    for what in ("Size", "Spacing", "Origin", "Direction"):
        assert getattr(image, f"Get{what}")() == getattr(reference, f"Get{what}")()


def test_hand_made_voxels_differ() -> None:
    assert len(np.unique(hounsfield())) == hounsfield().size
