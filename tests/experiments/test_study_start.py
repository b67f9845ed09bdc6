import json
from pathlib import Path

import pytest

from tests.experiments.test_crossval import PLANS, dataset, settings
from unetr_nnunet.experiments.crossval import write_inputs
from unetr_nnunet.experiments.study import Model, Study, write_json
from unetr_nnunet.experiments.study_plans import complete_plans
from unetr_nnunet.experiments.study_start import check, forget_what_is_lost, refuse_other_folders

MODELS = (Model("nnUNetTrainer"), Model("nnUNetTrainerUNETR"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
        (tmp_path / name).mkdir()
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    return tmp_path


def test_without_data_or_with_a_way_to_make_them(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no data set 17: convert it"):
        check(Study(17, MODELS), root / "study")
    check(Study(17, MODELS, data=(("phantom",),)), root / "study")
    dataset(root)
    check(Study(17, MODELS), root / "study")


def test_edited_plans_are_refused(root: Path) -> None:
    dataset(root)
    path = root / "preprocessed" / "Dataset017_BTCV" / "nnUNetPlans.json"
    path.write_text(json.dumps(PLANS))
    write_inputs(Study(17, MODELS), settings(), root / "study")
    complete_plans(Study(17, MODELS), path.parent, root / "study")
    check(Study(17, MODELS), root / "study")
    path.write_text(json.dumps({"configurations": {"3d_fullres": {"batch_size": 3}}}))
    with pytest.raises(ValueError, match=r"nnUNetPlans\.json has been edited since"):
        check(Study(17, MODELS), root / "study")


def test_a_folder_of_a_study_on_another_data_set_is_refused(tmp_path: Path) -> None:
    write_json(Study(17, (Model("nnUNetTrainer"),)), tmp_path / "study.json")
    with pytest.raises(ValueError, match=r"holds a study on data set 17, not 18: name another folder"):
        check(Study(18, (Model("nnUNetTrainer"),)), tmp_path)


def test_a_training_that_was_removed_is_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    data = tmp_path / "raw" / "Dataset017_BTCV" / "dataset.json"
    data.parent.mkdir(parents=True)
    data.write_text("{}")
    study = Study(17, (Model("nnUNetTrainer"),), (0, 1))
    marks = [tmp_path / "study" / "done" / "train" / study.models[0].identifier / f"fold_{fold}" for fold in (0, 1)]
    marks[0].parent.mkdir(parents=True)
    for mark in marks:
        mark.touch()
    trained = tmp_path / "results" / "Dataset017_BTCV" / study.models[0].identifier / "fold_1"
    (trained / "validation").mkdir(parents=True)
    for name in ("checkpoint_final.pth", "validation/summary.json"):
        (trained / name).touch()
    forget_what_is_lost(study, tmp_path / "study")
    assert [mark.exists() for mark in marks] == [False, True]


def test_a_folder_of_something_else_is_refused_before_anything_is_lost(root: Path) -> None:
    study = Study(17, MODELS, data=(("phantom",),))
    mine = root / "mine" / "predictions" / "result.nii.gz"
    mine.parent.mkdir(parents=True)
    mine.touch()
    with pytest.raises(ValueError, match=r"mine holds no study, but predictions, which might be lost: name a new"):
        check(study, root / "mine")
    with pytest.raises(ValueError, match=r"result\.nii\.gz is a file: name a folder"):
        check(study, mine)
    (root / "new").mkdir()
    (root / "new" / ".lock").touch()
    check(study, root / "new")
    write_inputs(study, settings(), root / "new")
    (root / "new" / "predictions").mkdir()
    check(study, root / "new")


def test_trainers_that_do_not_exist_are_refused_before_anything_is_planned(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (("phantom",),)
    check(Study(17, (Model("nnUNetTrainer_5epochs"), Model("nnUNetTrainerUNETR_Tiny")), data=data), root / "study")
    with pytest.raises(ValueError, match=r"no trainer nnUNetTrainerUNETr, neither .* mean nnUNetTrainerUNETR\?"):
        check(Study(17, (Model("nnUNetTrainerUNETr"),), data=data), root / "study")
    monkeypatch.setenv("nnUNet_extTrainer", str(root))
    check(Study(17, (Model("MyTrainer"),), data=data), root / "study")


def test_other_folders_of_nnunet_than_before_are_refused(root: Path) -> None:
    before = {"nnUNet_results": str(root / "results"), "nnUNet_raw": str(root / "raw")}
    refuse_other_folders(before, root / "study")
    (root / "study").mkdir()
    (root / "study" / "settings.json").write_text(json.dumps({"folders": before}))
    refuse_other_folders(before, root / "study")
    with pytest.raises(ValueError, match=r"was begun with nnUNet_results = .*results, which now is /other: set it"):
        refuse_other_folders({**before, "nnUNet_results": "/other"}, root / "study")
