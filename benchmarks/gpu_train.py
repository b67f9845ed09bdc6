"""A training through nnU-Net's own command, killed and continued, as a stage of `benchmarks.gpu`.

Stock ``nnUNetv2_train`` with nnU-Net's augmentation in worker processes. The trainer is ours, with shorter epochs, and
notes for each iteration when it had its batch and when the GPU was done with it.
"""

import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_stage import CONFIGURATION, EPOCHS, NOT_ON_A_CPU, Stage, command, run_stage
from unetr_nnunet.trainers.resumable import EXIT_CODE_SIGTERM

NOTES_VARIABLE = "GPU_BENCHMARK_NOTES"
EPOCH = 250, 50
"""Training and validation iterations of nnU-Net's epoch."""
WAITS = 0.1
"""Share of the time that is waited for data, from which on the data are what limits a training."""
VALIDATION_STEPS = 5
TRAINER = '''
"""{name}, with short epochs, noting when each iteration had its batch and when it was done."""

import json
import os
import time

import torch

from unetr_nnunet.trainers.factory import trainer_class


class {name}(trainer_class("{name}")):
    def configure(self):
        super().configure()
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = {steps}, {validation}

    def train_step(self, batch):
        return self.noted("train", super().train_step, batch)

    def validation_step(self, batch):
        return self.noted("validate", super().validation_step, batch)

    def noted(self, kind, step, batch):
        begin, iteration = time.time(), self.iteration
        try:
            return step(batch)
        finally:  # also where SIGTERM ends the training after this step
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            note = {{"kind": kind, "iteration": iteration, "begin": begin, "end": time.time(), "process": os.getpid()}}
            with open(os.environ["{variable}"], "a") as stream:
                stream.write(json.dumps(note) + "\\n")
'''


def train(stage: Stage) -> None:
    """Train, kill it within the second epoch, continue, and report what limits it."""
    steps = stage.sizes.epoch_steps
    source = TRAINER.format(
        name=stage.trainer, steps=steps, validation=VALIDATION_STEPS if stage.on_gpu else 1, variable=NOTES_VARIABLE
    )
    (stage.work / "trainers").mkdir(exist_ok=True)
    (stage.work / "trainers" / "noting_trainer.py").write_text(source, encoding="utf-8")
    notes = stage.work / "iterations.jsonl"
    first = _start(stage, notes)
    while len(_iterations(notes)) < steps + steps // 2 and first.poll() is None:
        time.sleep(0.05)
    if first.poll() is not None:
        raise RuntimeError(f"nnUNetv2_train ended with exit code {first.returncode}")
    first.send_signal(signal.SIGTERM)
    code = first.wait()
    killed_at = len(_iterations(notes))
    missed = "" if code == EXIT_CODE_SIGTERM else f"exit code {code} after SIGTERM, not {EXIT_CODE_SIGTERM}"
    stage.report({"training": "killed (SIGTERM)", "iterations": killed_at}, missed)
    busy = _Utilization(stage)
    second = _start(stage, notes, "--c")
    trained = _wait_for(stage, second, notes, EPOCHS * steps)
    gpu_busy = busy.stop(*trained) if trained else None
    ended = _end(stage, second)
    numbers = [note["iteration"] for note in _iterations(notes)]
    missed = ended
    if numbers != list(range(EPOCHS * steps)):
        missed = missed or f"the iterations are not 0 to {EPOCHS * steps - 1}, each once: {numbers}"
    stage.report({"training": "continued (--c)", "iterations": len(numbers) - killed_at}, missed)
    _report_speed(stage, notes, gpu_busy)


def _start(stage: Stage, notes: Path, *words: str) -> subprocess.Popen[bytes]:
    environment = {**stage.environment, NOTES_VARIABLE: str(notes)}
    train = command("nnUNetv2_train", "17", CONFIGURATION, "0", "-tr", stage.trainer, "-device", stage.device, *words)
    return subprocess.Popen(train, env=environment)


def _read(notes: Path) -> list[dict[str, Any]]:
    text = notes.read_text(encoding="utf-8") if notes.is_file() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _iterations(notes: Path) -> list[dict[str, Any]]:
    return [note for note in _read(notes) if note["kind"] == "train"]


