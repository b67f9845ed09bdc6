import itertools
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO, SimpleITKIOWithReorient
from scipy.spatial.transform import Rotation

from tests.images.scans import hounsfield, volume
from unetr_nnunet.images.orientation import (
    array_orientation,
    common_orientation,
    directions,
    like_input,
    lps_view,
    orientation_code,
    ras_affine,
    to_orientation,
    turn_axes,
)

CODES = [
    "".join(letters) for axes in itertools.permutations(("LR", "PA", "IS")) for letters in itertools.product(*axes)
]  # 48

TILTED = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.4).GetMatrix()


def oblique(code: str, degrees: tuple[float, float, float]) -> sitk.Image:
    image = sitk.DICOMOrient(volume(), code)
    turn = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    image.SetDirection((turn @ np.reshape(image.GetDirection(), (3, 3))).ravel())
    return image


def place(image: sitk.Image, index_zyx: np.ndarray) -> np.ndarray:
    return np.array(image.TransformIndexToPhysicalPoint([int(index) for index in index_zyx[::-1]]))


@pytest.mark.parametrize("degrees", [(0, 0, 0), (7, -12, 20), (-44, 3, 1)])
@pytest.mark.parametrize("model_code", ["RAS", "LPS", "SRP"])
def test_a_mask_comes_back_to_the_same_place_in_the_world(model_code: str, degrees: tuple[float, float, float]) -> None:
    for code in CODES:
        original = oblique(code, degrees)
        reoriented = to_orientation(original, model_code)
        assert orientation_code(reoriented) == model_code
        voxels, before = sitk.GetArrayFromImage(reoriented), sitk.GetArrayFromImage(original)
        for value in (voxels.min(), voxels.max(), -800):  # each voxel has another value
            inside = np.argwhere(voxels == value)[0]
            assert np.allclose(place(reoriented, inside), place(original, np.argwhere(before == value)[0]))
        result = like_input((voxels > -900).astype(np.uint8), reoriented, original)
        assert np.array_equal(sitk.GetArrayFromImage(result), before > -900), code
        assert result.GetPixelID() == sitk.sitkUInt8
        for what in ("Size", "Spacing", "Origin", "Direction"):
            assert getattr(result, f"Get{what}")() == getattr(original, f"Get{what}")()


def test_axes_follow_the_nearest_world_axis() -> None:
    assert orientation_code(volume()) == "LPS"
    assert orientation_code(oblique("RAS", (20, 10, -15))) == "RAS"


def test_an_even_diagonal_comes_back_too() -> None:
    original = oblique("LPS", (45, 0, 0))
    reoriented = to_orientation(original, "RAS")
    result = like_input(sitk.GetArrayFromImage(reoriented).astype(np.uint16), reoriented, original)
    assert np.array_equal(sitk.GetArrayFromImage(result), hounsfield().astype(np.uint16))


def test_directions_that_are_rounded_come_back_too() -> None:
    original = oblique("ASL", (7, -12, 20))
    original.SetDirection(np.round(original.GetDirection(), 4))
    reoriented = to_orientation(original, "RAS")
    result = like_input(sitk.GetArrayFromImage(reoriented).astype(np.uint16), reoriented, original)
    assert np.array_equal(sitk.GetArrayFromImage(result), sitk.GetArrayFromImage(original).astype(np.uint16))
    assert result.GetDirection() == original.GetDirection()


@pytest.mark.parametrize("shape_zyx", [(1, 1, 3), (5000, 1, 1)])
def test_extreme_shapes(shape_zyx: tuple[int, int, int]) -> None:
    original = volume(np.zeros(shape_zyx, np.int16))
    reoriented = to_orientation(original, "RAS")
    mask = np.arange(np.prod(shape_zyx), dtype=np.uint16).reshape(shape_zyx)
    result = like_input(mask, reoriented, original)
    assert np.array_equal(sitk.GetArrayFromImage(result), mask[:, ::-1, ::-1])


@pytest.mark.parametrize("code", ["", "RA", "RAX", "RRS", "RLS", "RASL", "ras"])
def test_refuses_what_is_no_orientation(code: str) -> None:
    with pytest.raises(ValueError, match="is no orientation"):
        to_orientation(volume(), code)


