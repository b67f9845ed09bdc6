"""Raw data sets as users make them by hand; each test damages a good one in one place."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.conftest import write_blob_dataset
from unetr_nnunet.dataset_conversion import check_raw
from unetr_nnunet.dataset_conversion.check_raw import STAMP_FILE, check_dataset_to_plan, check_raw_dataset
from unetr_nnunet.dataset_conversion.problems import ProblemsFoundError


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Five cases, two labels, one channel."""
    return write_blob_dataset(tmp_path / "raw")


def problems(raw: Path, *, five_folds: bool = True) -> list[str]:
    caught: list[ProblemsFoundError] = []
    try:
        check_raw_dataset(raw, raw.parents[1] / "preprocessed", five_folds=five_folds)
    except ProblemsFoundError as error:
        caught.append(error)
    for error in caught:
        assert all(problem.file and problem.fact and problem.remedy for problem in error.problems)
        assert str(error).startswith(f"{len(error.problems)} problem")
        assert f"in {raw}; nothing was planned or trained:" in str(error)
    return [str(problem) for error in caught for problem in error.problems]


def edit(raw: Path, **changes: object) -> None:
    """Change the ``dataset.json``; None removes a key."""
    path = raw / "dataset.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def rewrite(path: Path, *, shift_mm: float = 0.0, **changes: np.ndarray) -> None:
    image = nibabel.load(path)
    affine = image.affine.copy()
    affine[0, 3] += shift_mm
    voxels = changes.get("voxels", np.asarray(image.dataobj))
    path.unlink()
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)


def label(raw: Path, case: int = 1) -> Path:
    return raw / "labelsTr" / f"case_{case}.nii.gz"


def image(raw: Path, case: int = 1) -> Path:
    return raw / "imagesTr" / f"case_{case}_0000.nii.gz"


def test_a_good_data_set_is_read_once(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(raw) == []
    assert (raw.parents[1] / "preprocessed" / STAMP_FILE).is_file()
    read = []
    real = check_raw.check_case
    monkeypatch.setattr(check_raw, "check_case", lambda case: (read.append(case.image.name), real(case))[1])
    assert problems(raw) == []
    assert read == []
    rewrite(label(raw), shift_mm=40)
    assert len(problems(raw)) == 1, "what has changed is read again"
    assert sorted(read) == [f"imagesTr/case_{case}_0000.nii.gz" for case in range(5)]


def test_all_problems_come_together(raw: Path) -> None:
    rewrite(label(raw, 0), shift_mm=40)
    label(raw, 1).unlink()
    image(raw, 2).rename(raw / "imagesTr" / "case_2.nii.gz")
    image(raw, 3).write_bytes(image(raw, 3).read_bytes()[:-30])
    found = problems(raw)
    assert [line.split(": ")[0] for line in sorted(found)] == [
        "imagesTr/case_2.nii.gz",
        "imagesTr/case_3_0000.nii.gz",
        "labelsTr/case_0.nii.gz",
        "labelsTr/case_1.nii.gz",
        "labelsTr/case_2.nii.gz",
    ]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"background": 0, "bright": 1}, "label values from 0 to 2, allowed are 0..1"),
        ({"background": 0, "bright": 1, "dark": 3}, "the label values [0, 1, 3] are not consecutive from 0"),
        ({"background": 0, "bright": "1"}, "the label values ['1'] are no integers"),
        ({"background": 0, "whole": [1, 2], "dark": 2}, "has regions but no regions_class_order"),
        (["background"], "are no tables"),
    ],
)
def test_labels_outside_the_table(raw: Path, labels: object, expected: str) -> None:
    edit(raw, labels=labels)
    assert expected in problems(raw)[0]


def test_regions_and_an_ignore_label(raw: Path) -> None:
    edit(raw, labels={"background": 0, "whole": [1, 2], "dark": 2, "ignore": 3}, regions_class_order=[1, 2])
    assert problems(raw) == []


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


