from benchmarks.openkbp_grid import STUDY, table, trainers
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


def test_the_table_has_a_row_for_each_point() -> None:
    points = {name: {"dice": [0.1, 0.25], "organs": [0.25], "seconds": [200.0, 100.0]} for name in trainers([CONTROL])}
    rows = [line for line in table(points).splitlines() if "PlainConvUNet" in line]
    assert rows[0] == "| `nnUNetTrainerNet_PlainConvUNet_Tiny_LightAug` | 0.008 |  | 0.2500 |"
    assert len(rows) == 2
