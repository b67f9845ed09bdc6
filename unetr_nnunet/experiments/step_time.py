"""Estimate how long trainings take before their first epoch: run one training step of each network on this machine.

The trainers are nnU-Net's, with the plans of the study and a batch of noise; loading and augmenting data is not in it.
"""

import argparse
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unetr_nnunet.experiments.study import Model, Study, read_study, write_study

VALIDATION_SHARE = 1 / 3
"""Of a training step's time: the forward pass alone."""
WARM_UP_S = 10.0
MEMORY_SHARE = 0.8
"""Share of the free memory: a network that needs more is not measured."""
_log = logging.getLogger(__name__)


def training_seconds(study: Study, models: Sequence[Model], device: str, threads: int) -> dict[str, float]:
    """Return the seconds of one whole training of each model, by a step of it in a fresh process.

    Args:
        study: the study; its data set has to be planned.
        models: those to measure.
        device: "cuda" or "cpu".
        threads: processor cores of a training.

    Returns:
        By the model's identifier; one that could not be measured is missing, and a log line says why.
    """
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="study-") as folder:
        write_study(study, Path(folder) / "study.json")
        environment = {
            **os.environ,
            "nnUNet_results": folder,  # a trainer begins a log where it is made
            "nnUNet_compile": "f",
            "OMP_NUM_THREADS": str(threads),
        }
        for number, model in enumerate(models, 1):
            _log.info("measuring a training step: %s (%d of %d)", model.identifier, number, len(models))
            command = [sys.executable, "-m", __name__, str(Path(folder) / "study.json"), model.identifier, device]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
                _log.warning("  not measured: %s", reason)
            else:
                seconds[model.identifier] = float(done.stdout.splitlines()[-1])
    return seconds


def measure(study: Study, model: Model, device_name: str) -> float:
    """Return the seconds of a whole training of a model: its iterations times the step that was run."""
    import psutil
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    device = torch.device(device_name)
    if device.type == "cpu":
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        limit = int(psutil.Process().memory_info().vms + MEMORY_SHARE * psutil.virtual_memory().available)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))  # an error instead of a machine that swaps
    arguments = (str(study.dataset), model.configuration, 0, model.trainer, model.plans)
    trainer: Any = get_trainer_from_args(*arguments, device=device)
    trainer.initialize()
    trainer.network.train()
    batch = _batch(trainer)
    step_s = _timed(trainer, batch, device)
    if step_s < WARM_UP_S:
        step_s = _timed(trainer, batch, device)
    steps = trainer.num_iterations_per_epoch + VALIDATION_SHARE * trainer.num_val_iterations_per_epoch
    return float(step_s * steps * trainer.num_epochs)


def _batch(trainer: Any) -> dict[str, Any]:
    import torch

    patch, batch_size = trainer.configuration_manager.patch_size, trainer.configuration_manager.batch_size
    scales = trainer._get_deep_supervision_scales() or [[1] * len(patch)]
    sizes = [[round(length * part) for length, part in zip(patch, scale, strict=True)] for scale in scales]
    channels = len(trainer.label_manager.foreground_regions) if trainer.label_manager.has_regions else 1
    target = [torch.zeros(batch_size, channels, *size, dtype=torch.int16) for size in sizes]
    data = torch.randn(batch_size, trainer.num_input_channels, *patch)
    return {"data": data, "target": target if trainer.enable_deep_supervision else target[0]}


def _timed(trainer: Any, batch: dict[str, Any], device: Any) -> float:
    import torch

    start = time.perf_counter()
    trainer.train_step(batch)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def main() -> int:
    """Measure one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("model")
    parser.add_argument("device")
    arguments = parser.parse_args()
    study = read_study(arguments.study)
    sys.stdout.write(f"\n{measure(study, study.model(arguments.model), arguments.device)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
