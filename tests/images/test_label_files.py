import gzip
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from unetr_nnunet.images.grid import grid_differences
from unetr_nnunet.images.label_files import (
    FILE_ENDINGS,
    find_label_files,
    pair_cases,
    read_label_map,
)


def volume(array: np.ndarray | None = None) -> sitk.Image:
    if array is None:
        array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) % 14
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.7, 0.8, 3.0))
    image.SetOrigin((-180.25, -170.5, 1012.125))
    return image


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_pairs_by_stem_whatever_the_ending_and_ignores_other_files(tmp_path: Path) -> None:
    left = touch(tmp_path / "a", "x.nii.gz", "y.nrrd", "only_left.mha", "dataset.json", "._x.nii.gz", "x.npz")
    right = touch(tmp_path / "b", "x.mha", "y.nii", "only_right.nii.gz")
    pairing = pair_cases(left, right)
    assert pairing.pairs == {"x": (left / "x.nii.gz", right / "x.mha"), "y": (left / "y.nrrd", right / "y.nii")}
    assert (pairing.without_prediction, pairing.without_label) == (["only_right"], ["only_left"])
    assert not pairing.ambiguous


def test_pairs_btcv_names_by_four_digits(tmp_path: Path) -> None:
    left = touch(tmp_path / "a", "BTCV_0061.nii.gz", "BTCV_0062.nii.gz", "BTCV_10063.nii.gz")
    right = touch(tmp_path / "b", "label0061.nii.gz", "BTCV_0062.nii.gz", "label0062.nii.gz", "label0063.nii.gz")
    pairing = pair_cases(left, right)
    assert {case: label.name for case, (_, label) in pairing.pairs.items()} == {
        "BTCV_0061": "label0061.nii.gz",
        "BTCV_0062": "BTCV_0062.nii.gz",
    }
    assert pairing.without_prediction == ["label0062", "label0063"]
    assert pairing.without_label == ["BTCV_10063"]


def test_ambiguous_names_are_refused_alone(tmp_path: Path) -> None:
    left = touch(tmp_path / "a", "BTCV_0001.nii.gz", "other_0001.nii.gz", "z.nii.gz", "z.nrrd", "0001.nrrd")
    right = touch(tmp_path / "b", "label0001.nii.gz", "z.nii.gz", "0001.nrrd")
    pairing = pair_cases(left, right)
    assert list(pairing.pairs) == ["0001"]
    assert sorted(pairing.ambiguous) == ["*0001", "z"]
    assert "BTCV_0001.nii.gz, other_0001.nii.gz, label0001.nii.gz" in pairing.ambiguous["*0001"]


def test_refuses_folders_with_nothing_to_compare(tmp_path: Path) -> None:
    full, other = touch(tmp_path / "full", "a.nii.gz"), touch(tmp_path / "other", "b.nii.gz")
    empty = touch(tmp_path / "empty", "notes.txt")
    with pytest.raises(ValueError, match=r"empty holds no label map \(\.nii\.gz"):
        find_label_files(empty)
    with pytest.raises(ValueError, match="is no folder"):
        pair_cases(full, tmp_path / "nowhere")
    with pytest.raises(ValueError, match="same folder"):
        pair_cases(full, tmp_path / "other" / ".." / "full")
    with pytest.raises(ValueError, match="no case is in both"):
        pair_cases(full, other)


@pytest.mark.parametrize("ending", FILE_ENDINGS)
def test_reads_every_ending(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"case{ending}"
    sitk.WriteImage(volume(), str(path))
    image, voxels = read_label_map(path)
    assert np.array_equal(voxels, sitk.GetArrayFromImage(volume()))
    assert not grid_differences(image, volume())


@pytest.mark.parametrize("ending", FILE_ENDINGS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_floats_are_labels_and_others_are_not(tmp_path: Path, dtype: type[np.floating], ending: str) -> None:
    path = tmp_path / f"case{ending}"
    whole = [[[0, 13, 2], [1, 2, 3]]]
    sitk.WriteImage(volume(np.array(whole, dtype)), str(path))
    _, voxels = read_label_map(path)
    assert voxels.tolist() == whole
    assert np.issubdtype(voxels.dtype, np.integer)
    for bad in (0.5, np.nan, np.inf, 1e30):
        sitk.WriteImage(volume(np.array([[[0, bad, 2]]], dtype)), str(path))
        with pytest.raises(ValueError, match=re.escape(f"holds {bad:g}, which")):
            read_label_map(path)


@pytest.mark.parametrize("dtype", [np.uint32, np.int64, np.uint64])
def test_wide_integers_are_narrowed_or_refused_by_name(tmp_path: Path, dtype: type[np.integer]) -> None:
    path = tmp_path / "case.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.array([[[0, 13]]], dtype), np.eye(4), dtype=dtype), path)
    voxels = read_label_map(path)[1]
    assert voxels.ravel().tolist() == [0, 13]
    assert np.bincount(voxels.ravel() * 2 + voxels.ravel()).sum() == 2, "can be counted"
    beyond = np.iinfo(dtype).max
    nibabel.save(nibabel.Nifti1Image(np.array([[[0, beyond]]], dtype), np.eye(4), dtype=dtype), path)
    with pytest.raises(ValueError, match=f"case.nii.gz holds {beyond}, which is no label"):
        read_label_map(path)


@pytest.mark.parametrize("ending", FILE_ENDINGS)
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.98])
def test_refuses_a_file_that_was_cut_short(tmp_path: Path, ending: str, kept: float) -> None:
    path = tmp_path / f"case{ending}"
    sitk.WriteImage(volume(np.random.default_rng(0).integers(0, 14, (20, 30, 30), np.uint8)), str(path), True)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=r"case\."):
        read_label_map(path)


def test_refuses_other_damage(tmp_path: Path) -> None:
    path = tmp_path / "case.nii.gz"
    sitk.WriteImage(volume(np.random.default_rng(0).integers(0, 14, (20, 30, 30), np.uint8)), str(path))
    content = path.read_bytes()
    path.write_bytes(gzip.compress(gzip.decompress(content)[:5000]))  # a sound gzip of a short NIfTI
    with pytest.raises(ValueError, match="cut short: 5000 bytes"):
        read_label_map(path)
    path.write_bytes(content[:3000] + b"\0\xff" * 20 + content[3040:])
    with pytest.raises(ValueError, match="damaged gzip"):
        read_label_map(path)
    path.write_bytes(b"no image at all")
    with pytest.raises(ValueError, match="damaged gzip"):
        read_label_map(path)


def test_refuses_what_is_no_volume(tmp_path: Path) -> None:
    path = tmp_path / "case.mha"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4), np.uint8)), str(path))
    with pytest.raises(ValueError, match="2 dimensions, 1 value"):
        read_label_map(path)
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4, 3), np.uint8), isVector=True), str(path))
    with pytest.raises(ValueError, match="3 dimensions, 3 value"):
        read_label_map(path)


def test_reads_a_float_nifti_with_an_empty_fourth_axis(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 3, 2, 1) % 14
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "case.nii.gz")
    assert np.array_equal(read_label_map(tmp_path / "case.nii.gz")[1], array[..., 0].T)
