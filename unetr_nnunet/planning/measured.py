"""Memory of a training step, measured by running it: it checks the prediction."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import nn

from unetr_nnunet.planning.memory import GIB, UntraceableError, predict_memory
from unetr_nnunet.planning.training_step import TrainingStep

STEPS = 2
"""The second has the optimizer's state from its start."""

Update = Callable[[nn.Module, nn.Module, torch.optim.Optimizer, torch.Tensor, Any], object]
"""Changes a network's weights by one batch: network, loss, optimizer, images (B, C, *S), targets."""


@dataclass(frozen=True)
class Training:
    """How the trainer runs its steps.

    Attributes:
        device: a CPU or CUDA device of this machine.
        autocast_dtype: of the network's arithmetic; None for float32.
        update: the trainer's own step, in that arithmetic.
        compiled: whether network and Dice loss go through ``torch.compile``, as nnU-Net's trainer has it on CUDA.
    """

    device: torch.device
    autocast_dtype: torch.dtype | None
    update: Update
    compiled: bool = False


@dataclass(frozen=True)
class Measurement:
    """Most bytes at one time.

    Attributes:
        allocated: given out by torch's allocator. Workspace of libraries is among them on CUDA; on a CPU the part that
            oneDNN has torch allocate, which depends on processor and threads.
        reserved: what the allocator took from the GPU, fragments and all; None on a CPU. The device's context comes
            on top.
    """

    allocated: int
    reserved: int | None


def measure_memory(step: TrainingStep, training: Training) -> Measurement:
    """Train for two steps on zeros, with cuDNN choosing its algorithms as in a training, and return the peak."""
    device = training.device
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        allocated, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
        with torch.backends.cudnn.flags(benchmark=True):
            _train(step, training)
        return Measurement(
            torch.cuda.max_memory_allocated(device) - allocated, torch.cuda.max_memory_reserved(device) - reserved
        )
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler reports its start and end on stderr
    with torch.autograd.profiler.profile(profile_memory=True, use_kineto=False) as profile:
        _train(step, training)
    events = profile.kineto_results.events()
    return Measurement(_peak([(event.start_ns(), event.nbytes()) for event in events if event.nbytes()]), None)


def _train(step: TrainingStep, training: Training) -> None:
    with training.device:
        network = step.build_network()
    loss = step.build_loss(compiled=training.compiled)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    data, target = step.make_batch(training.device)
    if training.compiled:
        network.compile()
    for _ in range(STEPS):
        training.update(network, loss, optimizer, data, target)


def _peak(events: list[tuple[int, int]]) -> int:
    """Return the largest sum of the allocations (time, bytes) up to any time; what is freed has negative bytes."""
    total = peak = 0
    for _, count in sorted(events):
        total += count
        peak = max(peak, total)
    return peak


def verify(step: TrainingStep, training: Training) -> tuple[int | None, Measurement]:
    """Return the predicted bytes of a training step, None if it cannot be traced, and those measured on this machine.

    Raises:
        ValueError: if the device has less memory free.
    """
    device = training.device
    try:
        predicted = predict_memory(step, device.type, training.autocast_dtype).peak
    except UntraceableError:
        return None, measure_memory(step, training)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if predicted > free:
        raise ValueError(
            f"--verify: the step is predicted to need {predicted / GIB:.1f} GiB on {device.type}, {free / GIB:.1f} "
            "GiB are free here: verify on a larger machine, or with a smaller --patch-size or --batch-size"
        )
    return predicted, measure_memory(step, training)
