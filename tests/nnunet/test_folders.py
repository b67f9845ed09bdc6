"""Names against nnU-Net's own functions that make them."""

import json
from pathlib import Path

import pytest
from nnunetv2.utilities.file_path_utilities import get_output_folder

from tests.evaluation.nnunet_tree import DATASET, MODEL, write_tree
from unetr_nnunet.nnunet.folders import (
    DatasetFolders,
    dataset_folder,
    enclosing_model,
    find_dataset,
    find_model_folder,
    fold_folders,
    label_folders,
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
    assert enclosing_model(folder) is None
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
        with pytest.raises(ValueError, match=r"splits_final\.json is damaged"):
            validation_cases(model)


OURS = "nnUNetTrainerUNETR_Tiny"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "nnUNet_results"
    for dataset, model in (
        ("Dataset017_BTCV", "nnUNetTrainer__nnUNetPlans__3d_fullres"),
        ("Dataset017_BTCV", f"{OURS}__nnUNetPlans__demo"),
        ("Dataset003_Liver", "nnUNetTrainer__nnUNetResEncUNetLPlans__3d_fullres"),
    ):
        (root / dataset / model).mkdir(parents=True)
        (root / dataset / model / "plans.json").touch()
    (root / "Dataset017_BTCV" / "ensembles").mkdir()
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("nnUNet_results", str(root))
    return root


@pytest.mark.parametrize("dataset", [17, "17", "017", "Dataset017_BTCV"])
def test_models_are_found_as_nnunet_finds_them(results: Path, dataset: int | str) -> None:
    assert find_model_folder(dataset, "3d_fullres") == Path(get_output_folder(dataset))
    assert find_model_folder(dataset, "demo", OURS) == Path(get_output_folder(dataset, OURS, configuration="demo"))
    plans = "nnUNetResEncUNetLPlans"
    assert find_model_folder(3, "3d_fullres", plans=plans) == Path(get_output_folder(3, plans_identifier=plans))


def test_a_missing_model_is_told_beside_those_there_are(results: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        find_model_folder(17, "2d", OURS)
    assert str(caught.value) == (
        f"{results}/Dataset017_BTCV has no model {OURS}__nnUNetPlans__2d; it has "
        f"{OURS}__nnUNetPlans__demo, nnUNetTrainer__nnUNetPlans__3d_fullres"
    )


@pytest.mark.parametrize("dataset", [18, "Dataset017_Btcv", "Dataset01", "Dataset*"])
def test_a_missing_data_set_is_told_beside_those_there_are(results: Path, dataset: int | str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        find_model_folder(dataset, "2d")
    assert (
        str(caught.value)
        == f"{results} (nnUNet_results) has no data set {dataset}; it has Dataset003_Liver, Dataset017_BTCV"
    )


def test_a_number_of_two_data_sets_is_refused(results: Path) -> None:
    (results / "Dataset017_Abdomen").mkdir()
    with pytest.raises(ValueError, match=r"17 is used by Dataset017_Abdomen and Dataset017_BTCV in .*: give the name"):
        find_model_folder(17, "2d")


@pytest.mark.parametrize("dataset", ["BTCV", "../Dataset017_BTCV", "", "-1", "1.5"])
def test_what_is_no_data_set_is_refused(results: Path, dataset: str) -> None:
    with pytest.raises(ValueError, match="is not a data set of nnU-Net: give its number or its name"):
        find_model_folder(dataset, "2d")


def test_results_that_are_not_set(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_results")
    with pytest.raises(ValueError, match=r"nnUNet_results is not set: .* -m"):
        find_model_folder(17, "2d")
    monkeypatch.setenv("nnUNet_results", str(results / "elsewhere"))
    with pytest.raises(FileNotFoundError, match=r"elsewhere \(nnUNet_results\) has no data set 17; it has none"):
        find_model_folder(17, "2d")


def test_a_data_set_is_found_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))

    def add(name: str) -> None:
        (tmp_path / "raw" / name).mkdir(parents=True)
        (tmp_path / "raw" / name / "dataset.json").write_text("{}")

    with pytest.raises(FileNotFoundError, match=r"raw \(nnUNet_raw\) has no data set 17: convert it"):
        find_dataset(17)
    add("Dataset117_Other")
    add("Dataset017_BTCV")
    (tmp_path / "raw" / "Dataset017_Empty").mkdir()
    assert find_dataset(17) == DatasetFolders(
        *(tmp_path / kind / "Dataset017_BTCV" for kind in ("raw", "preprocessed", "results"))
    )
    assert find_dataset(17).name == "Dataset017_BTCV"
    add("Dataset017_Again")
    with pytest.raises(ValueError, match=r"17 is used by Dataset017_Again and Dataset017_BTCV in .*: rename one"):
        find_dataset(17)
