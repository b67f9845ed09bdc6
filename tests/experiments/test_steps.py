import io
import json
import logging
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from unetr_nnunet.experiments import steps
from unetr_nnunet.experiments.crossval import write_inputs
from unetr_nnunet.experiments.settings import Settings
from unetr_nnunet.experiments.steps import main
from unetr_nnunet.experiments.study import Model, Study

MODEL = Model("nnUNetTrainer")
SETTINGS = Settings("local", "cpu", 0, 1, 2, 2, 20, False)


class ExecutedError(Exception):
    """The step has become another program."""


class Place:
    """A study's folder and nnU-Net's three; what a step runs is written down instead."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.folder, self.monkeypatch = root, root / "study", monkeypatch
        self.commands: list[list[str]] = []
        self.environment: dict[str, str] = {}
        for name in ("raw", "preprocessed", "results"):
            monkeypatch.setenv(f"nnUNet_{name}", str(root / name))
            (root / name).mkdir()
        self.write(Study(17, (MODEL,), (0, 1)))
        monkeypatch.setattr(subprocess, "run", self._run)
        monkeypatch.setattr(os, "execve", self._exec)

    def write(self, study: Study, **settings: Any) -> None:
        write_inputs(study, Settings(**{**asdict(SETTINGS), **settings}), self.folder)

    def dataset(self, name: str = "Dataset017_BTCV") -> Path:
        (self.root / "raw" / name).mkdir()
        (self.root / "raw" / name / "dataset.json").write_text("{}")
        return self.root / "raw" / name

    def trained(self) -> Path:
        folder = self.root / "results" / "Dataset017_BTCV" / MODEL.identifier / "fold_1"
        (folder / "validation").mkdir(parents=True)
        return folder

    def step(self, *words: str) -> int:
        self.monkeypatch.setattr(sys, "argv", ["steps", words[0], str(self.folder), *words[1:]])
        return main()

    def train(self, *words: str) -> list[str]:
        with pytest.raises(ExecutedError):
            self.step("train", "--model", MODEL.identifier, "--fold", "1", *words)
        return self.commands[-1]

    def _note(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self.commands.append([Path(command[0]).name, *command[1:]])
        self.environment = environment

    def _run(self, command: Sequence[str], env: dict[str, str], **words: Any) -> "subprocess.CompletedProcess[str]":
        self._note(command, env)
        return subprocess.CompletedProcess(command, 3 if "fail" in command else 0)

    def _exec(self, path: str, command: Sequence[str], environment: dict[str, str]) -> None:
        assert path == command[0] == str(Path(sys.executable).parent / "nnUNetv2_train")
        self._note(command, environment)
        raise ExecutedError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def checkpoint() -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save({"current_epoch": 3}, stream)
    return stream.getvalue()


def test_an_error_is_one_line_and_the_exit_code(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.step("plan") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_a_step_needs_no_scripts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert steps.program("nnUNetv2_train", "55")[:2] == (sys.executable, "-c")
    assert steps.program("nnUNetv2_train", "55")[-1] == "55"
    (tmp_path / "nnUNetv2_train").touch()
    assert steps.program("nnUNetv2_train", "55") == (str(tmp_path / "nnUNetv2_train"), "55")


def test_data_are_made_where_there_are_none(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    place.write(Study(17, (MODEL,), data=(("phantom", "-o", "x"), ("convert", "btcv", "x"))))
    assert place.step("data") == 0
    assert place.commands == [["unetr_nnunet", "phantom", "-o", "x"], ["unetr_nnunet", "convert", "btcv", "x"]]
    assert "$ unetr_nnunet phantom -o x\n" in caplog.text
    place.dataset()
    assert place.step("data") == 0
    assert len(place.commands) == 2
    assert "Dataset017_BTCV is there" in caplog.text


def test_a_command_that_fails_fails_the_step(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.write(Study(17, (MODEL,), data=(("fail",), ("never",))))
    assert place.step("data") == 1
    assert "error: unetr_nnunet ended with exit code 3" in capsys.readouterr().err
    assert place.commands == [["unetr_nnunet", "fail"]]


def test_a_training_is_the_stock_command_and_goes_on(place: Place) -> None:
    place.dataset()
    expected = "nnUNetv2_train 17 3d_fullres 1 -tr nnUNetTrainer -p nnUNetPlans -device cpu --c"
    assert " ".join(place.train("--threads", "2")) == expected
    assert place.environment["OMP_NUM_THREADS"] == "2"
    assert place.environment["nnUNet_def_n_proc"] == "2"


def test_a_finished_training_is_left_alone(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    place.dataset()
    folder = place.trained()
    (folder / "checkpoint_final.pth").write_bytes(checkpoint())
    summary = folder / "validation" / "summary.json"
    summary.write_text('{"metric_per_case": [')
    place.train()  # killed while it was validated
    summary.write_text('{"metric_per_case": []}')
    assert place.step("train", "--model", MODEL.identifier, "--fold", "1") == 0
    assert len(place.commands) == 1
    assert "is trained and validated" in caplog.text


def test_a_torn_checkpoint_is_removed_and_others_stay(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    place.dataset()
    folder = place.trained()
    whole = checkpoint()
    assert zipfile.is_zipfile(io.BytesIO(whole))
    (folder / "checkpoint_best.pth").write_bytes(whole)
    (folder / "checkpoint_latest.pth").write_bytes(whole[: len(whole) // 2])
    place.train()
    assert [path.name for path in folder.glob("*.pth")] == ["checkpoint_best.pth"]
    assert "checkpoint_latest.pth is torn" in caplog.text


@pytest.mark.parametrize(("executor", "taken"), [("local", "3,5"), ("slurm", "3,5,6")])
def test_gpus_are_taken_on_this_machine_and_given_on_a_cluster(place: Place, executor: str, taken: str) -> None:
    place.dataset()
    place.monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6")
    place.monkeypatch.setattr(steps, "locks_folder", lambda: place.root / "gpus")
    place.write(Study(17, (MODEL,)), executor=executor, device="cuda", gpus=3, gpus_per_training=2)
    assert place.train("--threads", "8")[-2:] == ["-num_gpus", "2"]
    assert place.environment["CUDA_VISIBLE_DEVICES"] == taken
    assert place.environment["nnUNet_n_proc_DA"] == "7"


def test_probabilities_are_those_of_a_folds_validation_cases(place: Place) -> None:
    images = place.dataset() / "imagesTr"
    images.mkdir()
    for case in ("a", "b"):
        for channel in ("0000", "0001"):
            (images / f"{case}_{channel}.nii.gz").touch()
    preprocessed = place.root / "preprocessed" / "Dataset017_BTCV"
    preprocessed.mkdir()
    (preprocessed / "splits_final.json").write_text(
        json.dumps([{"train": ["a"], "val": ["b"]}, {"train": ["b"], "val": ["a"]}])
    )
    seen: list[str] = []

    def run(command: Sequence[str], **words: Any) -> "subprocess.CompletedProcess[str]":
        seen.extend(sorted(path.name for path in Path(command[command.index("-i") + 1]).iterdir() if path.is_file()))
        place.commands.append(list(command))
        return subprocess.CompletedProcess(command, 0)

    place.monkeypatch.setattr(subprocess, "run", run)
    assert place.step("probabilities", "--model", MODEL.identifier, "--fold", "1") == 0
    assert seen == ["a_0000.nii.gz", "a_0001.nii.gz"]
    (command,) = place.commands
    assert {"--exact", "--save-probabilities"} <= set(command)
    assert command[command.index("-f") + 1] == "1"
    assert command[command.index("-o") + 1].endswith(f"probabilities/{MODEL.identifier}/fold_1")


def test_a_test_set_is_predicted_and_scored_where_it_is_there(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    raw = place.dataset()
    assert place.step("test") == 0
    assert place.commands == []
    assert "has no test images" in caplog.text
    (raw / "imagesTs").mkdir()
    (raw / "imagesTs" / "x_0000.nii.gz").touch()
    chosen = place.folder / "best_model" / "Dataset017_BTCV" / "best_model.json"
    chosen.parent.mkdir(parents=True)
    chosen.write_text("one")
    assert place.step("test") == 0
    assert [command[1] for command in place.commands] == ["predict"]
    (raw / "labelsTs").mkdir()
    (raw / "labelsTs" / "x.nii.gz").touch()
    mask = place.folder / "predictions" / "x.nii.gz"
    mask.touch()
    assert place.step("test") == 0
    assert [command[1] for command in place.commands] == ["predict", "predict", "report"]
    assert mask.exists()
    chosen.write_text("another")
    assert place.step("test") == 0
    assert not mask.exists(), "a mask of the model that was chosen before"


def test_the_candidates_are_the_best_models(place: Place) -> None:
    place.dataset()
    models = tuple(Model(name) for name in "ABC")
    place.write(Study(17, models, (0,), candidates=2))
    for model, dice in zip(models, (0.5, 0.7, 0.6), strict=True):
        folder = place.root / "results" / "Dataset017_BTCV" / model.identifier / "fold_0" / "validation"
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps({"metric_per_case": [{"metrics": {"1": {"Dice": dice}}}]}))
    assert place.step("candidates") == 0
    assert json.loads((place.folder / "candidates.json").read_text()) == [models[1].identifier, models[2].identifier]


def planned(place: Place, folds: int, **configuration: object) -> Path:
    """A data set with its fingerprint, plans and a split file, as a user has them."""
    place.dataset()
    preprocessed = place.root / "preprocessed" / "Dataset017_BTCV"
    preprocessed.mkdir()
    content = {"plans_name": "nnUNetPlans", "configurations": {"3d_fullres": configuration}}
    for name, written in (
        ("dataset_fingerprint", {}),
        ("nnUNetPlans", content),
        ("splits_final", [{"train": ["a"], "val": ["b"]}] * folds),
    ):
        (preprocessed / f"{name}.json").write_text(json.dumps(written))
    return preprocessed


def test_a_fold_that_the_split_does_not_have(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    preprocessed = planned(place, 1)
    assert place.step("plan") == 1
    splits = preprocessed / "splits_final.json"
    assert f"error: {splits} has 1 fold(s), no fold 1: name some of 0 to 0" in capsys.readouterr().err
    planned_folds = [{"train": ["a"], "val": ["b"]}] * 2
    splits.write_text(json.dumps(planned_folds))
    assert place.step("plan") == 0
    assert json.loads(splits.read_text()) == planned_folds, "the user's own split stays"


def test_what_the_plans_cannot_train_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    planned(place, 2, data_identifier="x", previous_stage="3d_lowres", architecture={})
    assert place.step("plan") == 1
    assert "3d_fullres of nnUNetPlans needs the predictions of 3d_lowres" in capsys.readouterr().err
    assert place.commands == []


def test_every_step_of_the_graph_is_there() -> None:
    text = (Path(steps.__file__).parent / "workflow" / "Snakefile").read_text()
    rules = [line.split()[1].rstrip(":") for line in text.splitlines() if line.startswith(("rule ", "checkpoint "))]
    assert set(rules) - {"all"} == set(steps.STEPS)
