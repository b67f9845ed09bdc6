import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from tests.images.scans import hounsfield, volume
from unetr_nnunet.images.orientation import like_input, orientation_code, to_orientation

CODES = [
    "".join(letters) for axes in itertools.permutations(("LR", "PA", "IS")) for letters in itertools.product(*axes)
]


def oblique(code: str, degrees: tuple[float, float, float]) -> sitk.Image:
    image = sitk.DICOMOrient(volume(), code)
    turn = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    image.SetDirection((turn @ np.reshape(image.GetDirection(), (3, 3))).ravel())
    return image


def place(image: sitk.Image, index_zyx: np.ndarray) -> np.ndarray:
    return np.array(image.TransformIndexToPhysicalPoint([int(index) for index in index_zyx[::-1]]))


@pytest.mark.parametrize("degrees", [(0, 0, 0), (7, -12, 20), (-44, 3, 1)])
@pytest.mark.parametrize("model_code", ["RAS", "LPS", "SRP"])
@pytest.mark.parametrize("code", CODES)
def test_a_mask_comes_back_to_the_same_place_in_the_world(
    code: str, model_code: str, degrees: tuple[float, float, float]
) -> None:
    original = oblique(code, degrees)
    reoriented = to_orientation(original, model_code)
    assert orientation_code(reoriented) == model_code
    voxels = sitk.GetArrayFromImage(reoriented)
    for value in (voxels.min(), voxels.max(), -800):  # each voxel has another value
        inside = np.argwhere(voxels == value)[0]
        before = np.argwhere(sitk.GetArrayFromImage(original) == value)[0]
        assert np.allclose(place(reoriented, inside), place(original, before))
    mask = (voxels > -900).astype(np.uint8)
    result = like_input(mask, reoriented, original)
    assert np.array_equal(sitk.GetArrayFromImage(result), sitk.GetArrayFromImage(original) > -900)
    assert result.GetPixelID() == sitk.sitkUInt8
    for what in ("Size", "Spacing", "Origin", "Direction"):
        assert getattr(result, f"Get{what}")() == getattr(original, f"Get{what}")()


def test_all_orientations_are_tried() -> None:
    assert len(set(CODES)) == 48


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
