import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.linalg import polar
from scipy.spatial.transform import Rotation

import unetr_nnunet
from tests.images.scans import hounsfield, volume, write_series
from unetr_nnunet.images.cases import Case, find_cases
from unetr_nnunet.images.grid import LPS_TO_RAS, Grid, grid_differences, notes_of, own_grid
from unetr_nnunet.images.nifti import write_nifti
from unetr_nnunet.images.read import compact, read_case, refuse_not_finite

VOLUMES = ("scan.nii", "scan.nii.gz", "scan.nrrd", "scan.nhdr", "scan.mha", "scan.mhd")


def write(path: Path, image: sitk.Image | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(volume() if image is None else image, str(path))
    return path


def only_case(source: Path, channels: int = 1) -> Case:
    cases, words = find_cases(source, channels)
    assert (len(cases), words) == (1, [])
    return cases[0]


@pytest.mark.parametrize("name", VOLUMES)
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_every_format_gives_the_same_image(tmp_path: Path, name: str, dtype: type) -> None:
    voxels = (hounsfield() % 200).astype(dtype)
    image = sitk.DICOMOrient(volume(voxels), "SAR")
    (read,) = read_case(only_case(write(tmp_path / name, image)))
    assert np.array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(image))
    assert grid_differences(read, image) == []
    assert read.GetPixelID() == (sitk.sitkFloat32 if np.issubdtype(dtype, np.floating) else sitk.sitkInt16)


def test_a_dicom_series(tmp_path: Path) -> None:
    write_series(tmp_path)
    (read,) = read_case(only_case(tmp_path))
    assert np.array_equal(sitk.GetArrayFromImage(read), hounsfield())
    assert read.GetPixelID() == sitk.sitkInt16
    assert grid_differences(read, volume()) == []


def test_the_real_ct_as_dicom_and_as_nifti(real_ct: Path, tmp_path: Path) -> None:
    folder = real_ct / "upper_abdomen_slab"
    (slab,) = read_case(only_case(folder / "dicom"))
    assert grid_differences(slab, sitk.ReadImage(str(folder / "label.nii.gz"))) == []
    voxels = sitk.GetArrayFromImage(slab)
    assert (voxels.min(), voxels.max(), slab.GetPixelID()) == (-1024, 1839, sitk.sitkInt16)
    (again,) = read_case(only_case(write(tmp_path / "slab.nii.gz", slab)))
    assert np.array_equal(sitk.GetArrayFromImage(again), voxels)
    assert grid_differences(again, slab) == []


def test_channels_of_different_formats_on_one_grid(tmp_path: Path) -> None:
    write(tmp_path / "x_0000.nii.gz")
    write(tmp_path / "x_0001.mha", volume(hounsfield() * 2.5))
    first, second = read_case(only_case(tmp_path, 2))
    assert np.array_equal(sitk.GetArrayFromImage(first), hounsfield())
    assert np.array_equal(sitk.GetArrayFromImage(second), (hounsfield() * 2.5).astype(np.float32))


