"""Snakemake's options for Slurm, the cluster's limits, and what to do with the jobs of an earlier run.

Snakemake does not come back to its old jobs, so they are cancelled.

Options as of snakemake-executor-plugin-slurm 2.8. A cluster without accounting has no ``sacct``; ``squeue`` tells the
states there, or every job would be lost without a message.
"""

import hashlib
import logging
import re
import shutil
import subprocess
import time
from pathlib import Path

POLL_S = 1.0
PATIENCE_S = 300.0
_log = logging.getLogger(__name__)


def options(folder: Path, partition: str | None = None, account: str | None = None) -> list[str]:
    """Return Snakemake's options for a cluster.

    Args:
        folder: the study's, on a file system that all nodes see.
        partition: that jobs go to; the cluster's default where None.
        account: that jobs are charged to; the user's default where None.
    """
    arguments = ["--executor", "slurm", "--slurm-jobname-prefix", prefix(folder), "--slurm-requeue"]
    arguments += ["--slurm-logdir", str(folder / "logs" / "slurm")]
    chosen = {"slurm_partition": partition, "slurm_account": account}
    if any(chosen.values()):
        # Snakemake evaluates what is not quoted: 2024-12 would be another account
        arguments += ["--default-resources", *(f"{name}={value!r}" for name, value in chosen.items() if value)]
    if not has_accounting():
        arguments += ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "5"]
    return arguments


def prefix(folder: Path) -> str:
    """Return the prefix of the names of a study's jobs, the same for every run in its folder."""
    return f"unetr_{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]}"


def has_accounting() -> bool:
    """Return whether the cluster keeps accounts, so that ``sacct`` knows of jobs that have ended."""
    answer = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=False)
    return answer.returncode == 0 and "accounting_storage/slurmdbd" in answer.stdout  # without: none, or (null)


def longest_minutes(partition: str | None = None) -> int | None:
    """Return the time limit of a partition, or of the cluster's default one, in minutes; None for no limit.

    Raises:
        ValueError: there is no Slurm here, or no such partition.
    """
    if shutil.which("sbatch") is None:
        raise ValueError("--executor slurm: no sbatch on this machine; run this on a login node of the cluster")
    answer = subprocess.run(["sinfo", "-h", "-o", "%P %l"], capture_output=True, text=True, check=False)
    rows = [line.split() for line in answer.stdout.splitlines()]
    limits = {name.rstrip("*"): limit for name, limit in rows}
    if partition is None:
        partition = next((name.rstrip("*") for name, _ in rows if name.endswith("*")), None)
    elif partition not in limits:
        raise ValueError(f"--partition {partition}: this cluster has {', '.join(limits)}")
    limit = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limits[partition] if partition else "")
    if limit is None:  # infinite
        return None
    days, hours, minutes, _ = (int(part or 0) for part in limit.groups())
    return (days * 24 + hours) * 60 + minutes


def jobs_of(folder: Path) -> list[str]:
    """Return the numbers of a study's jobs that wait or run."""
    answer = subprocess.run(["squeue", "--me", "-h", "-o", "%i %j"], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise RuntimeError(f"squeue does not answer: {answer.stderr.strip()}")
    pairs = [line.split(maxsplit=1) for line in answer.stdout.splitlines()]
    return [pair[0] for pair in pairs if len(pair) == 2 and pair[1].startswith(prefix(folder))]


def cancel_jobs_of(folder: Path) -> None:
    """Cancel the jobs that an earlier run, killed together with its machine, has left, and wait until they end.

    Snakemake would submit the same steps beside them.

    Raises:
        RuntimeError: they do not end.
    """
    until = time.monotonic() + PATIENCE_S
    while left := jobs_of(folder):
        if time.monotonic() > until:
            raise RuntimeError(
                f"jobs {' '.join(left)} of an earlier run do not end: cancel them (scancel), start again"
            )
        _log.info("cancelling %d job(s) of an earlier run", len(left))
        subprocess.run(["scancel", "--signal=TERM", "--full", *left], check=False)
        subprocess.run(["scancel", *left], check=False)
        time.sleep(POLL_S)
