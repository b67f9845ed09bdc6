"""Every kind of folder that nnU-Net leaves, whole and damaged."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.evaluation.nnunet_evaluation import nnunet_evaluation
from tests.evaluation.nnunet_tree import DATASET, MODEL, SPLITS, prediction, truth, write_labels, write_mask, write_tree
from unetr_nnunet.evaluation.comparison import compare_models
from unetr_nnunet.evaluation.folder import evaluate_folder
from unetr_nnunet.evaluation.metrics_file import write_json
from unetr_nnunet.evaluation.model_results import read_model
from unetr_nnunet.evaluation.verdict import Outcome

CASES = [f"case_{case}" for case in range(5)]
NAME = "nnUNetTrainerUNETR_Tiny_2epochs_seed3"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return tmp_path / "nnUNet_preprocessed" / DATASET / "gt_segmentations"


@pytest.fixture
def gathered(tmp_path: Path) -> Callable[..., Path]:
    """Copy all folds' masks into one folder, as nnU-Net does."""

    def gather(model: Path, *parts: str) -> Path:
        folder = tmp_path.joinpath(*parts)
        write_labels(folder)
        for path in model.glob("fold_*/validation/*.nii.gz"):
            shutil.copy(path, folder)
        return folder

    return gather


def test_all_folds_of_a_model_are_one_evaluation(
    tmp_path: Path, labels: Path, gathered: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_tree(tmp_path)
    results = read_model(model, workers=2)
    assert (results.name, results.seed, results.folder, results.notes) == (NAME, 3, model, ())
    assert sorted(results.evaluation.cases) == CASES
    assert results.fold_of == {case: str(fold) for fold, cases in enumerate(SPLITS) for case in cases}
    assert results.predictions["case_4"] == model / "fold_1" / "validation" / "case_4.nii.gz"
    assert results.labels["case_4"] == labels / "case_4.nii.gz"
    assert list(results.evaluation.columns) == ["spleen", "liver", "gallbladder"]
    theirs = nnunet_evaluation(monkeypatch, gathered(model, "all"), labels, [1, 2, 3])
    assert results.evaluation.over_organs().mean == pytest.approx(theirs["foreground_mean"]["Dice"], abs=1e-12)
    assert results.evaluation.scores()["liver"]["case_2"] == pytest.approx(
        theirs["metric_per_case"][2]["metrics"][2]["Dice"]
    )
    with pytest.raises(ValueError, match="beauty was not measured, only dice, iou"):
        results.evaluation.scores("beauty")


def test_folds_and_cases_that_are_missing_are_named(tmp_path: Path) -> None:
    model = write_tree(tmp_path, folds=(0, 1))
    (model / "fold_0" / "validation" / "case_3.nii.gz").unlink()
    (model / "fold_2").mkdir()
    results = read_model(model)
    assert sorted(results.evaluation.cases) == ["case_0", "case_1", "case_4"]
    assert results.evaluation.without_prediction == ["case_3"]
    assert results.notes == (
        "fold 2 has no validation (not finished?) and is left out",
        "fold 2 of 3 not there: 1 of 5 cases are not scored",
    )


def test_one_fold(tmp_path: Path) -> None:
    model = write_tree(tmp_path)
    for folder in (model / "fold_1", model / "fold_1" / "validation"):
        results = read_model(folder)
        assert results.fold_of == {"case_1": "1", "case_4": "1"}
        assert (results.name, results.notes) == (f"{NAME} fold_1", ())
        assert results.evaluation.without_prediction == []


@pytest.mark.parametrize(
    ("parts", "name", "seed"),
    [
        (("nnUNet_results", DATASET, MODEL, "crossval_results_folds_0_1_2"), NAME, 3),
        (
            ("nnUNet_results", DATASET, "ensembles", f"ensemble___{MODEL}___nnUNetTrainer__nnUNetPlans__2d___0_1_2"),
            f"ensemble of {NAME} and nnUNetTrainer 2d",
            None,
        ),
    ],
)
def test_gathered_folds(
    tmp_path: Path, gathered: Callable[..., Path], parts: tuple[str, ...], name: str, seed: int | None
) -> None:
    model = write_tree(tmp_path)
    results = read_model(gathered(model, *parts))
    assert (results.name, results.seed) == (name, seed)
    assert results.fold_of == {case: str(fold) for fold, cases in enumerate(SPLITS) for case in cases}
    assert results.evaluation.scores() == read_model(model).evaluation.scores()


def test_a_folder_of_predictions(tmp_path: Path, labels: Path, gathered: Callable[..., Path]) -> None:
    folder = gathered(write_tree(tmp_path), "predictions")
    results = read_model(folder, labels, name="mine", protocol="nnunet")
    assert (results.name, results.seed, results.fold_of) == ("mine", None, {})
    assert sorted(results.evaluation.cases) == CASES
    with pytest.raises(ValueError, match=r"no true label maps were found for the masks in .*predictions.*--labels"):
        read_model(folder)
    write_json(evaluate_folder(folder, labels), folder / "metrics.json")  # which tells where the labels are
    assert read_model(folder).labels["case_0"] == labels / "case_0.nii.gz"


def test_a_finished_evaluation_is_used_until_a_mask_is_another(tmp_path: Path, labels: Path) -> None:
    model = write_tree(tmp_path)
    folder = model / "fold_1" / "validation"
    write_labels(folder)
    write_json(evaluate_folder(folder, labels), folder / "metrics.json")
    content = json.loads((folder / "metrics.json").read_text())
    content["cases"]["case_1"]["liver"]["dice"] = 0.123
    (folder / "metrics.json").write_text(json.dumps(content))
    results = read_model(model)
    assert results.evaluation.scores()["liver"]["case_1"] == 0.123
    assert sorted(results.evaluation.cases) == CASES
    assert results.evaluation.worst("liver") == ("case_1", 0.123)
    write_mask(folder / "case_4.nii.gz", truth(4))
    assert read_model(model).evaluation.scores()["liver"]["case_1"] > 0.5
    (folder / "metrics.json").write_text("{")
    results = read_model(model)
    assert results.evaluation.scores()["liver"]["case_1"] > 0.5
    assert "metrics.json is damaged" in results.notes[0]
    assert results.notes[0].endswith("(the masks were scored again)")


def test_without_masks_nnunets_own_figures_are_taken(
    tmp_path: Path, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_tree(tmp_path)
    folder = model / "fold_1" / "validation"
    whole = read_model(model)
    nnunet_evaluation(monkeypatch, folder, labels, [1, 2, 3], output=folder / "summary.json")
    for path in folder.glob("*.nii.gz"):
        path.unlink()
    results = read_model(model)
    assert results.evaluation.scores()["liver"] == pytest.approx(whole.evaluation.scores()["liver"])
    assert results.evaluation.metrics[:2] == ["dice", "iou"]
    assert "hd95_mm" not in results.evaluation.metrics
    assert "case_1" not in results.predictions
    assert "fold_1/validation holds no label map" in results.notes[0]
    assert results.notes[0].endswith("the figures are those of " + str(folder / "summary.json"))
    alone = read_model(folder / "summary.json")
    assert (alone.name, alone.fold_of) == (f"{NAME} fold_1", {"case_1": "1", "case_4": "1"})
    with pytest.raises(ValueError, match="follows the protocol 'nnunet', not 'unetr': ask for 'nnunet', or score"):
        read_model(folder / "summary.json", protocol="unetr")
    (folder / "summary.json").write_text('{"mean": ')
    results = read_model(model)
    assert sorted(results.evaluation.cases) == ["case_0", "case_2", "case_3"]
    assert "summary.json is damaged" in results.notes[0]
    with pytest.raises(ValueError, match=r"summary.json is damaged"):
        read_model(folder / "summary.json")


def test_a_metrics_file_alone(tmp_path: Path, labels: Path) -> None:
    model = write_tree(tmp_path)
    folder = model / "fold_0" / "validation"
    write_labels(folder)
    write_json(evaluate_folder(folder, labels), tmp_path / "figures" / "metrics.json")
    results = read_model(tmp_path / "figures" / "metrics.json")
    assert results.name == "figures"
    assert results.evaluation.scores() == read_model(folder).evaluation.scores()


def test_the_folder_of_a_metrics_file_tells_the_seed(tmp_path: Path) -> None:
    metrics = tmp_path / "kept" / NAME / "metrics.json"
    metrics.parent.mkdir(parents=True)
    write_json(read_model(write_tree(tmp_path)).evaluation, metrics)
    results = read_model(metrics)
    assert (results.name, results.seed) == (NAME, 3)
    assert read_model(metrics, name="mine").seed == 3


def test_a_case_in_two_folds_counts_in_neither(tmp_path: Path) -> None:
    model = write_tree(tmp_path)
    write_mask(model / "fold_2" / "validation" / "case_0.nii.gz", truth(0))
    results = read_model(model)
    assert sorted(results.evaluation.cases) == CASES[1:]
    assert results.evaluation.refused == {
        "case_0": "folds 0, 2 all hold a prediction; were the splits changed in between?"
    }
    assert "case_0" not in results.fold_of


def test_the_fold_that_trains_on_everything(tmp_path: Path) -> None:
    model = write_tree(tmp_path)
    write_mask(model / "fold_all" / "validation" / "case_0.nii.gz", truth(0))
    results = read_model(model)
    assert results.evaluation.refused == {}
    assert results.notes == ('fold "all" is left out: its validation cases are those it was trained on',)
    alone = read_model(model / "fold_all")
    assert "cases it was trained on" in alone.notes[0]
    for case in (1, 2, 3):
        write_mask(model / "fold_all" / "validation" / f"case_{case}.nii.gz", truth(case))
    for fold in range(3):
        shutil.rmtree(model / f"fold_{fold}")
    only = read_model(model)
    assert sorted(only.evaluation.cases) == CASES[:4]
    assert only.evaluation.without_prediction == ["case_4"]
    assert only.notes == alone.notes, "no other fold is missing"


def test_a_broken_mask_costs_that_case_only(tmp_path: Path) -> None:
    model = write_tree(tmp_path)
    (model / "fold_0" / "validation" / "case_0.nii.gz").write_bytes(b"no mask")
    strange = prediction(1)
    strange[0, 0, 0] = 9
    write_mask(model / "fold_1" / "validation" / "case_1.nii.gz", strange)
    results = read_model(model)
    assert sorted(results.evaluation.cases) == ["case_2", "case_3", "case_4"]
    assert "holds label(s) 9, which the label table does not name" in results.evaluation.refused["case_1"]
    assert "case_0.nii.gz" in results.evaluation.refused["case_0"]
    assert results.evaluation.without_prediction == []


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere does not exist"):
        read_model(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no label map"):
        read_model(tmp_path)
    model = write_tree(tmp_path, folds=())
    (model / "fold_0").mkdir()
    with pytest.raises(ValueError, match=r"no fold of .* has a validation folder yet; finish a training"):
        read_model(model)
    with pytest.raises(ValueError, match="unknown protocol 'best'; choose one of nnunet"):
        read_model(model, protocol="best")


def test_damaged_splits_are_said(tmp_path: Path) -> None:
    model = write_tree(tmp_path)
    (tmp_path / "nnUNet_preprocessed" / DATASET / "splits_final.json").write_text("{")
    results = read_model(model)
    assert sorted(results.evaluation.cases) == CASES
    assert "splits_final.json is damaged" in results.notes[0]


def test_models_are_compared_as_they_were_read(tmp_path: Path) -> None:
    models = [
        read_model(write_tree(tmp_path, model=f"nnUNetTrainer{name}__nnUNetPlans__3d_fullres", wrong=wrong))
        for name, wrong in (("Good", 0.1), ("Bad", 0.6))
    ]
    result = compare_models({model.name: model.evaluation.scores() for model in models})
    assert [row.model for row in result.ranking] == ["nnUNetTrainerGood", "nnUNetTrainerBad"]
    assert result.ranking[0].mean == pytest.approx(models[0].evaluation.over_organs().mean)
    assert not math.isnan(result.pairs[0].mean.difference)
    assert result.pairs[0].mean.outcome is Outcome.TOO_FEW
