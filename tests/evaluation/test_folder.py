"""Whole folders, against nnU-Net's own evaluation of the same files."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from tests.evaluation.nnunet_evaluation import nnunet_evaluation
from unetr_nnunet.evaluation import folder
from unetr_nnunet.evaluation.figures import Evaluation, Grid
from unetr_nnunet.evaluation.folder import evaluate_folder, evaluate_protocols
from unetr_nnunet.evaluation.protocols import PROTOCOLS

LABELS = {"background": 0, "spleen": 1, "liver": 2, "gallbladder": 3, "aorta": 4}


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.8, 0.8, 3.0))
    sitk.WriteImage(image, str(path))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three cases; no case has an aorta, the gallbladder is absent from both, truth, or prediction."""
    random = np.random.default_rng(1)
    predictions, labels = tmp_path / "predictions", tmp_path / "labels"
    for case in range(3):
        truth, prediction = random.integers(0, 4, (2, 6, 20, 20), np.uint8)
        for volume, without in ((truth, (0, 1)), (prediction, (0, 2))):
            if case in without:
                volume[volume == 3] = 0
        write(labels / f"case_{case}.nii.gz", truth)
        write(predictions / f"case_{case}.nii.gz", prediction)
    (predictions / "dataset.json").write_text(json.dumps({"labels": LABELS}))
    return predictions, labels


