import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from tests.dataset_conversion.raw_sets import edit, image, label, problems, rewrite
from unetr_nnunet.dataset_conversion import raw_volumes
from unetr_nnunet.dataset_conversion.check_raw import STAMP_FILE


def test_a_good_data_set_is_read_once(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(raw) == []
    assert (raw.parents[1] / "preprocessed" / STAMP_FILE).is_file()
    read = []
    real = raw_volumes.check_case
    reading = lambda case, **how: (read.append(case.image.name), real(case, **how))[1]  # noqa: E731
    monkeypatch.setattr(raw_volumes, "check_case", reading)
    assert problems(raw) == []
    assert read == []
    rewrite(label(raw), shift_mm=40)
    assert len(problems(raw)) == 1, "what has changed is read again"
    assert sorted(read) == [f"imagesTr/case_{case}_0000.nii.gz" for case in range(5)]


def test_voxels(raw: Path) -> None:
    voxels = np.asarray(nibabel.load(image(raw)).dataobj).astype(np.float32)
    voxels[3, 3, 3] = np.nan
    rewrite(image(raw), voxels=voxels)
    values = np.asarray(nibabel.load(label(raw, 2)).dataobj).astype(np.float32)
    rewrite(label(raw, 2), voxels=values / 2)
    rewrite(label(raw, 3), voxels=np.zeros((8, 8, 8), np.uint8))
    expected = [
        "case_1_0000.nii.gz: contains NaN",
        "case_2.nii.gz: label values with fractions",
        "case_3.nii.gz: lies on another grid than its image: size",
    ]
    for line, part in zip(problems(raw), expected, strict=True):
        assert part in line


def test_a_second_channel(raw: Path) -> None:
    edit(raw, channel_names={"0": "CT", "1": "PET"})
    for case in range(5):
        shutil.copy(image(raw, case), raw / "imagesTr" / f"case_{case}_0001.nii.gz")
    assert problems(raw) == []
    rewrite(raw / "imagesTr" / "case_1_0001.nii.gz", shift_mm=3)
    (raw / "imagesTr" / "case_2_0001.nii.gz").unlink()
    first, second = problems(raw)
    assert first.startswith("imagesTr/case_2_0000.nii.gz: case case_2 has 1 channels, dataset.json names 2")
    assert "case_1_0001.nii.gz: lies on another grid than its image: origin" in second


def test_files_that_do_not_say_how_they_are_oriented_are_noted(raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in (*(raw / "imagesTr").iterdir(), *(raw / "labelsTr").iterdir()):
        volume = nibabel.load(path)
        voxels, header = np.asarray(volume.dataobj), volume.header
        for form in ("qform_code", "sform_code"):
            header[form] = 0
        path.unlink()
        nibabel.save(nibabel.Nifti1Image(voxels, None, header), path)
    assert problems(raw) == []
    assert "case_0_0000.nii.gz: its header does not say how it is oriented; RAS is assumed" in caplog.text
    assert "... and 5 more files of this kind" in caplog.text


def test_other_volume_formats(raw: Path) -> None:
    edit(raw, file_ending=".nrrd")
    for path in (*(raw / "imagesTr").iterdir(), *(raw / "labelsTr").iterdir()):
        sitk.WriteImage(sitk.ReadImage(str(path)), str(path).replace(".nii.gz", ".nrrd"))
        path.unlink()
    assert problems(raw) == []
    moved = sitk.ReadImage(str(raw / "labelsTr" / "case_0.nrrd"))
    moved.SetOrigin((40, 0, 0))
    sitk.WriteImage(moved + 1, str(raw / "labelsTr" / "case_0.nrrd"))
    torn = raw / "imagesTr" / "case_1_0000.nrrd"
    torn.write_bytes(torn.read_bytes()[:-90])
    grid, values, damaged = problems(raw)
    assert "labelsTr/case_0.nrrd: lies on another grid than its image: origin" in grid
    assert "label values [3] are not in dataset.json" in values
    assert damaged.startswith("imagesTr/case_1_0000.nrrd: ")


def test_formats_that_hold_no_geometry_are_checked_by_name(raw: Path) -> None:
    edit(raw, file_ending=".png")
    for folder in ("imagesTr", "labelsTr"):
        for path in sorted((raw / folder).iterdir()):
            path.rename(path.with_name(path.name.replace(".nii.gz", ".png")))
    assert problems(raw) == []
    (raw / "labelsTr" / "case_0.png").unlink()
    assert problems(raw)[0].startswith("labelsTr/case_0.png: is missing for case case_0")
