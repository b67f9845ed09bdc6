import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from unetr_nnunet.experiments import crossval
from unetr_nnunet.experiments.crossval import expectation, needed_gib
from unetr_nnunet.experiments.settings import Settings, read_settings
from unetr_nnunet.experiments.study import Model, Study, Table, read_study

MODELS = (Model("A"), Model("B"), Model("C"))
PLANS = {"configurations": {"3d_fullres": {"batch_size": 2}}}


def settings(executor: str = "local", device: str = "cpu", gpus: int = 0, per: int = 1, cores: int = 2) -> Settings:
    return Settings(executor, device, gpus, per, 8, cores, 20, False)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
        (tmp_path / name).mkdir()
    return tmp_path


def dataset(root: Path, cases: int = 20) -> None:
    """Leave a data set as `unetr_nnunet convert` does, but for its images."""
    raw = root / "raw" / "Dataset017_BTCV"
    raw.mkdir()
    (raw / "dataset.json").write_text(json.dumps({"numTraining": cases, "converted_by": "unetr_nnunet"}))
    (raw / "conversion.json").write_text("{}")
    (root / "preprocessed" / "Dataset017_BTCV").mkdir()


def test_only_what_no_log_tells_of_is_measured(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def training_seconds(study: Study, models: list[Model], device: str, threads: int) -> dict[str, float]:
        asked.append((models, device, threads))
        return {model.identifier: 3600.0 for model in models}

    monkeypatch.setattr(crossval, "training_seconds", training_seconds)
    study = Study(17, (*MODELS, Model("D", "Unplanned"), Model("E", configuration="2d")), (0, 1))
    assert crossval.measure_trainings(study, root / "study", settings()) == {}, "there is no data set yet"
    dataset(root)
    (root / "preprocessed" / "Dataset017_BTCV" / "nnUNetPlans.json").write_text(json.dumps(PLANS))
    log = root / "results" / "Dataset017_BTCV" / MODELS[1].identifier / "fold_0" / "training_log_1.txt"
    log.parent.mkdir(parents=True)
    log.write_text("2026-01-01 00:00:00.0: Epoch 0 \n2026-01-01 01:00:00.0: Epoch time: 3600.0 s \n")
    (log.parent / "debug.json").write_text('{"num_epochs": "5"}')
    measured = crossval.measure_trainings(study, root / "study", settings())
    assert asked == [([MODELS[0], MODELS[2]], "cpu", 2)]
    assert crossval.measure_trainings(study, root / "study", settings("slurm")) == {}
    line, _ = expectation(Study(17, MODELS, (0, 1)), root / "study", settings(), measured)
    assert line.endswith("about 5.0 hours of training left (by one step of each network; loading of data not counted)")


def test_disk_for_probabilities(root: Path) -> None:
    usual = 512 * 512 * 200 * 14 * 2 / 2**30  # float16 of 14 labels
    assert needed_gib(Study(17, MODELS)) == pytest.approx(3 * 30 * usual)
    dataset(root)
    shapes = {"shapes_after_crop": [[64, 128, 128]]}
    (root / "preprocessed" / "Dataset017_BTCV" / "dataset_fingerprint.json").write_text(json.dumps(shapes))
    small = 2**20 * 14 * 2 / 2**30
    assert needed_gib(Study(17, MODELS)) == pytest.approx(3 * 20 * small)
    assert needed_gib(Study(17, MODELS, (0,), candidates=2)) == pytest.approx(2 * 20 / 5 * small)
    assert needed_gib(Study(17, MODELS, candidates=1)) == needed_gib(Study(17, MODELS[:1])) == 0
    first, second = expectation(Study(17, MODELS), root / "study", settings(), {})
    assert first.startswith("3 model(s) x 5 fold(s) = 15 trainings, 4 at once, on cpu; hours are known after")
    assert second.startswith(f"at most {3 * 20 * small:.1f} GiB for probabilities, ")


def finish(study: Study, folder: Path) -> None:
    """Leave the marks of a study that has ended."""
    marks = ["data", "plan", "preprocess", "best", "test", "report"]
    marks += [f"train/{model.identifier}/fold_{fold}" for model in study.models for fold in study.folds]
    for name in marks:
        (folder / "done" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "done" / name).touch()
    (folder / "candidates.json").write_text("[]")
    for number, name in enumerate(["data", "plan", "preprocess", *marks[6:], "best", "test", "report"]):
        os.utime(folder / "done" / name, (2_000_000_000 + number, 2_000_000_000 + number))
    os.utime(folder / "candidates.json", (2_000_000_000 + len(marks) - 3.5,) * 2)


def test_a_dry_run_writes_nothing_and_lists_what_a_run_would_do(root: Path) -> None:
    study, folder = Study(17, MODELS[:2], (0,), data=(("convert", "btcv", "{download}"),)), root / "study"
    dataset(root)
    crossval.write_inputs(study, settings(), folder)
    finish(study, folder)
    for model in study.models:
        trained = root / "results" / "Dataset017_BTCV" / model.identifier / "fold_0"
        (trained / "validation").mkdir(parents=True)
        for name in ("checkpoint_final.pth", "validation/summary.json"):
            (trained / name).touch()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert crossval.dry_run(study, settings(), folder) == "nothing to be done"
    other = replace(study, tables=(Table("Networks", (("A", "A"),)),), cores=1)
    download = replace(settings(), download="/elsewhere/RawData.zip")
    assert crossval.dry_run(other, download, folder) == "nothing to be done", "neither has a say in the choice"
    (trained / "checkpoint_final.pth").unlink()
    listed = crossval.dry_run(study, settings(), folder)
    assert re.search(r"^train +1$", listed, re.MULTILINE), listed
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    more = crossval.dry_run(replace(study, folds=(0, 1)), settings(), folder)
    assert re.search(r"^train +3$", more, re.MULTILINE), more
    assert re.search(r"^candidates +1$", more, re.MULTILINE), more


def test_the_disk_is_that_of_the_folder_to_come(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    usage = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: (asked.append(path), usage(path))[1])
    expectation(Study(17, MODELS), root / "new" / "study", settings(), {})
    assert asked == [root]


def test_what_the_workflow_reads(root: Path) -> None:
    study = Study(17, MODELS, (0, 2))
    crossval.write_inputs(study, settings(), root / "study")
    assert read_study(root / "study" / "study.json") == study
    assert read_settings(root / "study") == settings()


def test_nnunets_folders_where_no_variable_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "mine"))
    for name in ("nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("nnUNet_extTrainer", "")
    crossval.set_environment(Path("data"))
    assert os.environ["nnUNet_raw"] == str(tmp_path / "mine")
    assert os.environ["nnUNet_results"] == str(tmp_path / "data" / "nnUNet_results")
    assert not list(tmp_path.iterdir()), "folders come with a run, not with a question"
