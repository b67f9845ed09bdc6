"""Files that nnU-Net itself wrote, whole and damaged; what we write is read by nnU-Net in tests/evaluation."""

import json
import math
from pathlib import Path

import pytest

from tests.evaluation.nnunet_evaluation import nnunet_evaluation
from tests.evaluation.nnunet_tree import DATASET, write_tree
from unetr_nnunet.nnunet.summary import LabelFigures, Summary, SummaryCase, read_summary, write_summary


@pytest.fixture
def summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fold 1, which has a case without a gallbladder."""
    folder = write_tree(tmp_path) / "fold_1" / "validation"
    labels = tmp_path / "nnUNet_preprocessed" / DATASET / "gt_segmentations"
    nnunet_evaluation(monkeypatch, folder, labels, [1, (1, 2)], output=folder / "summary.json")
    return folder / "summary.json"


def test_labels_and_regions_are_read(summary: Path) -> None:
    content = json.loads(summary.read_text())
    for case, expected in zip(read_summary(summary).metric_per_case, content["metric_per_case"], strict=True):
        assert case.prediction_file == expected["prediction_file"]
        assert case.reference_file == expected["reference_file"]
        assert set(case.metrics) == {"1", "(1, 2)"}
        for label, figures in case.metrics.items():
            assert vars(figures) == expected["metrics"][label]
    assert read_summary(summary).written_by is None


def test_what_is_written_is_read(tmp_path: Path) -> None:
    figures = LabelFigures(math.nan, math.nan, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0)
    summary = Summary([SummaryCase("a.nii.gz", "b.nii.gz", {"1": figures})], written_by="a test")
    write_summary(summary, {"1": figures}, figures, tmp_path / "summary.json")
    assert repr(read_summary(tmp_path / "summary.json")) == repr(summary), "NaN is like NaN"


@pytest.mark.parametrize("content", ["", "[" * 100_000, '{"mean": ', "[]", '{"metric_per_case": {}}', '{"mean": {}}'])
def test_what_is_no_summary(tmp_path: Path, content: str) -> None:
    path = tmp_path / "summary.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"^\S*summary.json is damaged: .*; score the masks again, or delete it$"):
        read_summary(path)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"metrics": {"1": {"TP": "many"}}}, r"metrics.1.Dice"),
        ({"prediction_file": None}, "prediction_file"),
    ],
)
def test_a_broken_case(summary: Path, change: dict[str, object], place: str) -> None:
    content = json.loads(summary.read_text())
    content["metric_per_case"][0].update(change)
    summary.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"summary.json is damaged: metric_per_case.0.{place}: "):
        read_summary(summary)


@pytest.mark.parametrize(("name", "value"), [("Dice", 7), ("IoU", -2), ("Dice", math.inf), ("n_ref", 10**400)])
def test_a_figure_that_no_case_can_score(summary: Path, name: str, value: float) -> None:
    content = json.loads(summary.read_text())
    content["metric_per_case"][0]["metrics"]["1"][name] = value
    summary.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"summary.json is damaged: metric_per_case.0.metrics.1.{name}: "):
        read_summary(summary)
