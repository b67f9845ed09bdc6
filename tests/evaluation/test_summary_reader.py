"""Files that nnU-Net itself wrote."""

import json
import math
import shutil
from pathlib import Path

import pytest

from tests.evaluation.nnunet_evaluation import nnunet_evaluation
from tests.evaluation.nnunet_tree import DATASET, write_tree
from unetr_nnunet.evaluation.folder import evaluate_folder
from unetr_nnunet.evaluation.summary_reader import METRICS, case_of, read_summary


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
    read, computed = read_summary(summary), evaluate_folder(summary.parent, labels)
    assert read["metrics"] == list(METRICS)
    for case, columns in computed["cases"].items():
        for column, figures in columns.items():
            for metric in METRICS:
                found = read["cases"][case][column][metric]
                assert found == pytest.approx(figures[metric], abs=1e-12, nan_ok=True), (case, column, metric)
    for key in ("labels", "label_ids", "ignore_label", "protocol", "files"):
        assert read[key] == computed[key]
    assert read["organs"]["gallbladder"]["n_cases"] == computed["organs"]["gallbladder"]["n_cases"]
    assert read["foreground_mean"]["dice"] == pytest.approx(computed["foreground_mean"]["dice"])


def test_an_organ_absent_from_both_has_no_value(summary: Path) -> None:
    content = json.loads(summary.read_text())
    entry = content["metric_per_case"][0]["metrics"]["3"]
    entry.update({"Dice": math.nan, "IoU": math.nan, "TP": 0, "FP": 0, "FN": 0, "n_pred": 0, "n_ref": 0})
    summary.write_text(json.dumps(content))
    figures = read_summary(summary)["cases"]["case_1"]["gallbladder"]
    assert all(math.isnan(figures[metric]) for metric in ("dice", "iou", "precision", "recall"))


def test_a_summary_without_its_masks_and_table(summary: Path, tmp_path: Path) -> None:
    shutil.copytree(summary.parent.parent.parent, tmp_path / "moved")
    moved = tmp_path / "moved" / "fold_1" / "validation" / "summary.json"
    (moved.parent / "dataset.json").unlink()  # the model's own counts, two folders up
    recorded = read_summary(moved)["files"]["case_1"]["prediction"]
    assert Path(recorded) == moved.parent / "case_1.nii.gz"
    alone = tmp_path / "alone" / "summary.json"
    alone.parent.mkdir()
    shutil.copy(summary, alone)
    with pytest.raises(
        ValueError, match=r"alone/summary.json cannot be read: .* the 13 BTCV organs .*'4'.*dataset.json"
    ):
        read_summary(alone)


@pytest.mark.parametrize("content", ["", "[" * 100_000, '{"mean": ', "[]", '{"metric_per_case": {}}', '{"mean": {}}'])
def test_what_is_no_summary(tmp_path: Path, content: str) -> None:
    path = tmp_path / "summary.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"summary.json is (damaged|no summary.json of nnU-Net)"):
        read_summary(path)


@pytest.mark.parametrize("change", [{"metrics": {}}, {"prediction_file": None}, {"metrics": {"1": {"TP": "many"}}}])
def test_a_broken_case(summary: Path, change: dict[str, object]) -> None:
    content = json.loads(summary.read_text())
    content["metric_per_case"][0].update(change)
    summary.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"summary.json cannot be read: a case lacks a figure"):
        read_summary(summary)


@pytest.mark.parametrize(("name", "value"), [("Dice", 7), ("IoU", -2), ("Dice", math.inf), ("n_ref", 10**400)])
def test_a_figure_that_no_case_can_score(summary: Path, name: str, value: float) -> None:
    content = json.loads(summary.read_text())
    content["metric_per_case"][0]["metrics"]["1"][name] = value
    summary.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"summary.json cannot be read: .* impossible one"):
        read_summary(summary)


def test_a_case_that_stands_there_twice(summary: Path) -> None:
    content = json.loads(summary.read_text())
    content["metric_per_case"] *= 2
    summary.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"case_\d stands there twice"):
        read_summary(summary)


def test_case_of() -> None:
    assert [case_of(Path(f"/a/b.c{end}")) for end in (".nii.gz", ".nii", ".mha", ".npz")] == ["b.c"] * 4
