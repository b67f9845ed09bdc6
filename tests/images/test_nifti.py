import gzip
import io
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from tests.images.scans import volume
from unetr_nnunet.images import compressed, nifti
from unetr_nnunet.images.cases import Case
from unetr_nnunet.images.compressed import DamagedFileError
from unetr_nnunet.images.grid import grid_differences, notes_of
from unetr_nnunet.images.orientation import ras_affine
from unetr_nnunet.images.read import read_case, read_image

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
    result = read_image(path)
    assert np.array_equal(sitk.GetArrayFromImage(result), sitk.GetArrayFromImage(image))
    assert grid_differences(result, image) == []


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
    result = read_image(path)
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
    result = read_image(path)
    assert result.GetPixelID() == read
    assert np.array_equal(sitk.GetArrayFromImage(result).T, nibabel.load(path).get_fdata())


@pytest.mark.parametrize("slope", [0, np.nan])
def test_no_slope_is_no_scaling(tmp_path: Path, slope: float) -> None:
    path = write(tmp_path / "scan.nii", put(nifti_bytes(voxels()), SCALING, "f", slope, 7))
    assert np.array_equal(sitk.GetArrayFromImage(read_image(path)).T, voxels())


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 1, 3), (2, 2, 5000), (4, 4, 1), (5, 4, 3, 1, 1)])
def test_extreme_shapes_and_trailing_axes_of_length_one(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.int16), np.diag([0.5, 0.6, 0.5, 1])), path)
    image = read_image(path)
    assert image.GetSize() == shape[:3]
    assert image.GetSpacing() == pytest.approx((0.5, 0.6, 0.5))


def refused(path: Path, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        read_image(path)
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


def test_a_header_without_voxels(tmp_path: Path) -> None:
    refused(write(tmp_path / "scan.nii", nifti_bytes(voxels())[:352]), "holds 0 bytes of voxels")
    refused(write(tmp_path / "scan.nii", put(nifti_bytes(voxels()), DIM + 2, "h", 5, 4, 0)), r"holds no voxels")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_not_finite(tmp_path: Path, bad: float, dtype: type) -> None:
    array = voxels(dtype)
    array[1, 2, 1] = bad
    refused(write(tmp_path / "scan.nii.gz", nifti_bytes(array)), "1 voxels that are NaN or infinite")


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda b: put(b, DIM, "h", 2, 15, 4), "2-dimensional"),
        (lambda b: put(b, DIM, "h", 4, 5, 4, 1, 3), "4-dimensional"),
        (lambda b: put(b, DIM, "h", 3, 32767, 32767, 32767), "cut short: its header promises"),
        (lambda b: put(b, DIM, "h", 3, -5, 4, 3), "unreadable NIfTI header"),
        (lambda b: put(b, DATATYPE, "h", 0), "unreadable NIfTI header"),
        (lambda b: put(b, DATATYPE, "h", 9999), "unreadable NIfTI header"),
        (lambda b: put(b, PIXDIM + 8, "f", 0), "voxels of 1 x 0 x 3 mm; each must be above 0"),
        (lambda b: put(b, PIXDIM + 12, "f", -3), "voxels of 1 x 2 x -3 mm; each must be above 0"),
        (lambda b: put(b, PIXDIM + 12, "f", np.nan), "voxels of 1 x 2 x nan mm"),
        (lambda b: put(b, PIXDIM + 12, "f", 4), "off by 0.438.* or its voxel size is wrong; resample it"),
        (lambda b: put(b, FORM_CODES, "h", 0, 0), "does not say how it is oriented"),
        (lambda b: put(b, SFORM, "f", 0, 0, 0, 0), "not orthonormal"),
        (lambda b: put(b, SFORM, "f", np.nan), "not orthonormal"),
        (lambda b: put(b, SFORM + 12, "f", np.inf), "has origin .*inf.* must be finite"),
        (lambda b: put(b, SCALING, "f", 2, np.nan), "no usable scaling"),
    ],
)
def test_a_wrong_header(tmp_path: Path, edit: Callable[[bytearray], bytearray], reason: str) -> None:
    refused(write(tmp_path / "scan.nii.gz", edit(nifti_bytes(voxels()))), reason)


def test_axes_that_are_not_at_right_angles(tmp_path: Path) -> None:
    sheared = np.diag([1.0, 2, 3, 1])
    sheared[0, 1] = 0.2
    refused(write(tmp_path / "scan.nii", nifti_bytes(voxels(), sheared)), "orthonormal")
    image = nibabel.Nifti1Image(voxels(), np.diag([1, 2, 3, 1]))
    image.set_qform(np.diag([1, 2, 3, 1]), 1)
    image.set_sform(sheared, 1)
    refused(write(tmp_path / "both.nii", bytearray(image.to_bytes())), "orthonormal")


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
    refused(path, "its qform and sform place it .* mm apart, half a voxel or more; set the code of the wrong")


@pytest.mark.parametrize("shift_mm", [0.05, 0.3])
def test_qform_and_sform_that_nearly_agree(tmp_path: Path, shift_mm: float) -> None:
    shifted = np.diag([1.0, 2, 3, 1])
    shifted[0, 3] = shift_mm
    image = read_image(two_forms(tmp_path / "scan.nii", shifted, np.diag([1.0, 2, 3, 1])))
    assert image.GetOrigin() == (0, 0, 0)
    assert notes_of(image) == [
        "its qform and sform place it 0.3 mm apart, less than half a voxel; the sform is used"
    ] * (shift_mm == 0.3)


