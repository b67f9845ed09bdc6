"""Kill a running study again and again: does it end with the files of one that nobody has disturbed?

Every process of the study gets SIGKILL, as in a power cut; then the same command goes on. Each step is hit once, at a
random moment soon after it has begun, the others of the kills come at random times. At the end
plans, predictions, tables and the choice of the best model are compared with those of a study that ran through. Weights
are the same only where a training was not hit between two checkpoints; on a CPU, with a seed, all of them are.

    python -m benchmarks.study_kills WORK --kills 20        in the root of the repository
"""

import argparse
import datetime
import hashlib
import json
import math
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path

import nibabel
import numpy as np
import psutil

from tests.conftest import write_blob_dataset

RESULTS = Path(__file__).parent / "results" / "study_kills.md"
TRAINERS = ("nnUNetTrainerUNETR_Tiny_NoAug_1epochs_seed0", "nnUNetTrainerUNETR_Modified_Tiny_NoAug_1epochs_seed0")
STEPS = ("plan", "preprocess", "train", "candidates", "probabilities", "best", "report", "test")
LONGEST_S = 90.0
SOON_S = 3.0
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "UNETR_NNUNET_CHECKPOINT_MINUTES": "0.1"}


def start(root: Path) -> "subprocess.Popen[bytes]":
    """Start the study, or go on with it."""
    command = [str(Path(sys.executable).parent / "unetr_nnunet"), "crossval", "-d", "917", "-tr", *TRAINERS]
    command += ["--folds", "0", "--device", "cpu", "--cores", "1"]
    environment = {**os.environ, **ENVIRONMENT}
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        environment.pop(name, None)
    with (root / "out.log").open("ab") as stream:
        return subprocess.Popen(command, cwd=root, env=environment, stdout=stream, stderr=subprocess.STDOUT)


def kill_all(process: "subprocess.Popen[bytes]") -> None:
    """Send SIGKILL to a process and all its descendants."""
    everyone = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for each in everyone:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(everyone)
    process.wait()


def running_step(root: Path, since: float) -> str | None:
    """Return the step whose log was written last; None where none was since a time."""
    logs = [path for path in (root / "study" / "logs").rglob("*.log") if path.name != "snakemake.log"]
    newest = max(logs, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None or newest.stat().st_mtime < since:
        return None
    return newest.relative_to(root / "study" / "logs").parts[0].removesuffix(".log")


def kill_somewhere(
    process: "subprocess.Popen[bytes]", root: Path, hit: Collection[str], latest_s: float, soon_s: float
) -> str | None:
    """Kill a study after some time, or soon after the begin of a step not hit before.

    Returns:
        The step that was running; None if the study ended first.
    """
    started = time.time()
    end = started + latest_s
    new = None
    while process.poll() is None:
        step = running_step(root, started)
        if step and step not in hit and step != new:
            new, end = step, time.time() + soon_s
        if time.time() >= end:
            kill_all(process)
            return step or "start"
        time.sleep(0.05)
    return None


def fingerprint(root: Path) -> dict[str, str]:
    """Return what a study has left, by name: masks as voxels, JSON without paths and times, tables as they are."""
    found: dict[str, str] = {}
    for path in sorted([*(root / "study").rglob("*"), *(root / "nnUNet_data").rglob("*")]):
        name = str(path.relative_to(root))
        if path.name.endswith(".nii.gz") and ".snakemake" not in name:
            found[name] = hashlib.sha256(np.asanyarray(nibabel.load(path).dataobj).tobytes()).hexdigest()
        elif path.name in ("tables.md", "splits_final.json", "nnUNetPlans.json", "candidates.json"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name == "best_model.json":
            content = json.loads(path.read_text(encoding="utf-8"))
            found[name] = json.dumps([content["models"], content["dice"], content["postprocessing"]])
        elif path.name.startswith((".tmp-", "checkpoint_latest")):
            found[f"left over: {name}"] = ""
        elif path.name in ("checkpoint_final.pth", "report.html", "best_model.zip"):
            found[name] = "there"
    return found


def main() -> None:
    """Run one study undisturbed and one that is killed, compare, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    roots = [arguments.work.resolve() / name for name in ("undisturbed", "killed")]
    for root in (each for each in roots if not each.exists()):  # WORK can be given again
        write_blob_dataset(root / "nnUNet_data" / "nnUNet_raw")
    if start(roots[0]).wait():
        raise RuntimeError(f"the undisturbed study failed, see {roots[0] / 'out.log'}")
    chance = random.Random(arguments.seed)
    counts = arguments.work / "kills.json"
    hit: dict[str, int] = json.loads(counts.read_text()) if counts.exists() else {}
    while True:
        kills = sum(hit.values())
        process = start(roots[1])
        spare = arguments.kills - kills - sum(step not in hit for step in STEPS)
        latest_s = chance.uniform(10, LONGEST_S) if spare > 0 else math.inf
        if kills < arguments.kills and (
            step := kill_somewhere(process, roots[1], hit, latest_s, chance.uniform(0, SOON_S))
        ):
            hit[step] = hit.get(step, 0) + 1
            counts.write_text(json.dumps(hit))
            print(f"kill {kills + 1} in {step}", flush=True)
        elif process.wait():
            raise RuntimeError(f"the study failed after {kills} kills, see {roots[1] / 'out.log'}")
        else:
            break
    expected, found = (fingerprint(root) for root in roots)
    different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    lines = [
        "# A study that is killed again and again",
        "",
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, nnunetv2 {version('nnunetv2')}, snakemake {version('snakemake')}, torch "
        f"{version('torch')}. By `benchmarks/study_kills.py`.",
        "",
        f"Two models, one fold, balls of 16 x 32 x 32 voxels. SIGKILL to every process, {kills} times: in each step "
        f"once within {SOON_S:.0f} s of its begin, else between 10 and {LONGEST_S:.0f} s after the start.",
        "",
        "| step that was running | kills |",
        "|---|---|",
        *(f"| {step} | {count} |" for step, count in sorted(hit.items())),
        "",
        f"Files compared: {len(expected)} (masks voxel by voxel, plans, splits, tables, the choice of the best model).",
        f"Different: {len(different)}." + "".join(f" `{name}`." for name in different),
    ]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