def refused(case: Case, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        read_case(case)
    assert "\n" not in str(caught.value)


def test_channels_on_different_grids(tmp_path: Path) -> None:
    write(tmp_path / "x_0000.nii.gz")
    other = volume()
    other.SetOrigin((0, 0, 0))
    write(tmp_path / "x_0001.nii.gz", other)
    refused(only_case(tmp_path, 2), r"x_0001\.nii\.gz lies on another grid than channel 0: origin")


def test_a_missing_channel_and_one_too_many(tmp_path: Path) -> None:
    write(tmp_path / "x_0000.nii.gz")
    refused(only_case(tmp_path, 2), r"channel 1 of 2 has no file; x_0001\.nii\.gz .* beside x_0000\.nii\.gz")
    write(tmp_path / "x_0001.nii.gz")
    write(tmp_path / "x_0001.mha")
    refused(only_case(tmp_path, 2), r"channel 1 has 2 files, keep one: .*x_0001\.mha, .*x_0001\.nii\.gz")


def test_a_dicom_series_for_a_model_of_two_channels(tmp_path: Path) -> None:
    write_series(tmp_path)
    refused(only_case(tmp_path, 2), "channel 1 of 2 has no file")


@pytest.mark.parametrize("value", ["0 1 1", "-1 1 1", "nan 1 1", "inf 1 1", "1e-3 1 1"])
def test_wrong_spacing_in_a_meta_image(tmp_path: Path, value: str) -> None:
    path = write(tmp_path / "scan.mha")
    content = path.read_bytes()
    path.write_bytes(re.sub(rb"ElementSpacing = .*", f"ElementSpacing = {value}".encode(), content))
    assert path.read_bytes() != content
    refused(only_case(path), "spacing|Spacing")


@pytest.mark.parametrize(
    ("ending", "old", "new"),
    [
        (".mha", b"TransformMatrix = 1 0 0 0 1 0 0 0 1", b"TransformMatrix = 1 0 0 0.3 1 0 0 0 1"),
        (".mha", b"TransformMatrix = 1 0 0 0 1 0 0 0 1", b"TransformMatrix = 0 0 0 0 1 0 0 0 1"),
        (".mha", b"TransformMatrix = 1 0 0 0 1 0 0 0 1", b"TransformMatrix = nan 0 0 0 1 0 0 0 1"),
        (".nrrd", b"(0.69999999999999996,0,0)", b"(0.69999999999999996,0.4,0)"),
        (".nrrd", b"(0.69999999999999996,0,0)", b"(0,0,0)"),
        (".nrrd", b"(0.69999999999999996,0,0)", b"(nan,0,0)"),
        (".nrrd", b"space origin: (-50,", b"space origin: (nan,"),
    ],
)
def test_wrong_geometry(tmp_path: Path, ending: str, old: bytes, new: bytes) -> None:
    path = write(tmp_path / f"scan{ending}")
    content = path.read_bytes()
    path.write_bytes(content.replace(old, new))
    assert path.read_bytes() != content
    refused(only_case(path), r"scan\.(mha|nrrd)")


@pytest.mark.parametrize("shape_zyx", [(1, 1, 3), (3, 1, 1), (5000, 2, 2)])
@pytest.mark.parametrize("name", VOLUMES)
def test_extreme_shapes(tmp_path: Path, name: str, shape_zyx: tuple[int, int, int]) -> None:
    voxels = np.arange(np.prod(shape_zyx), dtype=np.int16).reshape(shape_zyx)
    image = volume(voxels)
    image.SetSpacing((0.5, 0.5, 0.5))
    (read,) = read_case(only_case(write(tmp_path / name, image)))
    assert np.array_equal(sitk.GetArrayFromImage(read), voxels)


def test_a_spacing_that_makes_a_giant(tmp_path: Path) -> None:
    image = volume()
    image.SetSpacing((1000.0, 1.0, 1.0))
    refused(only_case(write(tmp_path / "giant.nii.gz", image)), "more than any scanner's table; correct its spacing")


@pytest.mark.parametrize("decimals", [2, 3])
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_a_rounded_direction_is_mended_in_every_format(
    tmp_path: Path, ending: str, decimals: int, caplog: pytest.LogCaptureFixture
) -> None:
    turn = Rotation.from_euler("xyz", (7, -12, 20), degrees=True).as_matrix()
    rounded = replace(Grid.of(volume()), direction=turn.round(decimals))
    path = tmp_path / f"scan{ending}"
    if ending == ".nii.gz":
        write_nifti(hounsfield(), LPS_TO_RAS @ rounded.affine(), path)
    else:
        image = volume()
        image.SetDirection(rounded.direction.ravel())
        write(path, image)
    (read,) = read_case(only_case(path))
    axes = np.reshape(read.GetDirection(), (3, 3))
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    assert np.allclose(axes, polar(rounded.direction)[0], atol=1e-4)
    assert np.allclose(own_grid(read).affine(), rounded.affine(), atol=1e-4)
    (note,) = notes_of(read)
    assert f"{path}: {note}" in caplog.text
    assert np.array_equal(sitk.GetArrayFromImage(read), hounsfield())


def test_channels_less_than_half_a_voxel_apart_are_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shifted = volume()
    shifted.SetOrigin((-49.8, 40.0, -110.0))
    write(tmp_path / "x_0000.nii.gz")
    write(tmp_path / "x_0001.nii.gz", shifted)
    _, second = read_case(only_case(tmp_path, 2))
    assert notes_of(second)[0].startswith("channel 1 lies up to 0.2 mm beside channel 0")
    assert "x_0001.nii.gz: channel 1 lies up to 0.2 mm beside channel 0, less than half a voxel" in caplog.text


@pytest.mark.parametrize("name", [b"f\xfcr.nii.gz", b"f\xfcr.mha", b"f\xfcr"])
def test_a_name_that_is_not_utf8(tmp_path: Path, name: bytes) -> None:
    """SimpleITK would end this very process."""
    path = tmp_path / os.fsdecode(name)
    if path.suffix:
        path.write_bytes(write(tmp_path / f"other{''.join(path.suffixes)}").read_bytes())
    else:
        write_series(path)
    refused(only_case(path), r"f\\udcfcr.* has a name that is not UTF-8: rename")


@pytest.mark.parametrize("kind", ["dangling link", "pipe"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "scan.nii.gz"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "nothing.nii.gz")
    with pytest.raises(ValueError, match=r"scan.nii.gz is no file, or a link to none: put the file in its place"):
        read_case(only_case(tmp_path))


@pytest.mark.parametrize(
    ("values", "stored", "expected"),
    [
        ([-1024, 3000], np.int16, np.int16),
        ([-1024, 3000], np.int64, np.int16),
        ([0, 4095], np.uint16, np.int16),
        ([0, 40000], np.uint16, np.int32),
        ([-128, 127], np.int8, np.int16),
        ([0, 1], bool, np.int16),
        ([0, 2**32 - 256], np.uint32, np.float32),
        ([-0.5, 3.25], np.float64, np.float32),
        ([-0.5, 3.25], np.float32, np.float32),
        ([1, 2], np.float64, np.float32),
    ],
)
def test_the_smallest_type_that_holds_a_ct(values: list[float], stored: type, expected: type) -> None:
    result = compact(np.array([[values]], stored))
    assert result.dtype == expected
    assert result.ravel().tolist() == values


def test_fitting_voxels_are_not_copied() -> None:
    for dtype in (np.int16, np.float32):
        voxels = np.zeros((2, 3, 4), dtype)
        assert compact(voxels) is voxels


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_what_is_not_finite(bad: float) -> None:
    voxels = np.zeros((3, 4, 5), np.float32)
    refuse_not_finite(voxels, "scan.nrrd")
    voxels[1, 2, 3] = voxels[2, 0, 0] = bad
    with pytest.raises(ValueError, match=r"scan\.nrrd holds 2 voxels that are NaN or infinite"):
        refuse_not_finite(voxels, "scan.nrrd")
    refuse_not_finite(np.full((1, 1, 1), 2**31 - 1, np.int32), "scan.nrrd")


def test_beyond_float32_is_infinite() -> None:
    with pytest.raises(ValueError, match="1 voxels"):
        refuse_not_finite(compact(np.array([[[1e300, 0]]])), "scan.nii")


def test_no_other_room_reads_or_writes_image_files() -> None:
    """SimpleITK's images travel in memory; who reads or writes files goes through this room."""
    doors = re.compile(
        r"ReadImage|WriteImage|ImageFileReader|ImageSeriesReader|ImageFileWriter|nibabel\.(load|save)|Nifti1Image|dcmread"
        r"|^\s*(import|from) (nibabel(?!\.orientations|\.affines| import orientations)|pydicom|highdicom)",
        re.MULTILINE,
    )
    package = Path(unetr_nnunet.__file__).parent
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if path.parent.name != "images" and doors.search(re.sub(r'""".*?"""', "", path.read_text("utf-8"), flags=re.S))
    }
    assert found == set()
