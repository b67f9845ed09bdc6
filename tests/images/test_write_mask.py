from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from unetr_nnunet.images.write_mask import MASK_ENDINGS, write_mask

OBLIQUE = (0.96, -0.28, 0.0, 0.224, 0.768, -0.6, 0.168, 0.576, 0.8)  # two exact rotations, about z and about x


def label_image(dtype: type = np.uint8, orientation: str = "LPS") -> sitk.Image:
    labels = np.random.default_rng(0).integers(0, 14, (6, 8, 10)).astype(dtype)
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing((0.7, 0.8, 3.0))
    image.SetOrigin((-123.4, 56.7, -1001.5))
    image.SetDirection(
        OBLIQUE
        if orientation == "oblique"
        else sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(orientation)
    )
    return image


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR", "oblique"])
@pytest.mark.parametrize("ending", MASK_ENDINGS)
def test_a_mask_is_read_back_in_place(tmp_path: Path, ending: str, orientation: str) -> None:
    mask = label_image(orientation=orientation)
    path = tmp_path / "new folder" / f"case.1{ending}"
    write_mask(mask, path)
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    read = sitk.ReadImage(str(path))
    assert read.GetPixelID() == sitk.sitkUInt8
    assert np.array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(mask))
    for name in ("Spacing", "Origin", "Direction"):
        assert np.allclose(getattr(read, f"Get{name}")(), getattr(mask, f"Get{name}")(), rtol=1e-6, atol=1e-6), name


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR", "oblique"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nibabel_finds_a_voxel_at_the_same_place(tmp_path: Path, ending: str, orientation: str) -> None:
    mask = label_image(orientation=orientation)
    path = tmp_path / f"case{ending}"
    write_mask(mask, path)
    read = nibabel.load(path)
    assert read.header.get_xyzt_units()[0] == "mm"
    for affine, code in (read.get_qform(coded=True), read.get_sform(coded=True)):
        assert code > 0
        for index in ((0, 0, 0), (9, 7, 5), (3, 0, 2)):
            world = affine @ (*index, 1)
            lps = mask.TransformIndexToPhysicalPoint(index)
            assert np.allclose(world[:3] * (-1, -1, 1), lps, atol=1e-3)
    assert np.asarray(read.dataobj).dtype == np.uint8
    assert np.array_equal(np.asarray(read.dataobj).T, sitk.GetArrayFromImage(mask))


@pytest.mark.parametrize("ending", MASK_ENDINGS)
def test_labels_over_255_are_kept(tmp_path: Path, ending: str) -> None:
    mask = label_image(np.uint16)
    mask[0, 0, 0] = 1000
    write_mask(mask, tmp_path / f"case{ending}")
    read = sitk.ReadImage(str(tmp_path / f"case{ending}"))
    assert (read.GetPixelID(), read[0, 0, 0]) == (sitk.sitkUInt16, 1000)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_files_are_compressed(tmp_path: Path, ending: str) -> None:
    write_mask(sitk.Image(100, 100, 100, sitk.sitkUInt8), tmp_path / f"case{ending}")
    assert (tmp_path / f"case{ending}").stat().st_size < 10_000


def test_what_is_no_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"case.png names no mask format; choose one of .nii.gz, .nii"):
        write_mask(label_image(), tmp_path / "case.png")
    with pytest.raises(ValueError, match="not a 3-D one of 16-bit signed integer"):
        write_mask(label_image(np.int16), tmp_path / "case.nii.gz")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "case.nii.gz"
    path.write_text("old")

    def fail(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("Exception thrown in SimpleITK\nsitk::ERROR: no space left")

    monkeypatch.setattr(sitk, "WriteImage", fail)
    with pytest.raises(OSError, match=r"case.nii.gz cannot be written: sitk::ERROR: no space left"):
        write_mask(label_image(), path)
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_a_mask_that_the_disk_cut_short_is_an_error(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sitk.WriteImage

    def cut_short(mask: sitk.Image, name: str, **options: bool) -> None:  # as ITK's NIfTI writer does, without a word
        real(mask, name, **options)
        content = Path(name).read_bytes()
        Path(name).write_bytes(content[: len(content) * 2 // 3])

    monkeypatch.setattr(sitk, "WriteImage", cut_short)
    mask = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 5, (20, 30, 40), np.uint8))
    with pytest.raises(OSError, match=rf"case{ending} cannot be written whole: make room"):
        write_mask(mask, tmp_path / f"case{ending}")
    assert not list(tmp_path.iterdir())
