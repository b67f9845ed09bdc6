import json
from pathlib import Path

import pytest

from tests.report.studies import model, write_log, write_plans
from unetr_nnunet.report.training import cost_row, plan_rows, read_training

DICE = {"liver": {"a": 0.5}}


def trainer_folder(root: Path, configuration: str = "3d_small") -> Path:
    folder = root / f"nnUNetTrainerUNETR__nnUNetPlans__{configuration}"
    write_plans(write_log(folder))
    (folder / "fold_0" / "debug.json").write_text(
        json.dumps(
            {"network": "UNETR", "torch_version": "2.9", "optimizer": "AdamW (\nParameter Group 0", "device": "cpu"}
        )
    )
    return folder


def test_cost(tmp_path: Path) -> None:
    folder = trainer_folder(tmp_path)
    torch = pytest.importorskip("torch")
    torch.save({"network_weights": {"a": torch.zeros(7)}}, folder / "fold_0" / "checkpoint_final.pth")
    (folder / "costs.json").write_text(json.dumps({"seconds_per_case": 12, "peak_memory_gib": 3.5, "device": "H100"}))
    row = cost_row(read_training(model("m", DICE, folder)))
    assert (row["parameters"], row["epochs"], row["folds"]) == (7, 3, 1)
    assert row["hours"] == pytest.approx(0.03)
    assert (row["validation_seconds"], row["validation_cases"]) == (15, 2)
    assert (row["seconds"], row["memory"], row["device"], row["torch"]) == (12, 3.5, "H100", "2.9")


def test_what_is_not_recorded_is_none(tmp_path: Path) -> None:
    row = cost_row(read_training(model("m", DICE, tmp_path)))
    assert {key for key, value in row.items() if value is not None} == {"folds", "validation_cases"}
    assert plan_rows(read_training(model("m", DICE, tmp_path))) == {}


def test_plan_with_what_the_configuration_inherits(tmp_path: Path) -> None:
    rows = plan_rows(read_training(model("m", DICE, trainer_folder(tmp_path))))
    assert rows["patch, voxels"].split()[::2] == ["48", "192", "192"]
    assert rows["patch, mm"].split()[::2] == ["144", "146", "146"]
    assert (rows["batch size"], rows["network"], rows["optimiser"]) == ("4", "UNETR", "AdamW")


def test_predictions_know_their_trainer_only_if_told(tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    write_plans(masks)
    alone = read_training(model("m", DICE, masks))
    assert alone.folder is None
    assert "not recorded" in plan_rows(alone)["configuration"]
    told = read_training(model("m", DICE, masks), trainer_folder(tmp_path))
    assert told.names == ("nnUNetTrainerUNETR", "nnUNetPlans", "3d_small")
    assert len(told.logs) == 1


def test_broken_files_are_named(tmp_path: Path) -> None:
    folder = trainer_folder(tmp_path)
    (folder / "plans.json").write_text("{")
    (folder / "costs.json").write_text("[]")
    problems = read_training(model("m", DICE, folder)).problems
    assert len(problems) == 2
    assert "plans.json is damaged: Invalid JSON" in problems[0]
    assert "costs.json is damaged: Input should be an object" in problems[1]


def test_the_architecture_is_shown_with_its_package(tmp_path: Path) -> None:
    folder = trainer_folder(tmp_path)
    assert "architecture" not in plan_rows(read_training(model("m", DICE, folder)))
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["3d_small"]["architecture"] = {
        "arch_kwargs": {"architecture": "Pyramid", "package": "otherlab", "version": "1.2"}
    }
    (folder / "plans.json").write_text(json.dumps(plans))
    assert plan_rows(read_training(model("m", DICE, folder)))["architecture"] == "Pyramid (otherlab 1.2)"
    (folder / "fold_0" / "debug.json").write_text(json.dumps({"planned_network": "Line (otherlab 1.1)"}))
    assert plan_rows(read_training(model("m", DICE, folder)))["architecture"] == "Line (otherlab 1.1)"