def test_the_forms_of_other_frameworks_and_how_to_convert_them(raw: Path) -> None:
    edit(raw, channel_names=None, file_ending=None, modality={"0": "CT"}, labels={"0": "background", "1": "bright"})
    (line,) = problems(raw)
    assert 'dataset.json: has the form of nnU-Net v1 ("modality")' in line
    assert f"nnUNetv2_convert_old_nnUNet_dataset {raw} DatasetXXX_NAME" in line
    for path in sorted((raw / "imagesTr").iterdir()):
        path.rename(path.with_name(path.name.replace("_0000", "")))
    (line,) = problems(raw)
    assert "the Medical Segmentation Decathlon" in line
    assert f"nnUNetv2_convert_MSD_dataset -i {raw}" in line


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"file_ending": None, "numTraining": None}, "has no numTraining, file_ending"),
        ({"file_ending": ".nrrd"}, "imagesTr: holds no image named CASE_0000.nrrd"),
        ({"numTraining": 6}, "says numTraining 6, but there are 5 training cases"),
        ({"dataset": {"case_0": {"images": ["imagesTr/case_0_0000.nii.gz"]}}}, "are no tables"),
    ],
)
def test_dataset_json(raw: Path, changes: dict[str, object], expected: str) -> None:
    edit(raw, **changes)
    assert expected in problems(raw)[0]


def test_a_damaged_dataset_json(raw: Path) -> None:
    (raw / "dataset.json").write_text("{")
    assert problems(raw)[0].startswith("dataset.json: cannot be read")


def test_cases_that_dataset_json_lists(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = raw.rename(tmp_path / "elsewhere")
    raw.mkdir()
    shutil.move(elsewhere / "dataset.json", raw)
    monkeypatch.setenv("MY_DATA", str(elsewhere))
    listed = {
        f"case_{case}": {"images": [f"$MY_DATA/imagesTr/{image(raw, case).name}"], "label": str(label(elsewhere, case))}
        for case in range(5)
    }
    edit(raw, dataset=listed)
    assert problems(raw) == []
    label(elsewhere, 4).unlink()
    (line,) = problems(raw)
    assert line.startswith(f"{label(elsewhere, 4)}: is missing for case case_4")


def test_fewer_cases_than_folds(raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in (image(raw, 4), label(raw, 4)):
        path.unlink()
    edit(raw, numTraining=4)
    (line,) = problems(raw)
    assert line.startswith(f"{raw.name}: holds 4 training cases, fewer than the 5 folds that nnU-Net draws -> ")
    assert problems(raw, five_folds=False) == []
    assert "warning: Dataset917_Blobs: holds 4 training cases" in caplog.text
    splits = [{"train": ["case_0", "case_1"], "val": ["case_2", "case_9"]}]
    (raw / "splits_final.json").write_text(json.dumps(splits))
    (line,) = problems(raw)
    assert "splits_final.json: names 1 cases that are not there (case_9)" in line
    (raw / "splits_final.json").write_text('{"train": []}')
    assert "is no list of folds" in problems(raw)[0]


def test_formats_that_hold_no_geometry_are_checked_by_name(raw: Path) -> None:
    edit(raw, file_ending=".png")
    for folder in ("imagesTr", "labelsTr"):
        for path in sorted((raw / folder).iterdir()):
            path.rename(path.with_name(path.name.replace(".nii.gz", ".png")))
    assert problems(raw) == []
    (raw / "labelsTr" / "case_0.png").unlink()
    assert problems(raw)[0].startswith("labelsTr/case_0.png: is missing for case case_0")


def test_our_own_data_sets_pass_at_once(raw: Path) -> None:
    label(raw, 1).unlink()
    edit(raw, converted_by="unetr_nnunet 0.1.0 convert btcv")
    assert problems(raw)
    (raw / "conversion.json").write_text("{}")
    assert problems(raw) == []


def test_a_data_set_by_its_number(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_raw", raising=False)
    check_dataset_to_plan(917)  # the planner says that nnU-Net's folders are not set
    for kind in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{kind}", str(raw.parents[1] / kind))
    check_dataset_to_plan(918)
    check_dataset_to_plan(917)
    label(raw).unlink()
    with pytest.raises(ProblemsFoundError, match=r"labelsTr/case_1\.nii\.gz: is missing for case case_1"):
        check_dataset_to_plan(917)
