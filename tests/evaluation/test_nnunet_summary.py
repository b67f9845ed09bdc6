"""``summary.json`` against the one that nnU-Net writes of the same files, read by nnU-Net."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from tests.evaluation.nnunet_evaluation import nnunet_evaluation
from unetr_nnunet.evaluation.absent_organs import RULES
from unetr_nnunet.evaluation.folder import evaluate_folder
from unetr_nnunet.evaluation.nnunet_summary import offer_nnunet_summary
from unetr_nnunet.evaluation.protocols import DEFAULT_PROTOCOL


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two cases with ignored voxels; the aorta is in neither, the liver missed in one."""
    random = np.random.default_rng(4)
    for case in range(2):
        truth, prediction = random.integers(0, 4, (2, 5, 8, 9), np.uint8)
        prediction[prediction == 3] = 0
        if case:
            prediction[prediction == 2] = 1
        for folder, array in (("labels", truth), ("predictions", prediction)):
            (tmp_path / folder).mkdir(exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / folder / f"case_{case}.nii.gz"))
    table = {"background": 0, "spleen": 1, "liver": 2, "aorta": 4, "ignore": 3}
    (tmp_path / "predictions" / "dataset.json").write_text(json.dumps({"labels": table}))
    return tmp_path / "predictions", tmp_path / "labels"


def assert_same(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, dict):
        assert ours.keys() - {"written_by"} == theirs.keys()
        for key, value in theirs.items():
            assert_same(ours[key], value)
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for left, right in zip(ours, theirs, strict=True):
            assert_same(left, right)
    elif isinstance(theirs, str):
        assert ours == theirs
    else:
        assert ours == pytest.approx(theirs, abs=1e-12, nan_ok=True)


def test_nnunet_reads_what_it_would_have_written(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = pytest.importorskip("nnunetv2.evaluation.evaluate_predictions").load_summary_json
    with pytest.warns(RuntimeWarning, match="Mean of empty slice"):
        nnunet_evaluation(monkeypatch, *folders, [1, 2, 4], ignore_label=3, output=tmp_path / "theirs.json")
    assert offer_nnunet_summary(evaluate_folder(*folders), tmp_path / "ours.json")
    ours, theirs = reader(str(tmp_path / "ours.json")), reader(str(tmp_path / "theirs.json"))
    assert_same(ours, theirs)
    assert math.isnan(theirs["foreground_mean"]["Dice"])
    assert theirs["metric_per_case"][1]["metrics"][2]["Dice"] == 0


def test_nnunets_own_file_stays(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for content in ('{"foreground_mean": {"Dice": 0.5}}', "[]", "no json"):
        (tmp_path / "summary.json").write_text(content)
        assert not offer_nnunet_summary(evaluate_folder(*folders), tmp_path / "summary.json")
        assert (tmp_path / "summary.json").read_text() == content


def test_a_part_of_the_folder_is_not_passed_off_as_the_whole(folders: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    assert offer_nnunet_summary(evaluate_folder(*folders), path)
    assert offer_nnunet_summary(evaluate_folder(*folders), path), "our own file is renewed"
    (folders[0] / "case_1.nii.gz").write_bytes(b"")
    assert not offer_nnunet_summary(evaluate_folder(*folders), path)
    assert not path.exists(), "it was true before, and is not any more"


def test_a_part_of_the_labels_is_not_passed_off_as_all(folders: tuple[Path, Path], tmp_path: Path) -> None:
    evaluation = evaluate_folder(*folders) | {"not_scored": {"veins": 5}}
    assert not offer_nnunet_summary(evaluation, tmp_path / "summary.json")


def test_no_other_protocol_is_written_as_nnunets(folders: tuple[Path, Path], tmp_path: Path) -> None:
    evaluation = evaluate_folder(*folders, protocol=DEFAULT_PROTOCOL.with_rule(RULES["unetr"]))
    assert not offer_nnunet_summary(evaluation, tmp_path / "summary.json")
    assert not (tmp_path / "summary.json").exists()
