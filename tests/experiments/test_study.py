from pathlib import Path

import pytest

from unetr_nnunet.experiments.study import Model, Study, Table, read_study, with_seeds, without_seed, write_study


def test_a_study_survives_its_json_file(tmp_path: Path) -> None:
    study = Study(
        17,
        (Model("nnUNetTrainerUNETR_Tiny_seed1", "Own", "small"), Model("nnUNetTrainer", configuration="2d")),
        (0, 3),
        data=(("phantom", "--cases", "5"), ("convert", "btcv", "{download}")),
        plans={"Own": {"gpu_memory": 8, "spacing": [2.5, 1.0, 1.0]}},
        configurations={"small": {"inherits_from": "3d_fullres", "patch_size": [32, 32, 32]}},
        candidates=3,
        cores=2,
        tables=(Table("Networks", (("UNETR", "nnUNetTrainerUNETR_Tiny"), ("nnU-Net", "nnUNetTrainer"))),),
    )
    path = tmp_path / "study.json"
    write_study(study, path)
    assert read_study(path) == study
    before = path.stat().st_mtime_ns
    write_study(study, path)
    assert path.stat().st_mtime_ns == before, "steps depend on its time"
    path.write_text('{"dataset": 17, ')
    with pytest.raises(ValueError, match=r"study\.json is damaged: .*; remove it and start the study again"):
        read_study(path)


def test_seeds_go_into_our_trainers_names_only() -> None:
    trainers = ["nnUNetTrainerUNETR", "nnUNetTrainer"]
    assert with_seeds(trainers, [0, 7]) == ["nnUNetTrainerUNETR_seed0", "nnUNetTrainerUNETR_seed7", "nnUNetTrainer"]
    assert with_seeds([*trainers, "nnUNetTrainerUNETR_seed5"], []) == [*trainers, "nnUNetTrainerUNETR_seed5"]
    with pytest.raises(ValueError, match="nnUNetTrainerUNETRMine is a class of its own, whose name holds no seed"):
        with_seeds([*trainers, "nnUNetTrainerUNETRMine"], [0])
    assert without_seed("nnUNetTrainerUNETR_Tiny_seed12") == "nnUNetTrainerUNETR_Tiny"
    assert without_seed("nnUNetTrainer_seedling") == "nnUNetTrainer_seedling"


def test_rows_of_tables_name_models() -> None:
    seeds = (Model("nnUNetTrainerUNETR_seed1"), Model("nnUNetTrainerUNETR_seed2"))
    others = (Model("nnUNetTrainer"), Model("nnUNetTrainer", configuration="2d"), Model("nnUNetTrainer", "Own"))
    study = Study(17, (*seeds, *others))
    assert study.row_models("nnUNetTrainerUNETR") == list(seeds)
    assert study.row_models("nnUNetTrainer") == [others[0]]
    assert study.row_models("nnUNetTrainer__nnUNetPlans__2d") == [others[1]]
    assert study.row_models("nnUNetTrainer__Own") == [others[2]]
    for wrong in ("nnUNetTrainerUNTER", "nnUNetTrainer__Other", "nnUNetTrainerUNETR_seed1"):
        expected = (
            f"a table has the row {wrong}, which is no model of the study; it has nnUNetTrainerUNETR, nnUNetTrainer$"
        )
        with pytest.raises(ValueError, match=expected):
            Study(17, study.models, tables=(Table("Networks", (("mistyped", wrong),)),))


def test_other_architectures_have_seeds_and_classes_of_ones_own_are_models_too(otherlab: None) -> None:
    assert with_seeds(["nnUNetTrainerNet_Pyramid"], [2]) == ["nnUNetTrainerNet_Pyramid_seed2"]
    study = Study(17, (Model("nnUNetTrainerNet_Pyramid_Slim"), Model("nnUNetTrainerUNETRMine")))
    assert [model.trainer for model in study.row_models("nnUNetTrainerUNETRMine")] == ["nnUNetTrainerUNETRMine"]
    with pytest.raises(ValueError, match="no architecture 'Swin'"):
        Study(17, (Model("nnUNetTrainerNet_Swin"),))
