from pathlib import Path

import pytest

from unetr_nnunet.experiments.study import Model, Study, Table, without_seed
from unetr_nnunet.experiments.study_file import STUDIES, find_study, read_study_file

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
    study = read_study_file(written(tmp_path, FULL))
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
    study = read_study_file(written(tmp_path, 'dataset = 4\nmodels = [{ trainer = "nnUNetTrainer" }]'))
    assert study.folds == (0, 1, 2, 3, 4)
    assert [model.identifier for model in study.models] == ["nnUNetTrainer__nnUNetPlans__3d_fullres"]
    assert study == Study(4, (Model("nnUNetTrainer"),))


@pytest.mark.parametrize("name", ["btcv", "demo", "openkbp", "openkbp_gpu", "openkbp_parts", "phantom"])
def test_the_studies_that_come_with_the_package(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    assert find_study(Path(name)).samefile(find_study(Path("studies", f"{name}.toml")))
    study = read_study_file(STUDIES / f"{name}.toml")
    trainers = {without_seed(model.trainer) for model in study.models}
    assert all(trainer.partition("__")[0] in trainers for table in study.tables for _, trainer in table.rows)


MODELS = 'models = [{ trainer = "nnUNetTrainer" }]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset = ", "is not a TOML file"),
        (MODELS, "dataset is missing"),
        ('dataset = "17"\n' + MODELS, "dataset = '17': expected a valid integer"),
        ("dataset = 17", "a study needs at least one trainer"),
        (
            "dataset = 17\nfold = [0]\n" + MODELS,
            r"unknown key 'fold'; a study file may contain dataset, models, folds, seeds",
        ),
        (
            'dataset = 17\nmodels = [{ trainers = "x" }]',
            r"models\.0\.trainer is missing; unknown key 'trainers'; an entry of \[\[models\]\] may contain trainer",
        ),
        ('dataset = 17\nmodels = [{ plans = "x" }]', r"models\.0\.trainer is missing"),
        ('dataset = 17\nmodels = [{ trainer = "../x" }]', r"'\.\./x' is not the name of a trainer"),
        ('dataset = 17\nmodels = [{ trainer = "a__b" }]', "'a__b' is not the name of a trainer"),
        ('dataset = 17\nmodels = [{ trainer = "nnUNetTrainerUNETR_Big" }]', "unknown token 'Big'"),
        ('dataset = 17\nmodels = [{ trainer = "A" }, { trainer = "A" }]', "A__nnUNetPlans__3d_fullres is named twice"),
        ("dataset = 17\nfolds = 3\n" + MODELS, "folds = 3: expected a valid list"),
        ("dataset = 17\nfolds = []\n" + MODELS, "a study needs at least one fold"),
        ("dataset = 17\nfolds = [0.0]\n" + MODELS, r"folds\.0 = 0\.0: expected a valid integer"),
        ("dataset = 17\nfolds = [true]\n" + MODELS, r"folds\.0 = True: expected a valid integer"),
        ("dataset = true\n" + MODELS, "dataset = True: expected a valid integer"),
        ("dataset = 17\ncandidates = 2.5\n" + MODELS, r"candidates = 2\.5: expected a valid integer"),
        ('dataset = 17\ncores = "two"\n' + MODELS, "cores = 'two': expected a valid integer"),
        ("dataset = 17\ncores = 0\n" + MODELS, "cores = 0: expected greater than or equal to 1"),
        ('dataset = 17\nplans = "x"\n' + MODELS, r"plans = 'x': expected a valid dictionary"),
        (
            "dataset = 17\n" + MODELS + "[plans.X]\nplannr = 1",
            r"unknown key 'plannr'; \[plans\.X\] may contain planner, architecture",
        ),
        (
            "dataset = 17\n" + MODELS + "[configurations]\nsmall = 3",
            r"configurations\.small = 3: expected a valid dictionary",
        ),
        ("dataset = 17\n[models]\ntrainer = 1", r"models = \{.*\}: expected a valid list"),
        ('dataset = 17\nconfiguration = "x; true"\n' + MODELS, "configuration = 'x; true': use letters"),
        ('dataset = 17\nplans_name = "a__b"\n' + MODELS, "plans = 'a__b': use letters"),
        (
            'dataset = 17\ntables = [{ title = "T", rows = [["x"]] }]\n' + MODELS,
            r"tables\.0\.rows\.0 = \['x'\]: List should have at least 2 items",
        ),
        (
            'dataset = 17\ntables = [{ title = "T", rows = [], x = 1 }]\n' + MODELS,
            r"unknown key 'x'; an entry of \[\[tables\]\] may contain title, rows",
        ),
        (
            "dataset = 17\n" + MODELS + '[configurations.coarse]\ninherits_from = "3d_fullres"\nspacing = [10, 8, 8]',
            r"\[configurations\.coarse\] changes spacing, .* 3d_fullres: .* data_identifier = \"nnUNetPlans_coarse\"",
        ),
        ('dataset = 17\ndata = ["phantom"]\n' + MODELS, r"data\.0 = 'phantom': expected a valid list"),
        ("dataset = 17\ntables = [{ rows = [] }]\n" + MODELS, r"tables\.0\.title is missing"),
        ("dataset = 17\nfolds = [0, 5]\n" + MODELS, "folds 0 5: name some of 0 1 2 3 4"),
        ("dataset = 17\nfolds = [1, 1]\n" + MODELS, "folds 1 1: name some of 0 1 2 3 4, without repetition"),
        ("dataset = 17\ncandidates = 0\n" + MODELS, "candidates = 0: expected greater than or equal to 1"),
        (
            "dataset = 17\n" + MODELS + '[plans.X]\nplanner = "ResEnc"\nsize = "tiny"',
            r"plans\.X: planner is nnU-Net's and does not know size: leave out either",
        ),
        ("dataset = 17\nfold = 1\ncores = 0\n" + MODELS, "unknown key 'fold'.*; cores = 0|cores = 0.*; unknown key"),
        (
            'dataset = 17\nseeds = [1]\nmodels = [{ trainer = "nnUNetTrainerUNETR_seed3" }]',
            "nnUNetTrainerUNETR_seed3 names a seed already",
        ),
    ],
)
def test_errors_name_the_file_and_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_study_file(written(tmp_path, text))
    assert str(caught.value).startswith(str(tmp_path / "mine.toml"))
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no study file .*none\.toml; studies by name: btcv, demo, openkbp"):
        find_study(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"binary\.toml is not a TOML file"):
        read_study_file(tmp_path / "binary.toml")


def test_a_file_of_ones_own_comes_before_a_study_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("btcv").touch()
    assert find_study(Path("btcv")) == Path("btcv")