def assert_equal_to_nnunet(ours: Evaluation, theirs: dict[str, Any], scored: dict[str, int]) -> None:
    for case in theirs["metric_per_case"]:
        organs = ours.cases[Path(case["prediction_file"]).name.removesuffix(".nii.gz")].organs
        for organ, label in scored.items():
            expected = case["metrics"][label]
            assert organs[organ].dice == pytest.approx(expected["Dice"], abs=1e-12, nan_ok=True)
            assert organs[organ].truth_voxels == expected["n_ref"]
            assert organs[organ].prediction_voxels == expected["n_pred"]
            assert organs[organ].overlap_voxels == expected["TP"]
    assert len(theirs["metric_per_case"]) == len(ours.cases)
    for organ, label in scored.items():
        expected = theirs["mean"][label]["Dice"]
        assert ours.over_cases(organ).mean == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_equal_to_nnunets_summary(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, labels = folders
    with pytest.warns(RuntimeWarning, match="Mean of empty slice"):
        theirs = nnunet_evaluation(monkeypatch, predictions, labels, [1, 2, 3, 4])
    ours = evaluate_folder(predictions, labels)
    organs = {name: label for name, label in LABELS.items() if label}
    assert_equal_to_nnunet(ours, theirs, organs)
    assert math.isnan(theirs["foreground_mean"]["Dice"])  # because of the aorta; ours stands, and says so
    present = [ours.over_cases(organ).mean for organ in ("spleen", "liver", "gallbladder")]
    assert ours.over_organs().mean == pytest.approx(np.mean(present))
    assert (ours.over_organs().columns, len(ours.cases)) == (3, 3)
    assert ours.absent("aorta").in_both == 3
    assert ours.over_cases("gallbladder").cases == 2


def test_a_mask_of_uint64_is_scored_like_any_other(folders: tuple[Path, Path]) -> None:
    predictions, labels = folders
    expected = evaluate_folder(predictions, labels).cases["case_1"].organs["liver"]
    path = predictions / "case_1.nii.gz"
    image = sitk.ReadImage(str(path))
    sitk.WriteImage(sitk.Cast(image, sitk.sitkUInt64), str(path))
    evaluation = evaluate_folder(predictions, labels)
    assert evaluation.refused == {}
    assert evaluation.cases["case_1"].organs["liver"] == expected


def test_what_no_reader_foresaw_costs_one_case(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    score = folder.evaluate_case

    def fails_once(prediction: Path, *others: Any) -> Any:
        if prediction.name == "case_1.nii.gz":
            raise TypeError("cannot cast")
        return score(prediction, *others)

    monkeypatch.setattr(folder, "evaluate_case", fails_once)
    evaluation = evaluate_folder(*folders)
    assert evaluation.refused == {"case_1": "cannot cast"}
    assert list(evaluation.cases) == ["case_0", "case_2"]


def test_equal_to_nnunets_foreground_mean(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, labels = folders
    organs = {"spleen": 1, "liver": 2, "gallbladder": 3}
    (predictions / "dataset.json").write_text(json.dumps({"labels": {"background": 0, **organs}}))
    theirs, ours = nnunet_evaluation(monkeypatch, predictions, labels, [1, 2, 3]), evaluate_folder(predictions, labels)
    assert_equal_to_nnunet(ours, theirs, organs)
    assert ours.over_organs().mean == pytest.approx(theirs["foreground_mean"]["Dice"], abs=1e-12)


def test_equal_to_nnunet_with_an_ignore_label(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, labels = folders
    organs = {"spleen": 1, "liver": 2}
    (predictions / "dataset.json").write_text(json.dumps({"labels": {"background": 0, **organs, "ignore": 3}}))
    theirs = nnunet_evaluation(monkeypatch, predictions, labels, [1, 2], ignore_label=3)
    assert_equal_to_nnunet(evaluate_folder(predictions, labels), theirs, organs)


def test_workers_change_nothing(folders: tuple[Path, Path]) -> None:
    one, three = (repr(evaluate_folder(*folders, workers=workers)) for workers in (1, 3))
    assert one == three
    with pytest.raises(ValueError, match="workers is 0"):
        evaluate_folder(*folders, workers=0)


def test_one_broken_case_costs_that_case_only(folders: tuple[Path, Path]) -> None:
    predictions, labels = folders
    sound = evaluate_folder(predictions, labels).cases["case_2"]
    content = (predictions / "case_0.nii.gz").read_bytes()
    (predictions / "case_0.nii.gz").write_bytes(content[: len(content) // 2])
    shifted = sitk.ReadImage(str(predictions / "case_1.nii.gz"))
    shifted.SetOrigin((5.0, 0.0, 0.0))
    sitk.WriteImage(shifted, str(predictions / "case_1.nii.gz"))
    for name, array in (("unknown", np.full((2, 2, 2), 9, np.uint8)), ("half", np.full((2, 2, 2), 0.5, np.float32))):
        write(predictions / f"{name}.nii.gz", array)
        write(labels / f"{name}.nii.gz", np.zeros((2, 2, 2), np.uint8))
    write(predictions / "size.nii.gz", np.zeros((2, 2, 2), np.uint8))
    write(labels / "size.nii.gz", np.zeros((2, 2, 3), np.uint8))
    evaluation = evaluate_folder(predictions, labels, workers=2)
    assert dict(evaluation.cases) == {"case_2": sound}
    refused = evaluation.refused
    assert sorted(refused) == ["case_0", "case_1", "half", "size", "unknown"]
    assert "gzip" in refused["case_0"]
    assert "different grids: origin (5, 0, 0) against (0, 0, 0) mm" in refused["case_1"]
    assert "holds 0.5, which is no label" in refused["half"]
    assert "size (2, 2, 2) against (3, 2, 2) voxels" in refused["size"]
    assert "prediction holds label(s) 9" in refused["unknown"]


def test_every_protocol_in_one_reading(tmp_path: Path) -> None:
    """One case of BTCV labels without a gallbladder; the prediction invents one and swaps the adrenal glands."""
    truth = np.repeat(np.arange(14, dtype=np.uint8), 40).reshape(14, 4, 10)
    truth[truth == 4] = 0
    prediction = truth.copy()
    prediction[4, 0, 0] = 4
    prediction[truth == 12], prediction[truth == 13] = 13, 12
    write(tmp_path / "predictions" / "BTCV_0035.nii.gz", prediction)
    write(tmp_path / "labels" / "label0035.nii.gz", truth)
    evaluations, impossible = evaluate_protocols(
        tmp_path / "predictions", tmp_path / "labels", list(PROTOCOLS.values())
    )
    assert not impossible
    dice = [evaluation.over_organs().mean for evaluation in evaluations]
    # on paper: 10 of 13 organs right; the glands as one, so 11 of 12; TransUNet's rule makes the wrong one right
    assert dice[:3] == pytest.approx([10 / 13, 11 / 12, 1])
    assert [evaluation.protocol.name for evaluation in evaluations] == list(PROTOCOLS)
    assert evaluations[2].over_cases("gallbladder").mean == 1
    grids = [evaluation.cases["BTCV_0035"].grid for evaluation in evaluations]
    assert grids[0] == Grid([14, 4, 10], pytest.approx([3.0, 0.8, 0.8]), 560)
    # 14 slices, 3 mm apart, are 39 mm from first to last centre; 4 and 10 voxels of 0.8 mm are 2.4 and 7.2 mm
    assert grids[3] == Grid([20, 3, 6], [2.0, 1.5, 1.5], 360)
    assert evaluations[3].over_cases("gallbladder").mean == 0
    assert evaluations[3].over_cases("liver").mean == 1


def test_a_protocol_whose_organs_the_labels_lack_is_left_out(folders: tuple[Path, Path]) -> None:
    evaluations, impossible = evaluate_protocols(*folders, list(PROTOCOLS.values()))
    assert [evaluation.protocol.name for evaluation in evaluations] == ["nnunet"]
    assert [reason.split("'")[1] for reason in impossible] == ["btcv-challenge", "synapse-8", "unetr"]
    with pytest.raises(ValueError, match=r"'synapse-8' scores left_kidney, .* does not name"):
        evaluate_folder(*folders, protocol=PROTOCOLS["synapse-8"])


def test_a_prediction_on_another_grid_is_resampled_where_asked(folders: tuple[Path, Path]) -> None:
    predictions, labels = folders
    sound = evaluate_folder(predictions, labels)
    for path in predictions.glob("*.nii.gz"):
        sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), "RAI"), str(path))
    refused = evaluate_folder(predictions, labels)
    assert sorted(refused.refused) == ["case_0", "case_1", "case_2"]
    assert all("give --resample" in reason for reason in refused.refused.values())
    resampled = evaluate_folder(predictions, labels, resample=True)
    for name, case in sound.cases.items():
        assert repr(resampled.cases[name].organs) == repr(case.organs), "NaN is like NaN"
    assert sound.resampled == {}
    assert all("origin" in how and "0.0% of the grid" in how for how in resampled.resampled.values())
    assert len(resampled.resampled) == 3


def test_a_prediction_that_shares_no_space_is_refused_even_so(folders: tuple[Path, Path]) -> None:
    predictions, labels = folders
    image = sitk.ReadImage(str(predictions / "case_0.nii.gz"))
    image.SetOrigin((5000.0, 0.0, 0.0))
    sitk.WriteImage(image, str(predictions / "case_0.nii.gz"))
    evaluation = evaluate_folder(predictions, labels, resample=True)
    assert "case_0.nii.gz cannot be resampled" in evaluation.refused["case_0"]
    assert list(evaluation.cases) == ["case_1", "case_2"]
