"""Resampled label maps against MONAI's transforms, which UNETR's repository uses."""

import numpy as np
import pytest
import SimpleITK as sitk

from unetr_nnunet.images.label_resampling import resample_labels, respaced_grid

TURNED = (0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0)


def label_map(orientation: str, direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1)) -> sitk.Image:
    random = np.random.default_rng(3)
    array = np.zeros((14, 60, 50), np.uint8)
    for label in range(1, 6):
        z, y, x = random.integers((0, 0, 0), (10, 45, 35))
        array[z : z + 4, y : y + 15, x : x + 15] = label
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.7832, 0.7832, 3.27))
    image.SetOrigin((-120.0, 33.0, 500.0))
    image.SetDirection(direction)
    return sitk.DICOMOrient(image, orientation)


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "SAL", "PIR"])
@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), TURNED])
def test_equal_to_monai_spacing(orientation: str, direction: tuple[float, ...]) -> None:
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.transforms")
    from monai.data import MetaTensor

    image = label_map(orientation, direction)
    lps_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    voxels = sitk.GetArrayFromImage(image).T.copy()
    tensor = MetaTensor(torch.from_numpy(voxels)[None], affine=torch.from_numpy(lps_to_ras @ affine))
    spaced = monai.Spacing(pixdim=(1.5, 1.5, 2.0), mode="nearest")(
        monai.Orientation(axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))(tensor)
    )
    grid = respaced_grid(image, (1.5, 1.5, 2.0))
    ours, outside = resample_labels(sitk.GetArrayFromImage(image), image, grid)
    theirs = spaced[0].numpy().T
    assert ours.shape == theirs.shape
    assert np.array_equal(ours, theirs)
    assert set(np.unique(ours)) == {0, 1, 2, 3, 4, 5}
    assert outside < 0.05  # the last new voxel may begin up to half a voxel beyond the last old centre
    expected = lps_to_ras @ np.r_[grid.GetOrigin(), 1]
    assert spaced.affine[:3, 3].numpy() == pytest.approx(expected[:3], abs=1e-6)


def test_the_same_grid_changes_nothing_and_a_stored_flip_is_undone() -> None:
    image = label_map("LPS")
    array = sitk.GetArrayFromImage(image)
    assert np.array_equal(resample_labels(array, image, image)[0], array)
    flipped = sitk.DICOMOrient(image, "RAI")
    assert not np.array_equal(sitk.GetArrayFromImage(flipped), array)
    back, outside = resample_labels(sitk.GetArrayFromImage(flipped), flipped, image)
    assert np.array_equal(back, array)
    assert outside == 0


def test_what_is_not_covered_is_background_and_counted() -> None:
    image = sitk.GetImageFromArray(np.full((4, 4, 4), 2, np.uint8))
    shifted = sitk.GetImageFromArray(np.zeros((4, 4, 4), np.uint8))
    shifted.SetOrigin((1.0, 0.0, 0.0))
    moved, outside = resample_labels(sitk.GetArrayFromImage(image), image, shifted)
    assert outside == 0.25
    assert (moved[:, :, :3] == 2).all()
    assert (moved[:, :, 3] == 0).all()


def test_nothing_in_common_is_refused() -> None:
    image, far = (sitk.GetImageFromArray(np.ones((4, 4, 4), np.uint8)) for _ in range(2))
    far.SetOrigin((100.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="share no space"):
        resample_labels(sitk.GetArrayFromImage(image), image, far)
