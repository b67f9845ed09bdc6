import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unetr_nnunet.experiments import crossval
from unetr_nnunet.experiments.crossval import Settings, check, expectation, failed_steps, needed_gib
from unetr_nnunet.experiments.study import Model, Study, read_json, write_json
from unetr_nnunet.experiments.study_plans import complete_plans

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
    assert line.endswith("about 3.2 hours of training left (by one step of each network; loading of data not counted)")


def test_without_data_or_with_a_way_to_make_them(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no data set 17: convert it"):
        check(Study(17, MODELS), root / "study")
    check(Study(17, MODELS, data=(("phantom",),)), root / "study")
    dataset(root)
    check(Study(17, MODELS), root / "study")


def test_edited_plans_are_refused(root: Path) -> None:
    dataset(root)
    path = root / "preprocessed" / "Dataset017_BTCV" / "nnUNetPlans.json"
    path.write_text(json.dumps(PLANS))
    complete_plans(Study(17, MODELS), path.parent, root / "study")
    check(Study(17, MODELS), root / "study")
    path.write_text(json.dumps({"configurations": {"3d_fullres": {"batch_size": 3}}}))
    with pytest.raises(ValueError, match=r"nnUNetPlans\.json has been edited since"):
        check(Study(17, MODELS), root / "study")


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


def test_a_folder_of_a_study_on_another_data_set_is_refused(tmp_path: Path) -> None:
    write_json(Study(17, (Model("nnUNetTrainer"),)), tmp_path / "study.json")
    with pytest.raises(ValueError, match=r"holds a study on data set 17, not 18: name another folder"):
        crossval.check(Study(18, (Model("nnUNetTrainer"),)), tmp_path)


def test_a_training_that_was_removed_is_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    data = tmp_path / "raw" / "Dataset017_BTCV" / "dataset.json"
    data.parent.mkdir(parents=True)
    data.write_text("{}")
    study = Study(17, (Model("nnUNetTrainer"),), (0, 1))
    marks = [tmp_path / "study" / "done" / "train" / study.models[0].identifier / f"fold_{fold}" for fold in (0, 1)]
    marks[0].parent.mkdir(parents=True)
    for mark in marks:
        mark.touch()
    trained = tmp_path / "results" / "Dataset017_BTCV" / study.models[0].identifier / "fold_1"
    (trained / "validation").mkdir(parents=True)
    for name in ("checkpoint_final.pth", "validation/summary.json"):
        (trained / name).touch()
    crossval._forget_lost_trainings(study, tmp_path / "study")
    assert [mark.exists() for mark in marks] == [False, True]
