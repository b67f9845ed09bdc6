"""What a study's workflow says to Slurm, and what has to be done because Snakemake does not come back to its old jobs.

Options as of snakemake-executor-plugin-slurm 2.8. A cluster without accounting has no ``sacct``; ``squeue`` tells the
states there, else every job would be lost without a word.
"""

import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

POLL_S = 1.0
PATIENCE_S = 300.0


def options(folder: Path) -> list[str]:
    """Return Snakemake's options for a cluster.

    Args:
        folder: the study's, on a file system that all nodes see.

    Raises:
        ValueError: there is no Slurm here.
    """
    if shutil.which("sbatch") is None:
        raise ValueError("--executor slurm: there is no sbatch here; run this on a login node of the cluster")
    words = ["--executor", "slurm", "--slurm-jobname-prefix", prefix(folder), "--slurm-requeue"]
    words += ["--slurm-logdir", str(folder / "logs" / "slurm")]
    if not has_accounting():
        words += ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "5"]
    return words


def prefix(folder: Path) -> str:
    """Return how the names of a study's jobs begin: the same for each run in the same folder."""
    return f"unetr_{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]}"


def has_accounting() -> bool:
    """Return whether the cluster keeps accounts, so that ``sacct`` knows of jobs that have ended."""
    found = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=False)
    return found.returncode == 0 and "accounting_storage/slurmdbd" in found.stdout  # without: none, or (null)


def jobs_of(folder: Path) -> list[str]:
    """Return the numbers of a study's jobs that wait or run."""
    found = subprocess.run(["squeue", "--me", "-h", "-o", "%i %j"], capture_output=True, text=True, check=False)
    if found.returncode:
        raise RuntimeError(f"squeue does not answer: {found.stderr.strip()}")
    pairs = [line.split(maxsplit=1) for line in found.stdout.splitlines()]
    return [pair[0] for pair in pairs if len(pair) == 2 and pair[1].startswith(prefix(folder))]


def cancel_jobs_of(folder: Path) -> None:
    """Cancel what an earlier run, killed together with its machine, has left on the cluster, and wait for its end.

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
        sys.stderr.write(f"cancelling {len(left)} job(s) of an earlier run\n")
        subprocess.run(["scancel", "--signal=TERM", "--full", *left], check=False)
        subprocess.run(["scancel", *left], check=False)
        time.sleep(POLL_S)
