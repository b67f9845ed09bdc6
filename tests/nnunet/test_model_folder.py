from pathlib import Path

import pytest
from nnunetv2.utilities.file_path_utilities import get_output_folder

from unetr_nnunet.nnunet.model_folder import find_model_folder

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
    with pytest.raises(ValueError, match=r"17 stands for Dataset017_Abdomen and Dataset017_BTCV in .*: give the name"):
        find_model_folder(17, "2d")


@pytest.mark.parametrize("dataset", ["BTCV", "../Dataset017_BTCV", "", "-1", "1.5"])
def test_what_is_no_data_set_is_refused(results: Path, dataset: str) -> None:
    with pytest.raises(ValueError, match="is no data set of nnU-Net: give its number or its name"):
        find_model_folder(dataset, "2d")


def test_results_that_are_not_set(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_results")
    with pytest.raises(ValueError, match=r"nnUNet_results is not set: .* -m"):
        find_model_folder(17, "2d")
    monkeypatch.setenv("nnUNet_results", str(results / "elsewhere"))
    with pytest.raises(FileNotFoundError, match=r"elsewhere \(nnUNet_results\) has no data set 17; it has none"):
        find_model_folder(17, "2d")
