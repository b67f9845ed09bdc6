import subprocess
import sys
from pathlib import Path

import pytest

from unetr_nnunet.experiments.failures import cause, describe_failures, failed_steps

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
    (tmp_path / "logs" / "snakemake.log").write_text(done.stdout)
    assert done.returncode == 1
    assert "fold_0" in done.stdout.partition("Error in rule train:")[2]
    failures = dict(failed_steps(done.stdout, tmp_path))
    assert failures == {
        "plan": tmp_path / "logs" / "plan.log",
        "train B.x__p__c fold_3": tmp_path / "logs" / "train" / "B.x__p__c" / "fold_3.log",
    }, "fold 0 has succeeded the second time"
    words_said = describe_failures(tmp_path)
    assert words_said.startswith("2 step(s) failed; ")
    assert ": out of memory\n" in words_said
    assert f"  train B.x__p__c fold_3: try\n    log: {failures['train B.x__p__c fold_3']}" in words_said


def test_a_workflow_that_ends_before_its_steps(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "snakemake.log"
    log.parent.mkdir()
    log.write_text("\n".join(f"line {number}" for number in range(9)))
    assert list(failed_steps(log.read_text(), tmp_path)) == []
    assert describe_failures(tmp_path) == f"the workflow ended with an error; the end of {log}:\n" + "\n".join(
        f"line {number}" for number in range(4, 9)
    )


# what nnU-Net 2.8 and batchgenerators print when a worker of a training or of a preprocessing ends
WORKER = """
Exception in background worker 0:
 invalid load key, '\\x00'.
Traceback (most recent call last):
  File "nondet_multi_threaded_augmenter.py", line 62, in producer
    item = next(data_loader)
_pickle.UnpicklingError: invalid load key, '\\x00'.
Exception in thread Thread-2 (results_loop):
Traceback (most recent call last):
  File "threading.py", line 1038, in _bootstrap_inner
RuntimeError: Abort event was set. So someone died and we should end this madness.
Traceback (most recent call last):
  File "nnUNetv2_train", line 8, in <module>
RuntimeError: One or more background workers are no longer alive. Exiting. Please check the print statements above for \
the actual error message
"""
KILLED = """
Traceback (most recent call last):
  File "nnUNetv2_extract_fingerprint", line 8, in <module>
RuntimeError: Some background worker is 6 feet under. Yuck.
OK jokes aside.
One of your background processes is missing. This could be because of an error (look for an error message)
error: nnUNetv2_extract_fingerprint ended with exit code 1
"""
CHAINED = """
multiprocessing.pool.RemoteTraceback:
Traceback (most recent call last):
AssertionError: unable to open spleen_2.nii.gz

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
AssertionError: unable to open spleen_2.nii.gz
error: nnUNetv2_preprocess ended with exit code 1
"""
CAUGHT = """
Traceback (most recent call last):
RuntimeError: unexpected pos 64 vs 0

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
OSError: a.pth could not be written, with 3 MiB free there: make room
"""


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (WORKER, r"_pickle.UnpicklingError: invalid load key, '\x00'."),
        (WORKER + "RuntimeError: pin_memory of what is left\n", r"_pickle.UnpicklingError: invalid load key, '\x00'."),
        (CAUGHT + WORKER, "OSError: a.pth could not be written, with 3 MiB free there: make room"),
        (KILLED, "a process that loads or exports data died without a message, as when memory runs out"),
        (CHAINED, "AssertionError: unable to open spleen_2.nii.gz"),
        ("error: first try\n$ nnUNetv2_train\nMemoryError\n", "MemoryError"),
        ("Epoch 3\nerror: there are no plans Own: make them\n", "error: there are no plans Own: make them"),
        ("Epoch 3\nKilled\n", "Killed"),
        (" \n", "its log is empty"),
    ],
)
def test_the_cause_is_not_what_follows_from_it(log: str, expected: str) -> None:
    assert cause(log) == expected
