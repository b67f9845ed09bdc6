import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from unetr_nnunet.experiments import crossval
from unetr_nnunet.experiments.crossval import Settings, expectation, failed_steps, needed_gib
from unetr_nnunet.experiments.study import Model, Study, Table, read_json

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
    (root / "raw" / "Dataset017_BTCV").mkdir()
    (root / "raw" / "Dataset017_BTCV" / "dataset.json").write_text(json.dumps({"numTraining": cases}))
    (root / "preprocessed" / "Dataset017_BTCV").mkdir()


def test_trainings_side_by_side() -> None:
    assert settings().trainings_at_once == 4
    assert settings(cores=8).trainings_at_once == 1
    assert settings(device="cuda", gpus=5, per=2).trainings_at_once == 2
    assert settings(device="cuda", gpus=1, per=1).trainings_at_once == 1
    assert settings("slurm", "cuda").trainings_at_once == 20


def test_a_training_longer_than_a_partition_allows_gets_more_jobs() -> None:
    day = 24 * 60
    assert [crossval.retries(limit) for limit in (None, day, 7 * day)] == [1, 3, 1]


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
    assert read_json(root / "study" / "study.json") == study
    assert Settings(**json.loads((root / "study" / "settings.json").read_text())) == settings()


SNAKEFILE = """
rule all:
    input: "done/report"

rule train:
    output: touch("done/train/{model}/fold_{fold}")
    log: "logs/train/{model}/fold_{fold}.log"
    retries: 1
    shell: "echo try > {log}; [ -e tried_0 ] && [ {wildcards.fold} = 0 ] && exit; touch tried_{wildcards.fold}; exit 1"

rule plan:
    output: touch("done/plan")
    log: "logs/plan.log"
    shell: "echo $$: out of memory > {log}; exit 1"

rule report:
    input: "done/plan", "done/train/A__p__c/fold_0", "done/train/B.x__p__c/fold_3"
    output: touch("done/report")
    shell: "true"
"""


RECORDED = """
[Mon Nov 23 20:10:17 2026]
Error in rule train:
    message: None
    jobid: 3
    output: done/train/A__p__c/fold_0
    log: logs/train/A__p__c/fold_0.log (check log file(s) for error details)
    shell:
        python -m step train . --fold 0 >> logs/train/A__p__c/fold_0.log 2>&1
        (command exited with non-zero exit code)
Trying to restart job 3.
[Mon Nov 23 20:10:18 2026]
Error in rule best:
    message: None
    jobid: 4
    input: candidates.json
    output: done/best
    log: logs/best.log (check log file(s) for error details)
"""


def test_failed_steps_but_those_that_a_second_try_has_done(tmp_path: Path) -> None:
    train, best = tmp_path / "logs" / "train" / "A__p__c" / "fold_0.log", tmp_path / "logs" / "best.log"
    assert list(failed_steps(RECORDED, tmp_path)) == [("train A__p__c fold_0", train), ("best", best)]
    (tmp_path / "done" / "train" / "A__p__c").mkdir(parents=True)
    (tmp_path / "done" / "train" / "A__p__c" / "fold_0").touch()
    assert list(failed_steps(RECORDED, tmp_path)) == [("best", best)]


@pytest.mark.slow
def test_steps_that_failed_for_good_in_a_real_log(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    words = [sys.executable, "-m", "snakemake", "--cores", "1", "--keep-going", "--nolock"]
    done = subprocess.run(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 1
    assert "fold_0" in done.stdout.partition("Error in rule train:")[2]
    failures = dict(failed_steps(done.stdout, tmp_path))
    assert failures == {
        "plan": tmp_path / "logs" / "plan.log",
        "train B.x__p__c fold_3": tmp_path / "logs" / "train" / "B.x__p__c" / "fold_3.log",
    }, "fold 0 has succeeded the second time"
    words_said = crossval._failure(list(failures.items()), tmp_path / "logs" / "snakemake.log")
    assert words_said.startswith("2 step(s) failed; ")
    assert ": out of memory\n" in words_said
    assert f"  train B.x__p__c fold_3: try\n    log: {failures['train B.x__p__c fold_3']}" in words_said


def test_a_workflow_that_ends_before_its_steps(tmp_path: Path) -> None:
    log = tmp_path / "snakemake.log"
    log.write_text("\n".join(f"line {number}" for number in range(9)))
    assert list(failed_steps(log.read_text(), tmp_path)) == []
    words = crossval._failure([], log)
    assert words == f"the workflow ended with an error; the end of {log}:\n" + "\n".join(
        f"line {number}" for number in range(4, 9)
    )


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
