"""The accuracy study, as a stage of `benchmarks.gpu`: its steps one after the other, without Snakemake.

What is done is kept in the study's folder, under the marks of `unetr_nnunet crossval`; the next run continues. Each
step gets the time that is left. A training that is stopped saves its state, and goes on in the next run.
"""

import json
import os
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.gpu_stage import ROOT, Stage, run_stage, stop
from unetr_nnunet.experiments.crossval import write_inputs
from unetr_nnunet.experiments.settings import Settings
from unetr_nnunet.experiments.study import Model, Study
from unetr_nnunet.experiments.study_file import read_study_file
from unetr_nnunet.experiments.study_status import BEFORE, read_status
from unetr_nnunet.nnunet.summary import FILE_NAME

STUDY = ROOT / "studies" / "openkbp_gpu.toml"
LEAST_SECONDS = 10
"""Time under which no further step is started."""
SAVING_S = 30
"""For a training that is stopped."""
DONE, STOPPED, NOT_BEGUN = "done", "stopped; the next run continues", "not begun in the time left"


def run_study(stage: Stage) -> None:
    """Run the steps up to the trainings, then each training, and report each with the Dice of its validation cases."""
    if stage.download is None or not stage.download.exists():
        stage.report({"step": "all", "result": f"{stage.download} is not there"})
        return
    study, cores = read_study_file(STUDY), os.cpu_count() or 1
    settings = Settings(
        "local", stage.device, int(stage.on_gpu), 1, cores, cores, 1, False, download=str(stage.download)
    )
    write_inputs(study, settings, stage.work)
    for name in BEFORE:
        start = time.perf_counter()
        result, missed = run_step(stage, stage.work / "done" / name, name)
        stage.report({"step": name, "seconds": time.perf_counter() - start, "result": result}, missed)
        if result != DONE:
            return
    for model, fold in product(study.models, study.folds):
        start = time.perf_counter()
        mark = stage.work / "done" / "train" / model.identifier / f"fold_{fold}"
        result, missed = run_step(stage, mark, "train", "--model", model.identifier, "--fold", str(fold))
        figures = {"step": f"train {model.trainer}, fold {fold}", "seconds": time.perf_counter() - start}
        stage.report({**figures, "result": result, **_so_far(stage, study, model, fold)}, missed)


def run_step(stage: Stage, mark: Path, *words: str) -> tuple[str, str]:
    """Run a step in the time that is left, unless it is done; return its result, and what went wrong.

    Args:
        stage: whose time it is.
        mark: file that says that the step is done.
        words: its name and options.
    """
    if mark.is_file():
        return DONE, ""
    seconds = stage.seconds_left
    if seconds < LEAST_SECONDS:
        return NOT_BEGUN, ""
    name, *options = words
    command = [sys.executable, "-m", "unetr_nnunet.experiments.steps", name, str(stage.work), *options]
    process = subprocess.Popen([*command, "--threads", str(os.cpu_count() or 1)], env=stage.environment)
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        stop(process, SAVING_S)
        return STOPPED, ""
    if code:
        return "failed", f"exit code {code}, see gpu.log"
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    return DONE, ""


def _so_far(stage: Stage, study: Study, model: Model, fold: int) -> dict[str, Any]:
    """Return how far a training is, and its mean Dice as nnU-Net has it, over organs, once it is validated."""
    results = next((stage.work / "nnUNet_results").glob(f"Dataset{study.dataset:03d}_*"), None)
    trainings = read_status(study, stage.work, results).trainings
    training = next(each for each in trainings if (each.model, each.fold) == (model, fold))
    figures: dict[str, Any] = {"epochs": f"{training.epochs} of {training.planned_epochs}"}
    if results and training.done:
        summary = results / model.identifier / f"fold_{fold}" / "validation" / FILE_NAME
        figures["mean Dice"] = json.loads(summary.read_text(encoding="utf-8"))["foreground_mean"]["Dice"]
    return figures


if __name__ == "__main__":
    sys.exit(run_stage(run_study))
