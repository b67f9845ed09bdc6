"""Label maps as SimpleITK and nibabel write and read them, and resampled ones against MONAI's transforms."""

import re
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from unetr_nnunet.images.files import VOLUME_ENDINGS
from unetr_nnunet.images.grid import Grid, grid_differences, notes_of, own_grid, place
from unetr_nnunet.images.label_maps import MASK_ENDINGS, read_label_map, resample_labels, respaced_grid, write_mask

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


def volume(array: np.ndarray | None = None) -> sitk.Image:
    if array is None:
        array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) % 14
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.7, 0.8, 3.0))
    image.SetOrigin((-180.25, -170.5, 1012.125))
    return image


@pytest.mark.parametrize("ending", VOLUME_ENDINGS)
def test_reads_every_ending(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"case{ending}"
    sitk.WriteImage(volume(), str(path))
    image, voxels = read_label_map(path)
    assert np.array_equal(voxels, sitk.GetArrayFromImage(volume()))
    assert not grid_differences(image, volume())


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mhd"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_floats_are_labels_and_others_are_not(tmp_path: Path, dtype: type[np.floating], ending: str) -> None:
    path = tmp_path / f"case{ending}"
    whole = [[[0, 13, 2], [1, 2, 255]]]
    sitk.WriteImage(volume(np.array(whole, dtype)), str(path))
    _, voxels = read_label_map(path)
    assert (voxels.tolist(), voxels.dtype) == (whole, np.uint8)
    for bad, reason in ((0.5, "holds 0.5, which"), (np.nan, "holds nan, which"), (np.inf, "holds labels 0..inf")):
        sitk.WriteImage(volume(np.array([[[0, bad, 2]]], dtype)), str(path))
        with pytest.raises(ValueError, match=re.escape(reason)):
            read_label_map(path)


@pytest.mark.parametrize("dtype", [np.int16, np.uint32, np.int64, np.uint64])
def test_other_integers_are_narrowed_or_refused_by_name(tmp_path: Path, dtype: type[np.integer]) -> None:
    path = tmp_path / "case.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.array([[[0, 13]]], dtype), np.eye(4), dtype=dtype), path)
    voxels = read_label_map(path)[1]
    assert (voxels.ravel().tolist(), voxels.dtype) == ([0, 13], np.uint8)
    for beyond in (256, np.iinfo(dtype).max):
        nibabel.save(nibabel.Nifti1Image(np.array([[[0, beyond]]], dtype), np.eye(4), dtype=dtype), path)
        with pytest.raises(ValueError, match=rf"case.nii.gz holds labels 0\.\.{beyond}; they must be in 0\.\.255 "):
            read_label_map(path)


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_masks_that_simpleitk_converted_from_nifti_are_read(tmp_path: Path, ending: str) -> None:
    """SimpleITK writes NIfTI's fields, such as vox_offset and dim[0], into the header of the other format."""
    sitk.WriteImage(volume(np.zeros((40, 50, 60), np.uint8)), str(tmp_path / "a.nii.gz"))
    path = tmp_path / f"b{ending}"
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a.nii.gz")), str(path), True)
    assert b"vox_offset" in path.read_bytes()
    image, voxels = read_label_map(path)
    assert not voxels.any()
    assert grid_differences(image, volume(np.zeros((40, 50, 60), np.uint8))) == []


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr"])
def test_bytes_damaged_in_transit_are_noticed_in_every_compressed_format(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"case{ending}"
    labels = np.random.default_rng(0).integers(0, 14, (20, 30, 30), np.uint8)
    sitk.WriteImage(volume(labels), str(path), True)
    data = max(tmp_path.iterdir(), key=lambda each: each.stat().st_size)
    whole = data.read_bytes()
    for start in range(len(whole) // 2, len(whole) - 8, len(whole) // 40):
        data.write_bytes(whole[:start] + bytes(255 - value for value in whole[start : start + 6]) + whole[start + 6 :])
        with pytest.raises(ValueError, match=r"gzip|damaged"):
            read_label_map(path)


def test_label_maps_without_an_orientation_lie_on_one_grid(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii"):
        nibabel.save(nibabel.Nifti1Image(np.eye(5, dtype=np.uint8)[..., None], None), tmp_path / name)
    first, second = (read_label_map(tmp_path / name)[0] for name in ("a.nii.gz", "b.nii"))
    assert "does not say how it is oriented; RAS is assumed" in notes_of(first)[0]
    assert grid_differences(first, second) == []


@pytest.mark.parametrize("ending", MASK_ENDINGS)
def test_a_mask_gets_the_direction_that_its_image_s_file_had(tmp_path: Path, ending: str) -> None:
    mask = label_image(orientation="LPS")
    own = replace(Grid.of(mask), direction=np.round(OBLIQUE, 2).reshape(3, 3))
    place(mask, own, [])
    write_mask(mask, tmp_path / f"mask{ending}")
    read, voxels = read_label_map(tmp_path / f"mask{ending}")
    assert own_grid(read).affine() == pytest.approx(own.affine(), abs=1e-4)
    assert read.GetDirection() == pytest.approx(mask.GetDirection(), abs=1e-5)
    assert len(notes_of(read)) == 1
    assert np.array_equal(voxels, sitk.GetArrayFromImage(mask))


@pytest.mark.parametrize("ending", VOLUME_ENDINGS)
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.98])
def test_refuses_a_file_that_was_cut_short(tmp_path: Path, ending: str, kept: float) -> None:
    path = tmp_path / f"case{ending}"
    sitk.WriteImage(volume(np.random.default_rng(0).integers(0, 14, (20, 30, 30), np.uint8)), str(path), True)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=r"case\."):
        read_label_map(path)


def test_refuses_what_is_no_volume(tmp_path: Path) -> None:
    path = tmp_path / "case.mha"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4), np.uint8)), str(path))
    with pytest.raises(ValueError, match="2-dimensional"):
        read_label_map(path)
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4, 3), np.uint8), isVector=True), str(path))
    with pytest.raises(ValueError, match="more than one value a voxel"):
        read_label_map(path)


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
