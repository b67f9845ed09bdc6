"""Each test damages a good raw data set in one place."""

import json
import shutil
from pathlib import Path

import pytest

from tests.dataset_conversion.raw_sets import edit, image, label, problems, rewrite
from unetr_nnunet.dataset_conversion.check_raw import check_dataset_to_plan
from unetr_nnunet.dataset_conversion.problems import ProblemsFoundError


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
        ({"background": 0, "bright": "1"}, "the label values ['1'] are not integers"),
        ({"background": 0, "whole": [1, 2], "dark": 2}, "has regions but no regions_class_order"),
        (["background"], "are not tables"),
    ],
)
def test_labels_outside_the_table(raw: Path, labels: object, expected: str) -> None:
    edit(raw, labels=labels)
    assert expected in problems(raw)[0]


def test_regions_and_an_ignore_label(raw: Path) -> None:
    edit(raw, labels={"background": 0, "whole": [1, 2], "dark": 2, "ignore": 3}, regions_class_order=[1, 2])
    assert problems(raw) == []


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
        ({"dataset": {"case_0": {"images": ["imagesTr/case_0_0000.nii.gz"]}}}, "are not tables"),
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
    assert "splits_final.json: is damaged" in problems(raw)[0]


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
