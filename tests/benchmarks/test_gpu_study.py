"""The accuracy study of the script that tries a GPU, on a made-up clone."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import gpu_study
from benchmarks.gpu_stage import Result, Stage, read
from benchmarks.gpu_study import run_step, run_study
from tests.conftest import shorten_epochs
from tests.dataset_conversion.openkbp_clone import write_patient

TRAINER = "nnUNetTrainerUNETR_Modified_Tiny_NoAug_1epochs"
STUDY = """
dataset = 55
configuration = "small"
folds = [0]
data = [["convert", "openkbp", "{download}"]]

[configurations.small]
inherits_from = "3d_fullres"
patch_size = [16, 32, 32]
batch_size = 2
"""


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "work").mkdir()
    ends = time.monotonic() + 600
    return Stage("study", "cpu", True, tmp_path / "work", tmp_path / "results", ends, tmp_path / "open-kbp")


def use_study(monkeypatch: pytest.MonkeyPatch, folder: Path, *trainers: str) -> None:
    sections = "".join(f'\n[[models]]\ntrainer = "{trainer}"\n' for trainer in trainers)
    (folder / "study.toml").write_text(STUDY + sections)
    monkeypatch.setattr(gpu_study, "STUDY", folder / "study.toml")


def test_a_download_that_is_not_there_is_said(stage: Stage) -> None:
    run_study(stage)
    assert read(stage.results) == [Result("study", {"step": "all", "result": f"{stage.download} is not there"})]


def test_a_step_that_fails_is_no_step_that_is_done(stage: Stage) -> None:
    mark = stage.work / "done" / "plan"
    assert run_step(stage, mark, "plan") == ("failed", "exit code 1, see gpu.log")
    assert not mark.exists()


def test_a_step_has_the_time_that_is_left(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = stage.work / "done" / "plan"
    assert run_step(replace(stage, ends=time.monotonic() + 1), mark, "plan") == ("not begun in the time left", "")
    monkeypatch.setattr(gpu_study, "LEAST_SECONDS", 0)
    late = replace(stage, ends=time.monotonic() + 0.1)
    assert run_step(late, mark, "plan") == ("stopped; the next run continues", "")
    assert not mark.exists()


@pytest.mark.slow
def test_a_study_without_snakemake(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2, 201):
        write_patient(tmp_path / "open-kbp", number)
    shorten_epochs(monkeypatch, 2)
    (tmp_path / "without" / "snakemake").mkdir(parents=True)
    (tmp_path / "without" / "snakemake" / "__init__.py").write_text("raise ImportError('it is not packed')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "without"), os.environ["PYTHONPATH"]]))
    use_study(monkeypatch, tmp_path, TRAINER)
    run_study(stage)
    results = read(stage.results)
    steps = ["data", "plan", "preprocess", f"train {TRAINER}, fold 0"]
    assert [(each.figures["step"], each.figures["result"]) for each in results] == [(step, "done") for step in steps]
    assert results[-1].figures["epochs"] == "1 of 1"
    assert 0 <= results[-1].figures["mean Dice"] <= 1
    use_study(monkeypatch, tmp_path, TRAINER, "nnUNetTrainerUNETR_Tiny_NoAug_1epochs")
    run_study(replace(stage, ends=time.monotonic()))
    again = read(stage.results)[4:]
    assert [each.figures["result"] for each in again] == ["done"] * 4 + ["not begun in the time left"]
    assert again[3].figures["mean Dice"] == results[-1].figures["mean Dice"]
