import json
import os
from pathlib import Path
from typing import Any

import pytest

from unetr_nnunet.cli import crossval as command
from unetr_nnunet.cli.main import build_parser, main
from unetr_nnunet.experiments import crossval, slurm
from unetr_nnunet.experiments.settings import Settings
from unetr_nnunet.experiments.study import Model, Study

CONVERTS = """
dataset = 17
models = [{ trainer = "nnUNetTrainer" }]
data = [["convert", "btcv", "{download}"]]
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    monkeypatch.setenv("nnUNet_extTrainer", "")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Study, Settings, Path]]:
    """What the command would run."""
    runs: list[tuple[Study, Settings, Path]] = []
    monkeypatch.setattr(crossval, "run_study", lambda *words: runs.append(words))
    return runs


def error(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["crossval", *words]) == 1
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    return said


def test_errors_are_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "x.toml").write_text(CONVERTS)
    assert "nothing to run: name a STUDY, or a data set and trainers with -d and -tr" in error(capsys)
    assert "nothing to run: name a STUDY" in error(capsys, "-d", "17")
    assert "there is no study file gone.toml" in error(capsys, "gone.toml")
    assert "x.toml names its own models: leave out -d, -tr" in error(capsys, "x.toml", "-d", "17")
    assert "leave out" in error(capsys, "x.toml", "--folds", "0")
    assert "x.toml converts a download: give it with --download" in error(capsys, "x.toml")
    assert "--download gone.zip: there is no such file" in error(capsys, "x.toml", "--download", "gone.zip")
    trainer = ("-d", "17", "-tr", "nnUNetTrainer", "--device", "cpu")
    assert "folds 7: name some of 0 1 2 3 4" in error(capsys, *trainer, "--folds", "7")
    assert "has no data set 17: convert it" in error(capsys, *trainer, "--dry-run")
    assert f"{place / 'study'} holds no study: name its folder with -o" in error(capsys, "--status")
    assert "names a seed already" in error(capsys, "-d", "1", "-tr", "nnUNetTrainerUNETR_seed1", "--seeds", "2")


def test_gpus_that_are_not_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_gpus", lambda: 1)
    words = ("-d", "17", "-tr", "nnUNetTrainer", "--device", "cuda", "--gpus-per-training", "2")
    assert "2 GPU(s) wanted, 1 here (see `unetr_nnunet doctor`)" in error(capsys, *words)


def test_a_study_from_words(
    place: Path, started: list[tuple[Study, Settings, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "-d",
        "17",
        "-tr",
        "nnUNetTrainerUNETR",
        "nnUNetTrainer",
        "-c",
        "2d",
        "-p",
        "Own",
        "--folds",
        "0",
        "2",
        "--seeds",
        "1",
        "2",
        "-o",
        "out",
        "--device",
        "cpu",
    ]
    assert main(["crossval", *words, "--cores", "3"]) == 0
    ((study, settings, folder),) = started
    trainers = ("nnUNetTrainerUNETR_seed1", "nnUNetTrainerUNETR_seed2", "nnUNetTrainer")
    assert study == Study(17, tuple(Model(trainer, "Own", "2d") for trainer in trainers), (0, 2))
    assert folder == place / "out"
    assert (settings.device, settings.cores, settings.cores_per_training, settings.trainings_at_once) == (
        "cpu",
        3,
        3,
        1,
    )
    out = capsys.readouterr().out
    assert "3 model(s) x 2 fold(s) = 6 trainings, 1 at once, on cpu" in out
    assert str(place / "out" / "best_model.zip") in out


def test_a_download_is_a_setting_of_the_run(place: Path, started: list[tuple[Study, Settings, Path]]) -> None:
    (place / "x.toml").write_text(CONVERTS)
    (place / "RawData.zip").touch()
    assert main(["crossval", "x.toml", "--download", "RawData.zip", "--device", "cpu"]) == 0
    assert started[0][0].data == (("convert", "btcv", "{download}"),)
    assert started[0][1].download == str(place / "RawData.zip")


def test_a_download_is_not_asked_for_where_data_are_there(
    place: Path, started: list[tuple[Study, Settings, Path]]
) -> None:
    (place / "x.toml").write_text(CONVERTS)
    (place / "raw" / "Dataset017_BTCV").mkdir(parents=True)
    (place / "raw" / "Dataset017_BTCV" / "dataset.json").write_text("{}")
    assert main(["crossval", "x.toml", "--device", "cpu"]) == 0
    assert len(started) == 1


@pytest.mark.parametrize(
    ("words", "gpus", "expected"),
    [
        ([], 4, ("cuda", 4, 16, 4, 4)),
        (["--gpus-per-training", "2"], 4, ("cuda", 4, 16, 8, 2)),
        ([], 0, ("cpu", 0, 16, 2, 8)),
        (["--device", "cpu"], 4, ("cpu", 0, 16, 2, 8)),
        (["--executor", "slurm"], 0, ("cuda", 0, 8, 8, 20)),
        (["--executor", "slurm", "--jobs", "3", "--cores", "4"], 0, ("cuda", 0, 4, 4, 3)),
    ],
)
def test_cores_and_gpus_are_shared_among_the_trainings(
    monkeypatch: pytest.MonkeyPatch, words: list[str], gpus: int, expected: tuple[Any, ...]
) -> None:
    monkeypatch.setattr(command, "_gpus", lambda: gpus)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)))
    monkeypatch.setattr(slurm, "longest_minutes", lambda partition: None)
    study = Study(17, (Model("nnUNetTrainer"),), cores=2)
    found = command._settings(build_parser("crossval").parse_args(words), study)
    figures = (found.device, found.gpus, found.cores, found.cores_per_training, found.trainings_at_once)
    assert figures == expected


def test_partition_and_account_are_a_clusters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "add --executor slurm" in error(capsys, "-d", "17", "-tr", "nnUNetTrainer", "--account", "lab")
    monkeypatch.setattr(slurm, "longest_minutes", {"short": 24 * 60}.__getitem__)
    words = ["--executor", "slurm", "--partition", "short", "--account", "lab"]
    found = command._settings(build_parser("crossval").parse_args(words), Study(17, (Model("nnUNetTrainer"),)))
    assert (found.partition, found.account, found.longest_minutes, found.retries) == ("short", "lab", 24 * 60, 3)


def test_what_cannot_be_obeyed_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_gpus", lambda: 0)
    words = ("-d", "17", "-tr", "nnUNetTrainer")
    assert "--seeds: only our trainers" in error(capsys, *words, "--seeds", "0", "1")
    assert "--gpus-per-training 2: there is no GPU to train on" in error(capsys, *words, "--gpus-per-training", "2")


def train_an_hour(place: Path, model: Model) -> None:
    """Leave the data set, and the log of a training that has ended its first epoch."""
    (place / "raw" / "Dataset017_BTCV").mkdir(parents=True)
    (place / "raw" / "Dataset017_BTCV" / "dataset.json").write_text("{}")
    fold = place / "results" / "Dataset017_BTCV" / model.identifier / "fold_0"
    fold.mkdir(parents=True)
    lines = ["2026-01-01 00:00:00.5: Epoch 0", "2026-01-01 01:00:00.5: Epoch time: 3600.0 s"]
    (fold / "training_log_2026_1_1_00_00_00.txt").write_text("\n".join(lines))


def test_status_from_any_place_is_that_of_the_studys_folders(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {f"nnUNet_{name}": str(place / name) for name in ("raw", "preprocessed", "results")}
    settings = Settings("local", "cpu", 0, 1, 2, 1, 20, False, folders=folders)
    model = Model("nnUNetTrainer_4epochs")
    crossval.write_inputs(Study(17, (model,), (0,)), settings, place / "study")
    train_an_hour(place, model)
    for name in folders:
        monkeypatch.setenv(name, str(place / "elsewhere"))
    assert main(["crossval", "-o", "study", "--status"]) == 0
    assert "about 3.0 hours of training left" in capsys.readouterr().out


def test_status_of_a_study(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, model = place / "mine", Model("nnUNetTrainer_4epochs")
    settings = Settings("local", "cpu", 0, 1, 2, 1, 20, False)
    crossval.write_inputs(Study(17, (model,), (0, 1)), settings, folder)
    for name in ("data", "plan", "preprocess"):
        (folder / "done").mkdir(exist_ok=True)
        (folder / "done" / name).touch()
    train_an_hour(place, model)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert main(["crossval", "-o", "mine", "--status"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "3 of 9 steps are done"
    assert f"  {model.identifier} fold 0: 1 of 4 epochs" in out
    assert out[-1] == "about 4.0 hours of training left, 2 at once"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_torn_file_of_a_study_is_an_error(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings("local", "cpu", 0, 1, 2, 1, 20, False)
    crossval.write_inputs(Study(17, (Model("nnUNetTrainer"),)), settings, place / "study")
    content = json.loads((place / "study" / "study.json").read_text())
    (place / "study" / "study.json").write_text(json.dumps(content)[:30])
    error(capsys, "--status")