def _wait_for(stage: Stage, process: subprocess.Popen[bytes], notes: Path, count: int) -> tuple[float, float] | None:
    """Wait for so many iterations; return begin and end of the steady ones."""
    while len(_iterations(notes)) < count and process.poll() is None and stage.seconds_left > 5:
        time.sleep(0.2)
    steady = _steady(stage, notes)
    return (steady[0]["begin"], steady[-1]["end"]) if steady else None


def _end(stage: Stage, process: subprocess.Popen[bytes]) -> str:
    """Let the command validate and end, while there is time; return what is wrong."""
    try:
        code = process.wait(max(1.0, stage.seconds_left - 5))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        final = stage.model / "fold_0" / "checkpoint_final.pth"
        return "" if final.is_file() else "not done in the stage's time"
    return f"nnUNetv2_train --c ended with exit code {code}" if code else ""


def _steady(stage: Stage, notes: Path) -> list[dict[str, Any]]:
    """Return the iterations of the last epoch, without its first, which waits for the epoch before to be saved."""
    return [note for note in _iterations(notes) if note["iteration"] > (EPOCHS - 1) * stage.sizes.epoch_steps]


def _report_speed(stage: Stage, notes: Path, gpu_busy: float | None) -> None:
    steady = _steady(stage, notes)
    if len(steady) < 2:
        stage.report({"training": "speed"}, "too few iterations to tell")
        return
    step = statistics.fmean(note["end"] - note["begin"] for note in steady)
    wait = statistics.fmean(max(0.0, after["begin"] - before["end"]) for before, after in pairwise(steady))
    validation = [note["end"] - note["begin"] for note in _read(notes) if note["kind"] == "validate"]
    share = wait / (wait + step)
    limit = f"the data: {share:.0%} of the time is waited for them" if share > WAITS else "the step itself"
    figures: dict[str, Any] = {
        "ms waiting for data": wait * 1000,
        "ms in the step": step * 1000,
        "GPU busy": NOT_ON_A_CPU,
        "s an epoch": NOT_ON_A_CPU,
        "limited by": NOT_ON_A_CPU,
        "workers": _workers(stage),
    }
    if stage.on_gpu:
        seconds = EPOCH[0] * (wait + step) + EPOCH[1] * statistics.median(validation)
        nvidia = "nvidia-smi has no figure" if gpu_busy is None else f"{gpu_busy:.0%} (nvidia-smi)"
        figures |= {"GPU busy": f"{1 - share:.0%} of the time in a step, {nvidia}", "s an epoch": seconds}
        figures["limited by"] = limit
    else:
        figures |= dict.fromkeys(("ms waiting for data", "ms in the step"), NOT_ON_A_CPU)
    stage.report({"training": f"speed, from {len(steady)} iterations", **figures})


def _workers(stage: Stage) -> int:
    if "nnUNet_n_proc_DA" in stage.environment:
        return int(stage.environment["nnUNet_n_proc_DA"])
    from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

    return int(get_allowed_n_proc_DA())


class _Utilization:
    """What nvidia-smi says of how busy the GPU is, sampled beside a command."""

    def __init__(self, stage: Stage) -> None:
        self.path = stage.work / "utilization.txt"
        self.process: subprocess.Popen[bytes] | None = None
        if not stage.on_gpu or not shutil.which("nvidia-smi"):
            return
        gpu = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
        query = ["--query-gpu=timestamp,utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
        with self.path.open("wb") as stream:
            self.process = subprocess.Popen(["nvidia-smi", "-i", gpu, *query], stdout=stream)

    def stop(self, begin: float, end: float) -> float | None:
        """Return the mean share of the time between two moments, None where nothing is known."""
        if self.process is None:
            return None
        self.process.terminate()
        self.process.wait()
        return mean_utilization(self.path.read_text(encoding="utf-8", errors="replace"), begin, end)


def mean_utilization(text: str, begin: float, end: float) -> float | None:
    """Return the mean share of the samples between two moments, in seconds since 1970; None if missing.

    Args:
        text: lines of local time and percent, as nvidia-smi writes them.
        begin: the first moment.
        end: the last.
    """
    samples = []
    for line in text.splitlines():
        match = re.fullmatch(r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d)(\.\d+), *(\d+)", line.strip())
        if match:
            when = time.mktime(time.strptime(match[1], "%Y/%m/%d %H:%M:%S")) + float(match[2])
            samples += [int(match[3])] if begin <= when <= end else []
    return statistics.fmean(samples) / 100 if samples else None


if __name__ == "__main__":
    sys.exit(run_stage(train))
