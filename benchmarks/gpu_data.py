"""The data of `benchmarks.gpu`: phantoms to train on, planned and preprocessed, and a CT to predict."""

import json
import os
import shutil
import sys
import time

from benchmarks.gpu_stage import Stage, command, run_stage
from unetr_nnunet.experiments.demo import CONFIGURATION
from unetr_nnunet.experiments.steps import Step, run_steps

CASES = 6
"""For the five folds of nnU-Net."""


def make_data(stage: Stage) -> None:
    """Make, convert, plan and preprocess the phantoms, as a user would."""
    start = time.perf_counter()
    work, (patch, spacing) = stage.work, stage.sizes.training
    processes = "1" if stage.tiny else str(min(CASES, os.cpu_count() or 1))
    size = json.dumps({"patch_size": patch, "batch_size": 2, "spacing_mm": spacing})

    def step(name: str, *words: str) -> Step:
        return Step(name, name, command(*words))

    def phantom(folder: str, size: str, training: int, testing: int) -> tuple[str, ...]:
        counts = ("--training", str(training), "--testing", str(testing))
        return ("unetr_nnunet", "phantom", str(work / folder), "--size", size, *counts, "--workers", processes)

    steps = [
        [step("phantoms", *phantom("download", "demo", CASES, 0)), step("ct", *phantom("ct", stage.sizes.ct, 0, 1))],
        [step("convert", "unetr_nnunet", "convert", "btcv", str(work / "download" / "RawData"), "--overwrite")],
        [step("plan", "nnUNetv2_plan_and_preprocess", "-d", "17", "--no_pp", "-npfp", processes)],
        [Step("configure", "configure", (sys.executable, "-m", "unetr_nnunet.experiments.demo", str(work), size))],
        [step("preprocess", "nnUNetv2_preprocess", "-d", "17", "-c", CONFIGURATION, "-np", processes)],
    ]
    run_steps(steps, work, stage.environment)
    (ct,) = (work / "ct" / "RawData" / "Testing" / "img").glob("*.nii.gz")
    (work / "inputs").mkdir()
    shutil.move(ct, work / "inputs" / "case_0000.nii.gz")
    stage.report({"training cases": CASES, "predicted CT": stage.sizes.ct, "seconds": time.perf_counter() - start})


if __name__ == "__main__":
    sys.exit(run_stage(make_data))
