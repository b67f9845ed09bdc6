import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from unetr_nnunet.experiments.study import Model, Study
from unetr_nnunet.experiments.study_plans import (
    complete_plans,
    planning_commands,
    plans_if_made,
    refuse_edited_plans,
    refuse_impossible_trainings,
)

PLANS: dict[str, Any] = {
    "plans_name": "nnUNetPlans",
    "configurations": {"3d_fullres": {"patch_size": [64, 64, 64], "architecture": {"n_stages": 5}}},
}
STUDY = Study(17, (Model("nnUNetTrainer"),))
EXTRACT = ("nnUNetv2_extract_fingerprint", "-d", "17", "-np", "2", "--clean")
PLAN = ("nnUNetv2_plan_experiment", "-d", "17", "-pl", "ExperimentPlanner", "-overwrite_plans_name", "nnUNetPlans")


class Folders:
    """The three folders that plans lie in."""

    def __init__(self, root: Path) -> None:
        self.preprocessed, self.results, self.study = root / "preprocessed", root / "results", root / "study"
        self.preprocessed.mkdir()

    def write(self, plans: dict[str, Any], name: str = "nnUNetPlans") -> Path:
        path = self.preprocessed / f"{name}.json"
        path.write_text(json.dumps(plans))
        return path

    def train(self, plans: dict[str, Any], model: Model = STUDY.models[0]) -> Path:
        folder = self.results / model.identifier
        (folder / "fold_0").mkdir(parents=True)
        (folder / "fold_0" / "checkpoint_latest.pth").touch()
        (folder / "plans.json").write_text(json.dumps(plans))
        return folder / "plans.json"

    def refuse(self, study: Study = STUDY) -> None:
        refuse_edited_plans(study, self.preprocessed, self.results, self.study)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


def changed(**settings: Any) -> dict[str, Any]:
    plans = deepcopy(PLANS)
    plans["configurations"]["3d_fullres"] |= settings
    return plans


def test_commands_for_what_is_missing(folders: Folders) -> None:
    assert planning_commands(STUDY, folders.preprocessed, 2) == [EXTRACT, PLAN]
    (folders.preprocessed / "dataset_fingerprint.json").write_text("{}")
    assert planning_commands(STUDY, folders.preprocessed, 2) == [PLAN]
    folders.write(PLANS)
    assert planning_commands(STUDY, folders.preprocessed, 2) == []


def test_what_a_kill_has_left_half_written_is_made_again(folders: Folders) -> None:
    (folders.preprocessed / "dataset_fingerprint.json").write_text('{"shapes_after_crop": [[1, ')
    path = folders.write(PLANS)
    path.write_text(path.read_text()[:40])
    assert planning_commands(STUDY, folders.preprocessed, 2) == [EXTRACT, PLAN]
    path.write_text("[]")
    assert plans_if_made(path) is None


def test_plans_are_made_as_the_study_says(folders: Folders) -> None:
    (folders.preprocessed / "dataset_fingerprint.json").write_text("{}")
    how = {
        "Own": {"architecture": "modified", "size": "tiny", "gpu_memory": 8},
        "Res": {"planner": "nnUNetPlannerResEncM"},
    }
    models = tuple(Model("nnUNetTrainer", name) for name in ("Own", "Res"))
    own = ("unetr_nnunet", "plan", "-d", "17", "--name", "Own")
    assert planning_commands(Study(17, models, plans=how), folders.preprocessed, 1) == [
        (*own, "--architecture", "modified", "--size", "tiny", "--gpu-memory", "8"),
        ("nnUNetv2_plan_experiment", "-d", "17", "-pl", "nnUNetPlannerResEncM", "-overwrite_plans_name", "Res"),
    ]
    with pytest.raises(
        ValueError, match=r"there are no plans Own: make them .*--name Own.*or say how in \[plans\.Own\]"
    ):
        planning_commands(Study(17, models), folders.preprocessed, 1)


def test_the_options_of_plan_are_those_of_its_command(folders: Folders) -> None:
    from unetr_nnunet.cli.main import build_parser

    (folders.preprocessed / "dataset_fingerprint.json").write_text("{}")
    how = {
        "architecture": "modified",
        "size": "tiny",
        "gpu_memory": 8,
        "tflop_per_step": 4.5,
        "spacing": [2.5, 1, 1],
        "patch_size": [32, 64, 64],
        "token_size": [4, 8, 8],
    }
    study = Study(17, (Model("nnUNetTrainer", "Own"),), plans={"Own": how})
    (command,) = planning_commands(study, folders.preprocessed, 1)
    arguments = build_parser(command[1]).parse_args(command[2:])
    assert (arguments.spacing, arguments.patch_size, arguments.gpu_memory) == ([2.5, 1.0, 1.0], [32, 64, 64], 8.0)
    assert (arguments.token_size, arguments.tflop_per_step) == ([4, 8, 8], 4.5)