def test_refuses_a_mask_of_another_image() -> None:
    original = volume()
    reoriented = to_orientation(original, "RAS")
    mask = np.zeros(reoriented.GetSize()[::-1], np.uint8)
    with pytest.raises(ValueError, match="does not belong"):
        like_input(mask[:-1], reoriented, original)
    with pytest.raises(ValueError, match="does not belong"):
        like_input(mask, reoriented, original[1:])
    with pytest.raises(ValueError, match="does not belong"):
        like_input(mask, oblique("LPS", (20, 0, 0)), original)


def properties(reader: Any, path: Path) -> dict[str, Any]:
    found: dict[str, Any] = reader().read_images([str(path)])[1]
    return found


@pytest.mark.parametrize("direction", [tuple(np.eye(3).ravel()), TILTED], ids=["straight", "oblique"])
def test_codes_are_those_of_nibabel_and_itk_for_each_reader(
    tmp_path: Path, direction: tuple[float, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    image = sitk.GetImageFromArray(np.zeros((3, 4, 5), np.int16))
    image.SetSpacing((0.7, 0.8, 3.0))
    image.SetDirection(direction)
    for code in CODES:
        path = tmp_path / f"{code}.nii.gz"
        oriented = sitk.DICOMOrient(image, code)
        sitk.WriteImage(oriented, str(path))
        assert orientation_code(oriented) == "".join(nibabel.aff2axcodes(nibabel.load(path).affine)) == code
        for reader in (SimpleITKIO, NibabelIO):
            assert array_orientation(properties(reader, path)) == code
        for reader in (SimpleITKIOWithReorient, NibabelIOWithReorient):
            assert array_orientation(properties(reader, path)) == "RAS"


def test_the_orientation_is_known_where_all_cases_share_it(tmp_path: Path) -> None:
    image = sitk.Image(5, 4, 3, sitk.sitkInt16)
    for code in ("LPS", "RAS"):
        sitk.WriteImage(sitk.DICOMOrient(image, code), str(tmp_path / f"{code}.nii.gz"))
    lps, ras = (properties(SimpleITKIO, tmp_path / f"{code}.nii.gz") for code in ("LPS", "RAS"))
    assert common_orientation([("a", lps), ("b", lps)]) == "LPS"
    assert common_orientation([("a", lps), ("b", ras)]) is None
    assert common_orientation([("a", lps), ("b", {"spacing": [1, 1, 1]})]) is None
    assert common_orientation([]) is None


def test_a_flat_image_has_no_orientation(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.Image(5, 4, sitk.sitkInt16), str(tmp_path / "flat.mha"))
    with pytest.raises(ValueError, match="no direction among the properties"):
        array_orientation(properties(SimpleITKIO, tmp_path / "flat.mha"))


def test_the_affine_is_nibabel_s(tmp_path: Path) -> None:
    for code in ("LPS", "RAS", "PIR"):
        image = oblique(code, (7, -12, 20))
        sitk.WriteImage(image, str(tmp_path / "scan.nii"))
        assert np.allclose(ras_affine(image), nibabel.load(tmp_path / "scan.nii").affine, atol=1e-4)
        assert np.array_equal(np.abs(directions(code)).sum(axis=0), (1, 1, 1))
        assert orientation_code(sitk.DICOMOrient(volume(), code)) == code
    with pytest.raises(ValueError, match="is no orientation"):
        directions("LPX")


def test_the_lps_view_is_dicomorient_s(tmp_path: Path) -> None:
    for code in CODES[::5]:
        image = oblique(code, (7, -12, 20))
        expected = sitk.DICOMOrient(image, "LPS")
        view, spacing_mm = lps_view(image)
        assert np.array_equal(view, sitk.GetArrayFromImage(expected))
        assert spacing_mm == expected.GetSpacing()[::-1]


def test_probabilities_turn_with_their_axes() -> None:
    values = np.arange(2 * 3 * 4 * 5, dtype=np.float16).reshape(2, 3, 4, 5)
    assert np.array_equal(turn_axes(values, "RAS", "LAS"), values[..., ::-1])
    assert np.array_equal(turn_axes(values, "RAS", "SAR"), values.transpose(0, 3, 2, 1))
