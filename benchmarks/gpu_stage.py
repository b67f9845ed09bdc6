"""What the stages of `benchmarks.gpu` share: settings, results, and nnU-Net's commands as a checkout can run them."""

import argparse
import contextlib
import json
import os
import subprocess
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import torch

from unetr_nnunet.nnunet_hook.commands import without_script
from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, FOLDERS, trainer_folder

ROOT = Path(__file__).resolve().parents[1]
NOT_ON_A_CPU = "not on a CPU"
DATASET, CONFIGURATION = "Dataset017_BTCV", "gpu"
GIB = 2**30
EPOCHS = 3
Patch = tuple[tuple[int, ...], tuple[float, ...]]
"""Voxels and spacing in mm per axis, (z, y, x)."""


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
        network: size of the networks, as in `unetr_nnunet.architectures.presets.SIZES`.
        patches: of single training steps.
        training: patch that is trained and predicted with.
        epoch_steps: iterations of an epoch.
        ct: size of the predicted phantom.
    """

    network: str
    patches: tuple[Patch, ...]
    training: Patch
    epoch_steps: int
    ct: str


FULL = Sizes(
    "base",
    (((96, 96, 96), (1.5, 1.5, 1.5)), ((48, 192, 192), (3.0, 0.76, 0.76))),
    ((96, 96, 96), (1.5, 1.5, 1.5)),
    20,
    "full",
)
TINY = Sizes(
    "Tiny",
    (((32, 32, 32), (1.5, 1.5, 1.5)), ((16, 48, 48), (3.0, 0.76, 0.76))),
    ((32, 32, 32), (10.0, 10.0, 10.0)),
    4,
    "demo",
)


@dataclass(frozen=True)
class Result:
    """One line of the table.

    Attributes:
        stage: where it belongs.
        figures: column → what was measured, or words.
        missed: which bound was missed, or what failed; nothing where all is well.
    """

    stage: str
    figures: dict[str, Any] = field(default_factory=dict)
    missed: str = ""


def append(path: Path, result: Result) -> None:
    """Add a result to a file of JSON lines, at once."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(result)) + "\n")


def read(path: Path) -> list[Result]:
    """Return the results in a file; a line that is still being written is left for the next time."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    return [Result(**json.loads(line)) for line in lines if line.endswith("\n")]


@dataclass(frozen=True)
class Stage:
    """What a stage knows.

    Attributes:
        name: of the stage.
        device: "cuda" or "cpu".
        tiny: whether only the script itself is tried.
        work: folder for all files.
        results: file of JSON lines.
        ends: when it will be stopped, on the clock of ``time.monotonic``.
        download: of the accuracy study; no other stage has one.
    """

    name: str
    device: str
    tiny: bool
    work: Path
    results: Path
    ends: float
    download: Path | None = None

    @property
    def sizes(self) -> Sizes:
        """How large everything is."""
        return TINY if self.tiny else FULL

    @property
    def on_gpu(self) -> bool:
        """Whether there is a GPU to measure."""
        return self.device == "cuda"

    @property
    def seconds_left(self) -> float:
        """Time until this stage is stopped."""
        return self.ends - time.monotonic()

    @property
    def trainer(self) -> str:
        """Name of the trainer that is trained and predicted with."""
        return f"nnUNetTrainerUNETR_Modified{'_Tiny' if self.tiny else ''}_{EPOCHS}epochs"

    @property
    def model(self) -> Path:
        """Folder of the trained model."""
        return self.work / "nnUNet_results" / DATASET / f"{self.trainer}__nnUNetPlans__{CONFIGURATION}"

    @property
    def preprocessed(self) -> Path:
        """Folder of the planned and preprocessed data set."""
        return self.work / "nnUNet_preprocessed" / DATASET

    @cached_property
    def environment(self) -> dict[str, str]:
        """Variables under which nnU-Net's commands work here, whether or not anything is installed."""
        trainers = os.pathsep.join([str(self.work / "trainers"), str(trainer_folder())])
        python_path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        folders = {name: str(self.work / name) for name in FOLDERS}
        few = {"nnUNet_n_proc_DA": "1", "OMP_NUM_THREADS": "1"} if self.tiny else {}
        return {**os.environ, **folders, EXTERNAL_TRAINERS: trainers, "PYTHONPATH": python_path, **few}

    def report(self, figures: Mapping[str, Any], missed: str = "") -> None:
        """Write a result."""
        append(self.results, Result(self.name, dict(figures), missed))


def command(name: str, *words: str) -> list[str]:
    """Return a console command that does without its script, which a checkout that is not installed has not."""
    return list(without_script(name, *words))


def stop(process: "subprocess.Popen[bytes]", saving_s: float = 0.0) -> None:
    """End a process and all that it has started.

    Args:
        process: what to end.
        saving_s: time that it gets to save its state, before it is killed.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(process.pid)
        tree = [*root.children(recursive=True), root]
        if saving_s:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(saving_s)
        for each in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    process.wait()


class GpuMemory:
    """Bytes that others take on the GPU beyond what it held when this was made."""

    def __init__(self) -> None:
        self.before = torch.cuda.mem_get_info()[0]
        self.peak = 0

    def look(self) -> None:
        """Take a sample."""
        self.peak = max(self.peak, self.before - torch.cuda.mem_get_info()[0])


def main_memory(process: psutil.Process) -> int:
    """Return the bytes that a process and its descendants hold, 0 where it has ended."""
    total = 0
    try:
        for each in (process, *process.children(recursive=True)):
            total += each.memory_info().rss
    except psutil.Error:  # one of them has just ended
        pass
    return total


def run_stage(main: Callable[[Stage], None], words: Sequence[str] | None = None) -> int:
    """Run a stage's main function with the settings in the command line; a failure becomes a result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--ends", type=float, required=True)
    parser.add_argument("--download", type=Path)
    stage = Stage(**vars(parser.parse_args(words)))
    try:
        main(stage)
    except Exception as error:
        traceback.print_exc()
        stage.report({}, f"{type(error).__name__}: {error}")
        return 1
    return 0