def test_configurations_are_added_once_and_a_copy_is_kept(folders: Folders) -> None:
    small = {"inherits_from": "3d_fullres", "patch_size": [16, 32, 32]}
    path = folders.write(PLANS)
    study = Study(17, (Model("nnUNetTrainer", configuration="small"),), configurations={"small": small})
    complete_plans(study, folders.preprocessed, folders.study)
    plans = json.loads(path.read_text())
    assert plans["configurations"] == {**PLANS["configurations"], "small": small}
    assert json.loads((folders.study / "plans" / "nnUNetPlans.json").read_text()) == plans
    before = path.stat()
    complete_plans(study, folders.preprocessed, folders.study)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    folders.refuse(study)
    path.unlink()
    with pytest.raises(ValueError, match=r"nnUNetPlans\.json was not made"):
        complete_plans(study, folders.preprocessed, folders.study)


def test_plans_edited_since_a_training_are_refused_and_named(folders: Folders) -> None:
    trained = folders.train(PLANS)
    path = folders.write(changed(patch_size=[32, 64, 64], architecture={"n_stages": 4}))
    with pytest.raises(ValueError, match="has been edited since nnUNetTrainer__nnUNetPlans__3d_fullres was") as caught:
        folders.refuse()
    words = str(caught.value)
    assert words.startswith(str(path))
    assert "configurations.3d_fullres.patch_size, configurations.3d_fullres.architecture.n_stages." in words
    assert f"Copy {trained} back over it" in words


def test_plans_edited_since_preprocessing_are_refused(folders: Folders) -> None:
    folders.write(PLANS)
    complete_plans(STUDY, folders.preprocessed, folders.study)
    folders.refuse()
    folders.write(changed(batch_size=3))
    with pytest.raises(ValueError, match=r"edited since this study has preprocessed the data: configurations\.3d_full"):
        folders.refuse()


def test_a_setting_or_a_configuration_that_is_gone_is_an_edit(folders: Folders) -> None:
    folders.train(changed(batch_size=2))
    folders.write(PLANS)
    with pytest.raises(ValueError, match=r"configurations\.3d_fullres\.batch_size"):
        folders.refuse()
    folders.write({**PLANS, "configurations": {}})
    with pytest.raises(ValueError, match=r"configurations\.3d_fullres\."):
        folders.refuse()


def test_a_later_configuration_and_what_training_adds_are_no_edits(folders: Folders) -> None:
    folders.train({**PLANS, "continue_training": True})
    later = deepcopy(PLANS)
    later["configurations"]["small"] = {"inherits_from": "3d_fullres"}
    folders.write(later)
    folders.refuse()


def test_other_plans_and_models_without_a_checkpoint_do_not_count(folders: Folders) -> None:
    folders.train(changed(batch_size=9), Model("nnUNetTrainer", "Other"))
    folders.write(PLANS)
    folders.refuse(Study(17, (*STUDY.models, Model("nnUNetTrainer", "Other"))))
    (folders.train(changed(batch_size=9)).parent / "fold_0" / "checkpoint_latest.pth").unlink()
    folders.refuse()


def test_a_configuration_that_the_study_changes_is_told_from_edited_plans(folders: Folders) -> None:
    def study(batch_size: int) -> Study:
        small = {"inherits_from": "3d_fullres", "batch_size": batch_size}
        return Study(17, (Model("nnUNetTrainer", configuration="small"),), configurations={"small": small})

    folders.write(PLANS)
    complete_plans(study(2), folders.preprocessed, folders.study)
    folders.refuse(study(2))
    expected = r"^the study has changed since .*: configurations\.small\.batch_size\. Restore what its \[config"
    with pytest.raises(ValueError, match=expected):
        folders.refuse(study(3))
    folders.write(PLANS)
    folders.refuse(study(2))  # planned again: the configuration will be added


def test_a_cascade_is_refused_also_where_it_is_inherited(folders: Folders) -> None:
    cascade = {"3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}}
    folders.write({**PLANS, "configurations": PLANS["configurations"] | cascade})
    own = {"own": {"inherits_from": "3d_cascade_fullres"}, "lost": {"inherits_from": "nowhere"}}
    for name, expected in (
        ("3d_cascade_fullres", "3d_cascade_fullres of nnUNetPlans needs the predictions of 3d_lowres"),
        ("own", "own of nnUNetPlans needs the predictions of 3d_lowres"),
        ("lost", r"no configuration nowhere \(which lost inherits from\)"),
    ):
        study = Study(17, (Model("nnUNetTrainer", configuration=name),), configurations=own)
        with pytest.raises(ValueError, match=expected):
            refuse_impossible_trainings(study, folders.preprocessed, 1)
