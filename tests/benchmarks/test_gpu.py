"""The script that tries a GPU, without one."""

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.gpu import DATA, STAGES, Plan, Run, table
from benchmarks.gpu_memory import fall_backs
from benchmarks.gpu_networks import planned_by_nnunet
from benchmarks.gpu_stage import ROOT, Result, Stage, append, read, run_stage
from benchmarks.gpu_train import mean_utilization
from tests.conftest import DATASET

PLAN = Plan("memory", "A stage", 1)


def python(run: Run, code: str) -> list[str]:
    prelude = "import pathlib, subprocess, sys, time\nfrom benchmarks.gpu_stage import Result, append\n"
    return [sys.executable, "-c", f"{prelude}results = pathlib.Path({str(run.results)!r})\n{code}"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "out", ["# On a GPU"])


def test_a_stage_that_hangs_is_cut_off_with_what_it_had(run: Run, tmp_path: Path) -> None:
    code = f"""
append(results, Result("memory", {{"seconds": 1.5}}))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
pathlib.Path({str(tmp_path)!r}, "child").write_text(str(child.pid))
time.sleep(60)
"""
    running = run.start(python(run, code))
    while not (tmp_path / "child").is_file() or not (tmp_path / "child").read_text():
        time.sleep(0.1)
    run.finish(PLAN, running, 0.5)
    assert run.has_failed
    assert run.of(PLAN)[0].figures == {"seconds": 1.5}
    text = run.table.read_text()
    assert "| 1.5 |" in text
    assert "stopped at its limit" in text
    child = int((tmp_path / "child").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_the_table_is_there_while_a_stage_runs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr(Run, "write", lambda self: written.append(len(read(self.results))))
    result = 'append(results, Result("memory", {"done": 1}))'
    code = f"{result}\ntime.sleep(2)\n{result}"
    run.finish(PLAN, run.start(python(run, code)), 60)
    assert {1, 2} <= set(written)
    assert not run.has_failed


@pytest.mark.parametrize(
    ("code", "reason"),
    [("sys.exit(3)", "ended with exit code 3, see gpu.log"), ("pass", "ended without a result")],
)
def test_a_stage_that_says_nothing_has_failed(run: Run, code: str, reason: str) -> None:
    run.finish(PLAN, run.start(python(run, code)), 60)
    assert run.of(PLAN) == [Result("memory", {}, reason)]
    assert run.has_failed


def test_an_error_in_a_stage_becomes_a_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(stage: Stage) -> None:
        stage.report({"done": 1})
        raise ValueError("no such thing")

    words = ["--name", "train", "--device", "cpu", "--work", str(tmp_path), "--ends", "9"]
    assert run_stage(fail, [*words, "--results", str(tmp_path / "results")]) == 1
    expected = [Result("train", {"done": 1}), Result("train", {}, "ValueError: no such thing")]
    assert read(tmp_path / "results") == expected
    assert "Traceback" in capsys.readouterr().err


def test_a_line_that_is_being_written_is_left(tmp_path: Path) -> None:
    path = tmp_path / "results"
    append(path, Result("steps", {"loss": 2.5}))
    with path.open("a") as stream:
        stream.write('{"stage": "steps", "fig')
    assert read(path) == [Result("steps", {"loss": 2.5})]


def test_columns_are_those_of_all_results() -> None:
    results = [
        Result("steps", {"ms": 1.23456789, "mode": "eager"}),
        Result("steps", {"mode": "a | b", "GiB": 2}, "late"),
    ]
    assert table(results) == [
        "| ms | mode | GiB | missed |",
        "|---|---|---|---|",
        "| 1.2346 | eager |  |  |",
        "|  | a \\| b | 2 | late |",
    ]


def test_the_default_network_is_nnunets_own(blobs: Path) -> None:
    plans = json.loads((blobs / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json").read_text())
    planned = plans["configurations"]["3d_fullres"]
    architecture = planned["architecture"]
    blank = {
        **architecture,
        "arch_kwargs": {**architecture["arch_kwargs"], "n_stages": 0, "strides": [], "kernel_sizes": []},
    }
    assert planned_by_nnunet(blank, (tuple(planned["patch_size"]), tuple(planned["spacing"]))) == architecture


def test_every_way_out_of_a_lack_of_gpu_memory_is_asked_for() -> None:
    assert len(fall_backs()) == len(set(fall_backs())) == 4
    assert sum("logits" in words for words in fall_backs()) == 2


def test_how_busy_a_gpu_is() -> None:
    begin = time.mktime((2026, 1, 2, 3, 4, 5, 0, 0, -1))
    lines = ["2026/01/02 03:04:04.900, 7", "2026/01/02 03:04:05.100, 80", "2026/01/02 03:04:06.500, 100", "[N/A]"]
    assert mean_utilization("\n".join(lines), begin, begin + 2) == pytest.approx(0.9)
    assert mean_utilization("\n".join(lines), begin + 10, begin + 20) is None


@pytest.mark.slow
def test_every_stage_ends_with_a_result(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--tiny", "--study", "--output", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + (tmp_path / "gpu.log").read_text()[-5000:]
    results = read(tmp_path / "gpu.jsonl")
    assert {each.stage for each in results} == {DATA.name, *(plan.name for plan in STAGES), "study"}
    assert not any(each.missed for each in results)
    text = (tmp_path / "gpu.md").read_text()
    assert text.count("| passed |\n") == len(STAGES) + 2
    assert "not on a CPU" in text
    assert "the figures mean nothing" in text
