"""The data of `benchmarks.gpu`: phantoms to train on, planned and preprocessed, and a CT to predict."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu_stage import CONFIGURATION, Stage, command, run_stage

CASES = 6
"""For the five folds of nnU-Net."""


def make_data(stage: Stage) -> None:
    """Make, convert, plan and preprocess the phantoms, as a user would."""
    start = time.perf_counter()
    work = stage.work
    processes = "1" if stage.tiny else str(min(CASES, os.cpu_count() or 1))

    def run(*words: str) -> None:
        subprocess.run(command(*words), check=True, env=stage.environment)

    words = ("phantom", str(work / "ct"), "--size", stage.sizes.ct, "--training", "0", "--testing", "1")
    large = subprocess.Popen(command("unetr_nnunet", *words), env=stage.environment)  # takes as long as all the rest
    words = ("phantom", str(work / "download"), "--size", "demo", "--training", str(CASES), "--testing", "0")
    run("unetr_nnunet", *words, "--workers", processes)
    run("unetr_nnunet", "convert", "btcv", str(work / "download" / "RawData"), "--overwrite")
    run("nnUNetv2_plan_and_preprocess", "-d", "17", "--no_pp", "-npfp", processes)
    add_configuration(stage.preprocessed / "nnUNetPlans.json", *stage.sizes.training)
    run("nnUNetv2_preprocess", "-d", "17", "-c", CONFIGURATION, "-np", processes)
    if large.wait():
        raise RuntimeError(f"the phantom to predict failed with exit code {large.returncode}")
    (ct,) = (work / "ct" / "RawData" / "Testing" / "img").glob("*.nii.gz")
    (work / "inputs").mkdir()
    shutil.move(ct, work / "inputs" / "case_0000.nii.gz")
    stage.report({"training cases": CASES, "predicted CT": stage.sizes.ct, "seconds": time.perf_counter() - start})


def add_configuration(plans_file: Path, patch_size: tuple[int, ...], spacing_mm: tuple[float, ...]) -> None:
    """Add the configuration that is trained and predicted with to a plans file of nnU-Net's.

    Args:
        plans_file: ``nnUNetPlans.json``.
        patch_size: voxels per axis, (z, y, x).
        spacing_mm: voxel spacing, (z, y, x).
    """
    plans = json.loads(plans_file.read_text(encoding="utf-8"))
    plans["configurations"][CONFIGURATION] = {
        "inherits_from": "3d_fullres",
        "data_identifier": f"nnUNetPlans_{CONFIGURATION}",
        "patch_size": list(patch_size),
        "batch_size": 2,
        "batch_dice": True,  # a small patch lacks most organs, and their Dice alone says nothing
        "spacing": list(spacing_mm),
    }
    plans_file.write_text(json.dumps(plans, indent=4), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(run_stage(make_data))
