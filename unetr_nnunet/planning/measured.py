"""Memory of a training step, measured by running it: the check of the prediction."""

import os

import psutil
import torch

from unetr_nnunet.planning.memory import predict_memory
from unetr_nnunet.planning.training_step import TrainingStep, forward_and_loss

STEPS = 2
"""The second has the optimizer's state from its start."""


def measure_memory(step: TrainingStep, device: torch.device, autocast_dtype: torch.dtype | None) -> int:
    """Train for two steps on zeros and return the most bytes that torch's allocator had given out at one time.

    On CUDA the workspace of libraries is among them, the context of the device and unused cached blocks are not. On a
    CPU the libraries' own workspace is not among them either.

    Args:
        step: what is trained.
        device: a CPU or CUDA device of this machine.
        autocast_dtype: of the network's arithmetic; None for float32.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        _train(step, device, autocast_dtype)
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler reports its start and end on stderr
    with torch.autograd.profiler.profile(profile_memory=True, use_kineto=False) as profile:
        _train(step, device, autocast_dtype)
    return _peak([(event.start_ns(), event.nbytes()) for event in profile.kineto_results.events() if event.nbytes()])


def _train(step: TrainingStep, device: torch.device, autocast_dtype: torch.dtype | None) -> None:
    with device:
        network = step.build_network()
    loss = step.build_loss(network)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    data, target = step.make_batch(network, device)
    for _ in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        output = forward_and_loss(network, loss, data, target, autocast_dtype)
        output[1].backward()
        optimizer.step()
        del output


def _peak(events: list[tuple[int, int]]) -> int:
    """Return the largest sum of the allocations (time, bytes) up to any time; what is freed has negative bytes."""
    total = peak = 0
    for _, count in sorted(events):
        total += count
        peak = max(peak, total)
    return peak


def verify(step: TrainingStep, device: torch.device, autocast_dtype: torch.dtype | None) -> tuple[int, int]:
    """Return the predicted and the measured bytes of a training step on a device of this machine.

    Raises:
        ValueError: if the device has not that much memory free.
    """
    predicted = predict_memory(step, device.type, autocast_dtype).peak
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if predicted > free:
        raise ValueError(
            f"--verify: the step is predicted to need {predicted / 2**30:.1f} GiB on {device.type}, {free / 2**30:.1f} "
            "GiB are free here: verify on a larger machine, or with a smaller --patch-size or --batch-size"
        )
    return predicted, measure_memory(step, device, autocast_dtype)
