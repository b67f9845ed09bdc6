from pathlib import Path

import pytest

from unetr_nnunet.experiments.study import (
    Model,
    Study,
    Table,
    read_json,
    read_study,
    with_seeds,
    without_seed,
    write_json,
)

FULL = """
dataset = 17
folds = [0, 3]
seeds = [1, 2]
plans_name = "Own"
configuration = "small"
candidates = 3
cores = 2
data = [["phantom", "--cases", 5], ["convert", "btcv", "{download}"]]

[[models]]
trainer = "nnUNetTrainerUNETR_Tiny"

[[models]]
trainer = "nnUNetTrainer"
plans = "nnUNetPlans"
configuration = "2d"

[plans.Own]
size = "tiny"

[configurations.small]
inherits_from = "3d_fullres"
patch_size = [32, 32, 32]

[[tables]]
title = "Networks"
rows = [["UNETR", "nnUNetTrainerUNETR_Tiny"], ["nnU-Net", "nnUNetTrainer"]]
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_with_everything(tmp_path: Path) -> None:
    study = read_study(written(tmp_path, FULL))
    assert study.models == (
        Model("nnUNetTrainerUNETR_Tiny_seed1", "Own", "small"),
        Model("nnUNetTrainerUNETR_Tiny_seed2", "Own", "small"),
        Model("nnUNetTrainer", "nnUNetPlans", "2d"),
    )
    assert (study.dataset, study.folds, study.candidates, study.cores) == (17, (0, 3), 3, 2)
    assert study.data == (("phantom", "--cases", "5"), ("convert", "btcv", "{download}"))
    assert study.plans == {"Own": {"size": "tiny"}}
    assert study.configurations["small"] == {"inherits_from": "3d_fullres", "patch_size": [32, 32, 32]}
    assert study.tables == (Table("Networks", (("UNETR", "nnUNetTrainerUNETR_Tiny"), ("nnU-Net", "nnUNetTrainer"))),)
    assert study.plan_names == ["Own", "nnUNetPlans"]
    assert study.model("nnUNetTrainer__nnUNetPlans__2d") is study.models[2]


def test_what_a_file_leaves_out_has_nnunets_defaults(tmp_path: Path) -> None:
    study = read_study(written(tmp_path, 'dataset = 4\nmodels = [{ trainer = "nnUNetTrainer" }]'))
    assert study.folds == (0, 1, 2, 3, 4)
    assert [model.identifier for model in study.models] == ["nnUNetTrainer__nnUNetPlans__3d_fullres"]
    assert study == Study(4, (Model("nnUNetTrainer"),))


def test_a_study_survives_its_json_file(tmp_path: Path) -> None:
    study = read_study(written(tmp_path, FULL))
    write_json(study, tmp_path / "study.json")
    assert read_json(tmp_path / "study.json") == study
    (tmp_path / "study.json").write_text('{"dataset": 17, ')
    with pytest.raises(ValueError, match=r"study\.json is damaged .*: remove it and start the study again"):
        read_json(tmp_path / "study.json")


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[2].glob("studies/*.toml")), ids=lambda path: path.name)
def test_the_studies_of_this_repository_can_be_read(path: Path) -> None:
    study = read_study(path)
    trainers = {without_seed(model.trainer) for model in study.models}
    assert all(trainer.partition("__")[0] in trainers for table in study.tables for _, trainer in table.rows)


MODELS = 'models = [{ trainer = "nnUNetTrainer" }]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset = ", "is no TOML file"),
        (MODELS, r"dataset = NUMBER is missing"),
        ('dataset = "17"\n' + MODELS, r"dataset = NUMBER is missing"),
        ("dataset = 17", "a study needs a trainer at least"),
        ("dataset = 17\nfold = [0]\n" + MODELS, r"'fold' is nothing that a study has; it has .*folds"),
        ('dataset = 17\nmodels = [{ trainers = "x" }]', r"'trainers' is nothing that an entry of \[\[models\]\] has"),
        ('dataset = 17\nmodels = [{ plans = "x" }]', "'' is no name of a trainer"),
        ('dataset = 17\nmodels = [{ trainer = "../x" }]', r"'\.\./x' is no name of a trainer"),
        ('dataset = 17\nmodels = [{ trainer = "a__b" }]', "'a__b' is no name of a trainer"),
        ('dataset = 17\nmodels = [{ trainer = "nnUNetTrainerUNETR_Big" }]', "unknown token 'Big'"),
        ('dataset = 17\nmodels = [{ trainer = "A" }, { trainer = "A" }]', "A__nnUNetPlans__3d_fullres is named twice"),
        ("dataset = 17\nfolds = 3\n" + MODELS, "folds = 3: expected a list of numbers"),
        ("dataset = 17\nfolds = []\n" + MODELS, "a study needs a fold at least"),
        ("dataset = 17\nfolds = [0.0]\n" + MODELS, r"folds = \[0\.0\]: expected a list of numbers"),
        ("dataset = 17\nfolds = [true]\n" + MODELS, r"folds = \[True\]: expected"),
        ("dataset = true\n" + MODELS, "dataset = NUMBER is missing"),
        ("dataset = 17\ncandidates = 2.5\n" + MODELS, r"candidates = 2\.5: expected a number"),
        ('dataset = 17\ncores = "two"\n' + MODELS, "cores = 'two': expected a number of 1 or more"),
        ("dataset = 17\ncores = 0\n" + MODELS, "cores = 0: expected"),
        ('dataset = 17\nplans = "x"\n' + MODELS, r"plans = 'x': expected \[plans\.NAME\]"),
        ("dataset = 17\n" + MODELS + "[plans.X]\nplannr = 1", r"'plannr' is nothing that \[plans\.X\] has; .*planner"),
        ("dataset = 17\n" + MODELS + "[configurations]\nsmall = 3", r"expected \[configurations\.NAME\]"),
        ("dataset = 17\n[models]\ntrainer = 1", r"expected \[\[models\]\]"),
        ('dataset = 17\nconfiguration = "x; true"\n' + MODELS, "configuration = 'x; true': a name of letters"),
        ('dataset = 17\nplans_name = "a__b"\n' + MODELS, "plans = 'a__b': a name of letters"),
        (
            'dataset = 17\ntables = [{ title = "T", rows = [["x"]] }]\n' + MODELS,
            r"rows = \[\['x'\]\]: expected",
        ),
        ('dataset = 17\ntables = [{ title = "T", rows = [], x = 1 }]\n' + MODELS, "'x' is nothing that an entry"),
        (
            "dataset = 17\n" + MODELS + '[configurations.coarse]\ninherits_from = "3d_fullres"\nspacing = [10, 8, 8]',
            r"\[configurations\.coarse\] changes spacing, .* 3d_fullres: .* data_identifier = \"nnUNetPlans_coarse\"",
        ),
        ('dataset = 17\ndata = ["phantom"]\n' + MODELS, "expected .*each command a list of words"),
        ("dataset = 17\ntables = [{ rows = [] }]\n" + MODELS, "title = None: expected the table's title"),
        ("dataset = 17\nfolds = [0, 5]\n" + MODELS, "folds 0 5: name some of 0 1 2 3 4"),
        ("dataset = 17\nfolds = [1, 1]\n" + MODELS, "folds 1 1: name some of 0 1 2 3 4, each once"),
        ("dataset = 17\ncandidates = 0\n" + MODELS, "candidates = 0: at least 1"),
        (
            'dataset = 17\nseeds = [1]\nmodels = [{ trainer = "nnUNetTrainerUNETR_seed3" }]',
            "nnUNetTrainerUNETR_seed3 names a seed already",
        ),
    ],
)
def test_errors_name_the_file_and_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_study(written(tmp_path, text))
    assert str(caught.value).startswith(str(tmp_path / "mine.toml"))
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no study file .*none\.toml"):
        read_study(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"binary\.toml is no TOML file"):
        read_study(tmp_path / "binary.toml")


def test_seeds_go_into_our_trainers_names_only() -> None:
    trainers = ["nnUNetTrainerUNETR", "nnUNetTrainer"]
    assert with_seeds(trainers, [0, 7]) == ["nnUNetTrainerUNETR_seed0", "nnUNetTrainerUNETR_seed7", "nnUNetTrainer"]
    assert with_seeds([*trainers, "nnUNetTrainerUNETR_seed5"], []) == [*trainers, "nnUNetTrainerUNETR_seed5"]
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
            f"a table has the row {wrong}, and no model is called so; there are nnUNetTrainerUNETR, nnUNetTrainer$"
        )
        with pytest.raises(ValueError, match=expected):
            Study(17, study.models, tables=(Table("Networks", (("mistyped", wrong),)),))