def test_a_qform_that_a_quaternion_rounds_is_no_second_place(tmp_path: Path) -> None:
    """Near half a turn, float32 quaternions place the far corner of this volume 0.6 mm off, nearly a whole voxel."""
    turn = Rotation.from_euler("z", 180, degrees=True) * Rotation.from_rotvec([0.0019, 0.0039, 0.0012])
    affine = np.eye(4)
    affine[:3, :3] = turn.as_matrix() * (0.7, 0.7, 0.7)
    image = nibabel.Nifti1Image(np.zeros((512, 512, 2), np.uint8), affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    far = np.array([511, 511, 1, 1])
    off_mm = np.linalg.norm((image.get_qform() - image.get_sform()) @ far)
    nibabel.save(image, tmp_path / "scan.nii.gz")
    read = read_image(tmp_path / "scan.nii.gz")
    assert off_mm > 0.6
    assert notes_of(read) == []
    assert np.allclose(read.TransformIndexToPhysicalPoint((511, 511, 1)), (affine @ far)[:3] * (-1, -1, 1), atol=1e-3)


@pytest.mark.parametrize("code", ["RAS", "LPS", "PIR"])
def test_an_orientation_can_be_assumed_where_none_is_told(tmp_path: Path, code: str) -> None:
    path = write(tmp_path / "scan.nii", put(nifti_bytes(voxels()), FORM_CODES, "h", 0, 0))
    (image,) = read_case(Case("scan", ((path,),), False), code)
    assert notes_of(image) == [f"its header does not say how it is oriented; {code} is assumed"]
    assert "".join(nibabel.aff2axcodes(ras_affine(image))) == code
    assert image.GetSpacing() == (1, 2, 3)
    assert np.array_equal(sitk.GetArrayFromImage(image).T, voxels())
    told = write(tmp_path / "told.nii", nifti_bytes(voxels()))
    (image,) = read_case(Case("told", ((told,),), False), code)
    assert notes_of(image) == []
    assert image.GetDirection() == read_image(told).GetDirection()


@pytest.mark.parametrize("codes", [(0, 1), (1, 0)])
def test_a_form_whose_code_is_0_is_not_looked_at(tmp_path: Path, codes: tuple[int, int]) -> None:
    path = two_forms(tmp_path / "scan.nii", np.diag([-1.0, -2, 3, 1]), np.diag([1.0, 2, 3, 1]), codes)
    x = -1 if codes[1] else 1  # LPS
    assert read_image(path).GetDirection() == (x, 0, 0, 0, x, 0, 0, 0, 1)


def test_more_than_one_value_a_voxel(tmp_path: Path) -> None:
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
    image, reference = read_image(path), sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(reference))
    for what in ("Size", "Spacing", "Origin", "Direction"):
        assert getattr(image, f"Get{what}")() == pytest.approx(getattr(reference, f"Get{what}")(), abs=1e-5)


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1000])
def test_pieces_of_any_size_are_nibabel_s_voxels(chunk_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (compressed, nifti):
        monkeypatch.setattr(module, "CHUNK_BYTES", chunk_bytes)
    content = bytes(nifti_bytes(voxels(">i2")))
    for gzipped in (True, False):
        volume = nifti.open_nifti(io.BytesIO(gzip.compress(content) if gzipped else content), gzipped)
        pieces = np.concatenate(list(volume.values()))
        assert np.array_equal(pieces.reshape(SHAPE_XYZ, order="F"), voxels())


def test_every_truncation_of_a_stream_is_noticed() -> None:
    content = bytes(nifti_bytes(voxels()))
    for whole in (content, gzip.compress(content)):
        for size in range(len(whole)):
            with pytest.raises(DamagedFileError):
                list(nifti.open_nifti(io.BytesIO(whole[:size]), gzipped=whole is not content).pieces)
    with pytest.raises(DamagedFileError, match="holds 118 bytes of voxels where its header promises 120"):
        list(nifti.open_nifti(io.BytesIO(gzip.compress(content[:-2]))).pieces)


@pytest.mark.parametrize("shape", [(1, 1, 3), (4, 3, 2)])
def test_what_is_written_is_what_nibabel_reads(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    array, affine = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape), np.diag([-0.7, -0.8, 2.5, 1])
    nifti.write_nifti(array, affine, tmp_path / "mask.nii.gz")
    read = nibabel.load(tmp_path / "mask.nii.gz")
    assert np.array_equal(np.asarray(read.dataobj).T, array)
    assert np.allclose(read.get_qform(), affine)
    assert np.allclose(read.get_sform(), affine)
    assert (int(read.header["qform_code"]), read.header.get_xyzt_units()[0]) == (1, "mm")


def test_bytes_are_those_of_a_file_and_always_the_same(tmp_path: Path) -> None:
    voxels, affine = np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.diag([-3.0, -4, 5, 1])
    content = nifti.nifti_bytes(voxels, affine)
    assert content == nifti.nifti_bytes(voxels, affine)
    (tmp_path / "a.nii.gz").write_bytes(content)
    image = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(image), voxels)
    assert (image.GetSpacing(), image.GetDirection()) == ((3, 4, 5), (1, 0, 0, 0, 1, 0, 0, 0, 1))
