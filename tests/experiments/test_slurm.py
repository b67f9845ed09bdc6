import logging
import re
from pathlib import Path

import pytest

from unetr_nnunet.experiments import slurm


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing but what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(slurm, "POLL_S", 0.01)
    return folder


def command(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def config(storage: str) -> str:
    return f"echo 'AccountingStorageTRES = cpu,mem'\necho 'AccountingStorageType   = {storage}'\necho 'ClusterName = c'"


def test_a_study_has_one_prefix_wherever_it_is_named_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert slurm.prefix(Path("study")) == slurm.prefix(tmp_path / "other" / ".." / "study")
    assert slurm.prefix(Path("study")) != slurm.prefix(Path("study2"))
    assert re.fullmatch(r"unetr_[0-9a-f]{8}", slurm.prefix(Path("study")))


def test_no_sbatch(commands: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--executor slurm: no sbatch on this machine; run this on a login node"):
        slurm.longest_minutes()


@pytest.mark.parametrize(
    ("limit", "minutes"),
    [("infinite", None), ("30:00", 30), ("1:30:00", 90), ("2-00:00:00", 2880), ("7-12:05:00", 10805), ("n/a", None)],
)
def test_time_limits_as_sinfo_writes_them(commands: Path, limit: str, minutes: int | None) -> None:
    command(commands, "sbatch", "")
    command(commands, "sinfo", f"echo 'gpu* {limit}'\necho 'short 10:00'")
    assert slurm.longest_minutes() == slurm.longest_minutes("gpu") == minutes
    assert slurm.longest_minutes("short") == 10


def test_no_such_partition(commands: Path) -> None:
    command(commands, "sbatch", "")
    command(commands, "sinfo", "echo 'gpu* infinite'\necho 'short 10:00'")
    with pytest.raises(ValueError, match=r"^--partition long: this cluster has gpu, short$"):
        slurm.longest_minutes("long")
    command(commands, "sinfo", "echo 'cpu infinite'")
    assert slurm.longest_minutes() is None, "no default partition"


@pytest.mark.parametrize(
    ("storage", "expected"),
    [("accounting_storage/slurmdbd", True), ("accounting_storage/none", False), ("(null)", False)],
)
def test_accounting(commands: Path, storage: str, expected: bool) -> None:
    command(commands, "scontrol", config(storage))
    assert slurm.has_accounting() is expected


def test_a_cluster_that_does_not_answer_has_no_accounting(commands: Path) -> None:
    command(commands, "scontrol", config("accounting_storage/slurmdbd") + "\nexit 1")
    assert not slurm.has_accounting()


@pytest.mark.slow
def test_options_are_those_of_snakemake(commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")  # Snakemake looks for a shell
    from snakemake.cli import get_argument_parser
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

    command(commands, "sbatch", "")
    parser = get_argument_parser()
    ExecutorPluginRegistry().get_plugin("slurm")
    for storage in ("accounting_storage/slurmdbd", "accounting_storage/none"):
        command(commands, "scontrol", config(storage))
        words = slurm.options(tmp_path)
        assert ("squeue" in words) is (storage == "accounting_storage/none")
        arguments = vars(parser.parse_args([*words, "--jobs", "1"]))
        assert arguments["executor"] == "slurm"
        assert arguments["slurm_jobname_prefix"] == slurm.prefix(tmp_path)
        assert Path(str(arguments["slurm_logdir"])) == tmp_path / "logs" / "slurm"
    words = slurm.options(tmp_path, "all", "2024-12")  # names that are Python too
    resources = vars(parser.parse_args([*words, "--jobs", "1"]))["default_resources"]
    given = dict.fromkeys(("wildcards", "input", "attempt", "threads", "rulename", "async_run"))
    named = [resources[name].evaluate(**given).value for name in ("slurm_partition", "slurm_account")]
    assert named == ["all", "2024-12"]


def test_only_a_studys_own_jobs(commands: Path, tmp_path: Path) -> None:
    own, other = slurm.prefix(tmp_path / "study"), slurm.prefix(tmp_path / "other")
    queue = f"echo '11 {own}_train a'\necho '12 {other}_train'\necho '13 somebody'\necho '14 {own}'\necho '15'"
    command(commands, "squeue", queue)
    assert slurm.jobs_of(tmp_path / "study") == ["11", "14"]
    command(commands, "squeue", "echo 'slurm_load_jobs error: timeout' >&2\nexit 1")
    with pytest.raises(RuntimeError, match=r"squeue does not answer: slurm_load_jobs error: timeout"):
        slurm.jobs_of(tmp_path / "study")


def test_left_jobs_are_cancelled_until_they_are_gone(
    commands: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    left, said = tmp_path / "left", tmp_path / "said"
    left.write_text(f"11 {slurm.prefix(tmp_path)}_1\n12 unetr_other\n13 {slurm.prefix(tmp_path)}_2\n")
    command(commands, "squeue", f'while read -r line; do echo "$line"; done < {left}')
    ends = f'case "$1" in --*) ;; *) echo "12 unetr_other" > {left} ;; esac'
    command(commands, "scancel", f'echo "$@" >> {said}\n{ends}')
    slurm.cancel_jobs_of(tmp_path)
    assert said.read_text().splitlines() == ["--signal=TERM --full 11 13", "11 13"]
    assert "cancelling 2 job(s) of an earlier run" in caplog.text
