"""``summary.json`` against the one that nnU-Net writes of the same files, read by nnU-Net."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from tests.evaluation.nnunet_evaluation import nnunet_evaluation
from tests.evaluation.nnunet_tree import DATASET, write_tree
from unetr_nnunet.evaluation.folder import evaluate_folder
from unetr_nnunet.evaluation.nnunet_summary import offer_nnunet_summary, read_nnunet_evaluation
from unetr_nnunet.evaluation.protocols import DEFAULT_PROTOCOL, RULES


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
    evaluation = replace(evaluate_folder(*folders), not_scored={"veins": 5})
    assert not offer_nnunet_summary(evaluation, tmp_path / "summary.json")


def test_no_other_protocol_is_written_as_nnunets(folders: tuple[Path, Path], tmp_path: Path) -> None:
    evaluation = evaluate_folder(*folders, protocol=DEFAULT_PROTOCOL.with_rule(RULES["unetr"]))
    assert not offer_nnunet_summary(evaluation, tmp_path / "summary.json")
    assert not (tmp_path / "summary.json").exists()


# ---- what nnU-Net itself wrote ----


@pytest.fixture
def summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fold 1, which has a case without a gallbladder."""
    model = write_tree(tmp_path)
    folder, labels = model / "fold_1" / "validation", tmp_path / "nnUNet_preprocessed" / DATASET / "gt_segmentations"
    shutil.copy(model / "dataset.json", folder)
    path = folder / "summary.json"
    nnunet_evaluation(monkeypatch, folder, labels, [1, 2, 3], output=path)
    return path


def test_the_figures_are_those_of_the_masks(summary: Path, tmp_path: Path) -> None:
    labels = tmp_path / "nnUNet_preprocessed" / DATASET / "gt_segmentations"
    read, computed = read_nnunet_evaluation(summary), evaluate_folder(summary.parent, labels)
    counts = ["truth_voxels", "prediction_voxels", "overlap_voxels"]
    assert read.metrics == ["dice", "iou", "precision", "recall", *counts]
    for name, case in computed.cases.items():
        for organ in case.organs:
            for metric in read.metrics:
                expected = computed.figure(name, organ, metric)
                assert read.figure(name, organ, metric) == pytest.approx(expected, abs=1e-12, nan_ok=True), metric
        assert (read.cases[name].prediction, read.cases[name].label) == (case.prediction, case.label)
    for key in ("labels", "label_ids", "ignore_label", "protocol"):
        assert getattr(read, key) == getattr(computed, key)


def test_an_organ_absent_from_both_has_no_value(summary: Path) -> None:
    content = json.loads(summary.read_text())
    entry = content["metric_per_case"][0]["metrics"]["3"]
    entry.update({"Dice": math.nan, "IoU": math.nan, "TP": 0, "FP": 0, "FN": 0, "n_pred": 0, "n_ref": 0})
    summary.write_text(json.dumps(content))
    figures = read_nnunet_evaluation(summary).cases["case_1"].organs["gallbladder"]
    assert all(math.isnan(value) for value in (figures.dice, figures.iou, figures.precision, figures.recall))


def test_a_summary_without_its_masks_and_table(summary: Path, tmp_path: Path) -> None:
    shutil.copytree(summary.parent.parent.parent, tmp_path / "moved")
    moved = tmp_path / "moved" / "fold_1" / "validation" / "summary.json"
    (moved.parent / "dataset.json").unlink()  # the model's own counts, two folders up
    recorded = read_nnunet_evaluation(moved).cases["case_1"].prediction
    assert Path(recorded) == moved.parent / "case_1.nii.gz"
    alone = tmp_path / "alone" / "summary.json"
    alone.parent.mkdir()
    shutil.copy(summary, alone)
    with pytest.raises(
        ValueError, match=r"alone/summary.json has no figures of gallbladder, .* the 13 BTCV organs.*dataset.json"
    ):
        read_nnunet_evaluation(alone)


def test_a_case_that_is_listed_twice(summary: Path) -> None:
    content = json.loads(summary.read_text())
    content["metric_per_case"] *= 2
    summary.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"summary.json has the case case_\d twice"):
        read_nnunet_evaluation(summary)
