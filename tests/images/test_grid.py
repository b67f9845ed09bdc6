import numpy as np
import pytest
import SimpleITK as sitk
from scipy.linalg import polar
from scipy.spatial.transform import Rotation

from unetr_nnunet.images.grid import (
    LPS_TO_RAS,
    GeometryError,
    Grid,
    copy_place,
    grid_differences,
    grid_note,
    notes_of,
    own_grid,
    place,
)

OBLIQUE = Rotation.from_euler("xyz", (7, -12, 20), degrees=True).as_matrix()


def volume() -> sitk.Image:
    image = sitk.GetImageFromArray(np.zeros((2, 3, 4), np.uint8))
    image.SetSpacing((0.7, 0.8, 3.0))
    image.SetOrigin((-180.25, -170.5, 1012.125))
    return image


def grid(direction: np.ndarray = OBLIQUE, **changes: object) -> Grid:
    values = {"size": (4, 3, 2), "spacing_mm": np.array([0.7, 0.8, 3.0]), "origin_mm": np.array([-180.25, -170.5, 9.0])}
    return Grid(**(values | {"direction": direction} | changes))  # type: ignore[arg-type]


def moved(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> sitk.Image:
    image = volume()
    image.SetOrigin(np.add(image.GetOrigin(), (x, y, z)).tolist())
    return image


def test_less_than_half_of_the_smallest_side_is_the_same_grid_and_is_noted() -> None:
    assert (grid_differences(moved(0.05), volume()), grid_note(moved(0.05), volume(), "its CT")) == ([], "")
    assert grid_differences(moved(z=0.34), volume()) == []
    assert grid_note(moved(z=0.34), volume(), "its CT").startswith(
        "lies up to 0.34 mm beside its CT, less than half a voxel"
    )
    assert grid_differences(moved(0.36), volume()) == [
        "origin (-179.89, -170.5, 1012.12) against (-180.25, -170.5, 1012.12) mm",
        "corners up to 0.36 mm apart, less than half a voxel (0.35 mm) would do",
    ]
    assert grid_note(moved(0.36), volume(), "its CT") == ""


def test_size_spacing_and_direction_count_too() -> None:
    image = volume()
    image.SetSpacing((0.7, 0.8, 3.4))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    assert [fact.split()[0] for fact in grid_differences(image, volume())] == ["spacing", "direction", "corners"]
    assert "size (4, 3, 1) against (4, 3, 2)" in grid_differences(image[:, :, :1], volume())[0]


def test_within_the_tolerance_each_voxel_s_nearest_neighbour_is_its_own() -> None:
    labels = np.random.default_rng(0).integers(1, 200, (9, 8, 7), np.uint8)
    random = np.random.default_rng(1)
    compared = 0
    for _ in range(200):
        one, other = (sitk.GetImageFromArray(labels) for _ in range(2))
        one.SetSpacing((0.9, 0.7, 1.1))
        other.SetSpacing((random.normal(1, 0.02, 3) * (0.9, 0.7, 1.1)).tolist())
        other.SetOrigin(random.normal(0, 0.1, 3).tolist())
        other.SetDirection(Rotation.from_rotvec(random.normal(0, 0.02, 3)).as_matrix().ravel().tolist())
        if not grid_differences(one, other):
            compared += 1
            nearest = sitk.Resample(one, other, sitk.Transform(), sitk.sitkNearestNeighbor)
            assert np.array_equal(sitk.GetArrayFromImage(nearest), labels)
    assert 20 < compared < 180


@pytest.mark.parametrize("decimals", [2, 3])
def test_a_rounded_direction_becomes_the_nearest_orthonormal_one(decimals: int) -> None:
    rounded = grid(OBLIQUE.round(decimals))
    mended, note = rounded.mended()
    assert np.allclose(mended.direction.T @ mended.direction, np.eye(3), atol=1e-12)
    assert np.allclose(mended.direction, polar(rounded.direction)[0])
    assert "not exactly at right angles" in note
    assert np.array_equal(mended.origin_mm, rounded.origin_mm)


def test_mirrored_axes_stay_mirrored_and_exact_ones_untouched() -> None:
    mirror = np.diag([1.0, 1, -1])
    mended, _ = grid(OBLIQUE.round(3) @ mirror).mended()
    assert np.linalg.det(mended.direction) == pytest.approx(-1)
    exact = grid(OBLIQUE.astype(np.float32).astype(float))
    assert exact.mended() == (exact, "")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"direction": np.array([[1, 0.05, 0], [0, 1, 0], [0, 0, 1.0]])}, "not orthonormal .off by 0.05"),
        ({"direction": np.diag([1, 1, 1.02])}, "not orthonormal .off by 0.0404.*its voxel size is wrong; resample"),
        ({"direction": np.zeros((3, 3))}, "not orthonormal .off by 1"),
        ({"direction": np.full((3, 3), np.nan)}, "not orthonormal .off by nan"),
        (
            {"spacing_mm": np.array([1, 0, 1.0])},
            r"has spacing \(1.0, 0.0, 1.0\) mm; each must be 0.01 mm at least",
        ),
        ({"spacing_mm": np.array([1, np.nan, 1.0])}, "has spacing"),
        ({"spacing_mm": np.array([1000.0, 1, 1])}, "is 4000 x 3 x 2 mm large, more than any scanner's table; correct"),
        ({"origin_mm": np.array([0, np.inf, 0])}, "has origin"),
    ],
)
def test_what_no_scan_has_is_refused(changes: dict[str, np.ndarray], reason: str) -> None:
    with pytest.raises(GeometryError, match=reason) as caught:
        grid(**changes).mended()
    assert str(caught.value) == f"{caught.value.fact}; {caught.value.remedy}"


def test_an_image_carries_its_notes_and_the_direction_of_its_file() -> None:
    rounded = grid(OBLIQUE.round(2))
    image = volume()
    place(image, rounded, ["read from a napkin"])
    assert Grid.of(image).direction == pytest.approx(rounded.mended()[0].direction)
    assert own_grid(image).affine() == pytest.approx(rounded.affine())
    assert [note[:18] for note in notes_of(image)] == ["read from a napkin", "its axes are not e"]
    mask = volume()
    copy_place(mask, image)
    assert (mask.GetDirection(), own_grid(mask).affine()) == (image.GetDirection(), pytest.approx(rounded.affine()))
    place(image, grid(), [])
    assert np.array_equal(own_grid(volume()).direction, np.eye(3))
    assert notes_of(volume()) == []


def test_affines_of_both_worlds_place_a_voxel_alike() -> None:
    image = volume()
    image.SetDirection(OBLIQUE.ravel())
    lps = Grid.of(image)
    place_mm = image.TransformIndexToPhysicalPoint((3, 1, 1))
    assert (lps.affine() @ (3, 1, 1, 1))[:3] == pytest.approx(place_mm)
    ras = Grid.of_ras(lps.size, lps.spacing_mm, LPS_TO_RAS @ lps.affine())
    assert ras.affine() == pytest.approx(lps.affine())
    assert lps.corners_mm().min(axis=0) == pytest.approx(
        np.min([image.TransformIndexToPhysicalPoint((x, y, z)) for x in (0, 3) for y in (0, 2) for z in (0, 1)], axis=0)
    )
