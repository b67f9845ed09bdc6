from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.openkbp_grid import STUDY, beside, prepare, table, trainers
from unetr_nnunet.experiments.study import write_study
from unetr_nnunet.experiments.study_file import read_study_file
from unetr_nnunet.trainers.names import parse_trainer_name

ORIGINAL, CONTROL = "nnUNetTrainerUNETR_Tiny_LightAug_12epochs", "nnUNetTrainerNet_PlainConvUNet_Tiny_LightAug_12epochs"


def test_every_arm_has_every_point_of_the_same_grid() -> None:
    names = trainers([ORIGINAL, CONTROL])
    assert len(set(names)) == len(names) == 3 + 2
    points = {
        (each.architecture, each.learning_rate, each.transformer_learning_rate)
        for each in map(parse_trainer_name, names)
    }
    assert points == {
        *(("original", *rates) for rates in ((8e-3, 1e-3), (8e-3, 3e-4), (3e-3, 3e-4))),
        *(("PlainConvUNet", rate, None) for rate in (8e-3, 3e-3)),
    }
    assert names[0].startswith("nnUNetTrainerUNETR_Tiny_lr8e-3_vitlr1e-3_LightAug_4epochs")


def test_the_studys_models_are_arms_with_seeds() -> None:
    models = read_study_file(STUDY).models
    names = trainers([model.trainer for model in models])
    assert len(models) == 3 * 6
    assert len(names) == 5 * 3 + 2, "seeds of an arm share its points"


@pytest.mark.parametrize("tokens", ["Tiny_4epochs_seed0", "Tiny_lr2e-2_12epochs_seed0", "Tiny_lr2e-2_4epochs_seed1"])
def test_points_beside_the_grid_are_as_long_and_have_a_rate(tokens: str) -> None:
    good = "nnUNetTrainerUNETR_Tiny_lr2e-2_vitlr3e-4_LightAug_4epochs_seed0"
    assert beside([good]) == [good]
    with pytest.raises(ValueError, match="its name must hold"):
        beside([f"nnUNetTrainerUNETR_{tokens}"])


def test_work_of_another_study_is_refused(tmp_path: Path) -> None:
    study = read_study_file(STUDY)
    write_study(replace(study, configurations={}), tmp_path / "study.json")
    with pytest.raises(SystemExit, match="holds other data than the study asks for"):
        prepare(tmp_path, "open-kbp", study)


def test_the_table_has_a_row_for_each_point() -> None:
    points = {name: {"dice": [0.1, 0.25], "organs": [0.25], "seconds": [200.0, 100.0]} for name in trainers([CONTROL])}
    rows = [line for line in table(points).splitlines() if "PlainConvUNet" in line]
    assert rows[0] == "| `nnUNetTrainerNet_PlainConvUNet_Tiny_LightAug` | 0.008 |  | 0.2500 |"
    assert len(rows) == 2
