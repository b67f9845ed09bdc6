import contextlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.experiments.test_crossval import PLANS, dataset, settings
from unetr_nnunet.dataset_conversion.problems import ProblemsFoundError
from unetr_nnunet.dataset_conversion.sources.openkbp import DEFAULT_ORGANS
from unetr_nnunet.experiments import study_checks
from unetr_nnunet.experiments.crossval import write_inputs
from unetr_nnunet.experiments.settings import Settings
from unetr_nnunet.experiments.study import Model, Study, write_study
from unetr_nnunet.experiments.study_checks import forget_what_is_lost
from unetr_nnunet.experiments.study_plans import complete_plans
from unetr_nnunet.organs import ORGAN_NAMES


def check(study: Study, folder: Path, how: Settings | None = None) -> None:
    study_checks.check(study, how or settings(), folder)


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


@pytest.mark.parametrize(
    ("data", "split", "organs", "complaint"),
    [
        (["convert", "openkbp", "{download}", "--split", "tune-report"], "tune-report", DEFAULT_ORGANS, None),
        (["convert", "openkbp", "{download}", "--split", "tune-report"], "cv5", DEFAULT_ORGANS, "with --split cv5, wh"),
        (["convert", "openkbp", "{download}"], "cv5", DEFAULT_ORGANS, "with --split cv5, while"),
        (["convert", "openkbp", "{download}", "--split=cv5"], "cv5", DEFAULT_ORGANS, None),
        (["convert", "unknown", "{download}"], "cv5", DEFAULT_ORGANS, None),
        (["convert", "openkbp", "{download}"], "own", ["larynx"], "with the organs larynx, while"),
        (["convert", "openkbp", "{download}", "--organs", "larynx", "--split", "own"], "own", ["larynx"], None),
        (["convert", "btcv", "{download}", "--json-list", "mine.json"], "mine", ORGAN_NAMES.values(), None),
        (["phantom", "--cases", "4"], "cv5", ["larynx"], None),
        ([], "cv5", ["larynx"], None),
    ],
)
def test_data_converted_in_another_way_are_refused(
    data: list[str], split: str, organs: Iterable[str], complaint: str | None, root: Path
) -> None:
    dataset(root)
    raw = root / "raw" / "Dataset017_BTCV"
    labels = {name: number for number, name in enumerate(["background", *organs])}
    (raw / "dataset.json").write_text(json.dumps({"converted_by": "unetr_nnunet", "labels": labels}))
    (raw / "conversion.json").write_text(json.dumps({"split": split}))
    study = Study(17, MODELS, data=(tuple(data),) if data else ())
    with pytest.raises(ValueError, match=complaint) if complaint else contextlib.nullcontext():
        check(study, root / "study")


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
    write_study(Study(17, (Model("nnUNetTrainer"),)), tmp_path / "study.json")
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
    with pytest.raises(ValueError, match=r"holds no study, but predictions, which might be lost: name a new folder$"):
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
    study = Study(17, MODELS, data=(("phantom",),))
    before = {"nnUNet_results": str(root / "results"), "nnUNet_raw": str(root / "raw")}
    check(study, root / "study", replace(settings(), folders=before))
    write_inputs(study, replace(settings(), folders=before), root / "study")
    check(study, root / "study", replace(settings(), folders=before))
    other = replace(settings(), folders={**before, "nnUNet_results": "/other"})
    with pytest.raises(ValueError, match=r"was begun with nnUNet_results = .*results, which now is /other: set it"):
        check(study, root / "study", other)


def test_folders_that_cannot_be_made_are_refused(root: Path) -> None:
    study = Study(17, MODELS, data=(("phantom",),))
    (root / "file").touch()
    with pytest.raises(ValueError, match=r"study cannot be written: .*file is a file"):
        check(study, root / "file" / "study")
    with pytest.raises(ValueError, match=r"results cannot be written: .*file is a file"):
        check(study, root / "study", replace(settings(), folders={"nnUNet_results": str(root / "file" / "results")}))


def test_what_must_fail_later_is_refused_at_once(root: Path) -> None:
    def refused(study: Study, match: str, gpus: int = 1) -> None:
        with pytest.raises(ValueError, match=match):
            check(study, root / "study", settings(device="cuda", gpus=8, per=gpus))

    data = (("phantom",),)
    trainer = "nnUNetTrainer"
    refused(Study(17, (Model(trainer, "Own"),), data=data), r"there are no plans Own: make them")
    small = {"small": {"inherits_from": "3d_fullres", "batch_size": 2}}
    models = (Model(trainer, configuration="small"),)
    refused(Study(17, models, data=data), "plans nnUNetPlans have no configuration small; they have 2d, 3d_lowres")
    refused(Study(17, models, data=data, configurations=small), "--gpus-per-training 4: small of nnUNetPlans has", 4)
    check(Study(17, models, data=data, configurations=small), root / "study", settings(device="cuda", gpus=8, per=2))
    dataset(root)
    preprocessed = root / "preprocessed" / "Dataset017_BTCV"
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(PLANS))
    refused(Study(17, (Model(trainer),)), "3d_fullres of nnUNetPlans has batch size 2, and each GPU needs", 4)
    refused(Study(17, (Model(trainer, configuration="2d"),)), "have no configuration 2d; they have 3d_fullres")
    (root / "raw" / "Dataset017_BTCV" / "splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}]))
    refused(Study(17, (Model(trainer),)), r"splits_final\.json has 1 fold\(s\), no fold 1: name some of 0 to 0")
    check(Study(17, (Model(trainer),), (0,)), root / "study")


def test_raw_data_with_problems_are_refused(root: Path) -> None:
    dataset(root)
    (root / "raw" / "Dataset017_BTCV" / "conversion.json").unlink()
    with pytest.raises(ProblemsFoundError, match=r"dataset\.json: has no channel_names, labels, file_ending"):
        check(Study(17, MODELS), root / "study")
