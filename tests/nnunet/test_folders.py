"""Names against nnU-Net's own functions that make them."""

import json
from pathlib import Path

import pytest

from tests.evaluation.nnunet_tree import DATASET, MODEL, write_tree
from unetr_nnunet.nnunet.folders import (
    dataset_folder,
    fold_folders,
    label_folders,
    model_folder,
    model_name,
    seed_of,
    validation_cases,
    validation_folders,
)

RESULTS = Path("/data/nnUNet_results") / DATASET


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("inside", "name", "seed"),
    [
        ("nnUNetTrainer__nnUNetPlans__3d_fullres", "nnUNetTrainer", None),
        (MODEL, "nnUNetTrainerUNETR_Tiny_2epochs_seed3", 3),
        (
            "nnUNetTrainerUNETR_seed12__nnUNetResEncUNetLPlans__2d",
            "nnUNetTrainerUNETR_seed12 nnUNetResEncUNetLPlans 2d",
            12,
        ),
        (f"{MODEL}/fold_1/validation", "nnUNetTrainerUNETR_Tiny_2epochs_seed3 fold_1", 3),
        (f"{MODEL}/crossval_results_folds_0_1", "nnUNetTrainerUNETR_Tiny_2epochs_seed3", 3),
        (f"{MODEL}/crossval_results_folds_0_1/postprocessed", "nnUNetTrainerUNETR_Tiny_2epochs_seed3 postprocessed", 3),
        ("predictions_seed4", "predictions_seed4", None),
        ("nnUNetTrainerNoDA_4epochs_seed0", "nnUNetTrainerNoDA_4epochs_seed0", 0),
    ],
)
def test_names_and_seeds(inside: str, name: str, seed: int | None) -> None:
    assert model_name(RESULTS / inside) == name
    assert seed_of(RESULTS / inside) == seed


def test_nnunets_own_names() -> None:
    paths = pytest.importorskip("nnunetv2.utilities.file_path_utilities")
    identifier = paths.convert_trainer_plans_config_to_identifier(
        "nnUNetTrainerUNETR_seed5", "nnUNetPlans", "3d_fullres"
    )
    assert (model_name(RESULTS / identifier), seed_of(RESULTS / identifier)) == ("nnUNetTrainerUNETR_seed5", 5)
    ensemble = paths.get_ensemble_name(str(RESULTS / identifier), str(RESULTS / MODEL), (0, 1))
    folder = RESULTS / "ensembles" / ensemble
    assert model_name(folder) == "ensemble of nnUNetTrainerUNETR_seed5 and nnUNetTrainerUNETR_Tiny_2epochs_seed3"
    assert model_folder(folder) is None
    assert seed_of(folder) is None
    assert dataset_folder(folder) == RESULTS
    assert dataset_folder(Path("/tmp")) is None


def test_folds(tmp_path: Path) -> None:
    model = write_tree(tmp_path, folds=(0, 2))
    for name in ("fold_10/validation", "fold_all/validation", "fold_3"):
        (model / name).mkdir(parents=True)
    assert list(fold_folders(model)) == ["0", "2", "3", "10", "all"]
    assert list(validation_folders(model)) == ["0", "2", "10", "all"]
    one = {"2": model / "fold_2" / "validation"}
    assert validation_folders(model / "fold_2") == validation_folders(model / "fold_2" / "validation") == one
    assert validation_folders(tmp_path) == {}


def test_labels_beside_the_results_go_before_those_of_the_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_tree(tmp_path / "study")
    other = tmp_path / "other" / DATASET / "labelsTr"
    other.mkdir(parents=True)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "other"))
    assert label_folders(model) == [tmp_path / "study" / "nnUNet_preprocessed" / DATASET / "gt_segmentations", other]
    assert label_folders(tmp_path) == []


def test_splits(tmp_path: Path) -> None:
    model = write_tree(tmp_path)
    assert validation_cases(model) == {"0": ["case_0", "case_3"], "1": ["case_1", "case_4"], "2": ["case_2"]}
    assert validation_cases(tmp_path) == {}
    path = tmp_path / "nnUNet_preprocessed" / DATASET / "splits_final.json"
    for content in ("[", json.dumps([{"train": []}]), "3"):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"splits_final.json holds no splits of nnU-Net"):
            validation_cases(model)
