from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from unetr_nnunet.viewer.volumes import coarse, nifti_bytes, prepared_ct, read_mask

OBLIQUE = (0.0, -0.8, 0.6, 1.0, 0.0, 0.0, 0.0, 0.6, 0.8)  # columns: x to the back, the others tilted by 37 degrees


def make_image(direction: tuple[float, ...] | None = None, dtype: type = np.int16) -> sitk.Image:
    values = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(dtype)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.7, 0.8, 3.0))
    image.SetOrigin((-10.0, 20.0, -30.0))
    if direction:
        image.SetDirection(direction)
    return image


@pytest.mark.parametrize("direction", [None, OBLIQUE, (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0)])
def test_each_value_is_at_its_place_in_ras_order(direction: tuple[float, ...] | None, tmp_path: Path) -> None:
    image = make_image(direction)
    sitk.WriteImage(image, str(tmp_path / "itk.nii"))
    expected = nibabel.as_closest_canonical(nibabel.load(tmp_path / "itk.nii"))
    sent = nibabel.Nifti1Image.from_bytes(nifti_bytes(prepared_ct(image)))
    assert nibabel.aff2axcodes(sent.affine) == ("R", "A", "S")
    assert np.allclose(sent.affine, expected.affine, atol=1e-4)
    assert np.array_equal(np.asarray(sent.dataobj), np.asarray(expected.dataobj))
    assert sent.get_data_dtype() == np.int16


def test_a_ct_of_floats_is_rounded_and_cut_off() -> None:
    image = sitk.GetImageFromArray(np.array([[[-1e6, -0.6, 0.4, 1e6]]], np.float32))
    values = sitk.GetArrayFromImage(prepared_ct(image)).ravel()
    assert sorted(values.tolist()) == [-32768, -1, 0, 32767]


def test_a_mask_of_another_type_on_the_same_grid(tmp_path: Path) -> None:
    path = tmp_path / "mask.nii.gz"
    sitk.WriteImage(make_image(OBLIQUE, np.float64), str(path))
    mask, word = read_mask(path, prepared_ct(make_image(OBLIQUE)))
    assert word == ""
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert np.array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(prepared_ct(make_image(OBLIQUE))))


def test_a_mask_on_another_grid_is_shown_where_it_lies_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "mask.nii.gz"
    shifted = make_image()
    shifted.SetOrigin((-10.0, 20.0, -27.0))  # one slice higher
    sitk.WriteImage(shifted, str(path))
    ct = prepared_ct(make_image())
    mask, word = read_mask(path, ct)
    assert "mask.nii.gz lies on another grid than its CT (origin" in word
    on_grid = sitk.GetArrayFromImage(mask)
    assert np.array_equal(on_grid[0], np.zeros((3, 4)))
    assert np.array_equal(on_grid[1], sitk.GetArrayFromImage(ct)[0])


def test_a_mask_a_little_beside_its_ct_is_shown_as_it_is_and_that_is_said(tmp_path: Path) -> None:
    shifted = make_image()
    shifted.SetOrigin((-10.0, 20.3, -30.0))
    sitk.WriteImage(shifted, str(tmp_path / "mask.nii.gz"))
    mask, word = read_mask(tmp_path / "mask.nii.gz", prepared_ct(make_image()))
    assert word == "mask.nii.gz lies up to 0.3 mm beside its CT, less than half a voxel; taken as the same grid"
    assert np.array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(prepared_ct(make_image())))


def test_a_mask_that_shares_no_space_with_its_ct_is_refused(tmp_path: Path) -> None:
    far = make_image()
    far.SetOrigin((1e4, 0, 0))
    sitk.WriteImage(far, str(tmp_path / "mask.nii.gz"))
    with pytest.raises(ValueError, match=r"mask.nii.gz cannot be shown: .* share no space"):
        read_mask(tmp_path / "mask.nii.gz", prepared_ct(make_image()))


@pytest.mark.parametrize(("value", "words"), [(-1, "labels -1..0"), (256, "labels 0..256"), (0.5, "no label")])
def test_an_image_is_no_mask(value: float, words: str, tmp_path: Path) -> None:
    values = np.zeros((2, 3, 4), np.float32)
    values[0, 0, 0] = value
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "image.nii.gz"))
    with pytest.raises(ValueError, match=words):
        read_mask(tmp_path / "image.nii.gz", sitk.GetImageFromArray(values))


def test_a_thinned_mask_keeps_its_place_and_values() -> None:
    values = np.random.default_rng(0).integers(0, 14, (6, 20, 30)).astype(np.uint8)
    mask = sitk.GetImageFromArray(values)
    mask.SetSpacing((0.7, 0.95, 3.0))
    thin = coarse(mask)
    assert np.allclose(thin.GetSpacing(), (2.1, 1.9, 3.0))
    assert np.array_equal(sitk.GetArrayFromImage(thin), values[:, ::2, ::3])
    assert thin.TransformIndexToPhysicalPoint((1, 1, 1)) == pytest.approx(mask.TransformIndexToPhysicalPoint((3, 2, 1)))
