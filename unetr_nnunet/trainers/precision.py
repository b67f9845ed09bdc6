"""Which arithmetic a device is fast in."""

import contextlib
from contextlib import AbstractContextManager

import torch


def cpu_has_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX); without it bfloat16 is slower."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)


def training_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast context for a training step: nnU-Net's on CUDA, bfloat16 on a CPU that has it, else none."""
    if device.type == "cuda":
        return torch.autocast("cuda")
    if device.type == "cpu" and cpu_has_bfloat16():
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return contextlib.nullcontext()
