"""Which arithmetic a device is fast and right in."""

from contextlib import AbstractContextManager

import torch


def cpu_has_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX); without it bfloat16 is slower."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)


def training_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast context for a training step: nnU-Net's, mixed precision on CUDA and float32 elsewhere.

    Not bfloat16 on a CPU, fast as it would be: the weight gradient of its 3-D convolutions is wrong for maps with two
    slices, and memory beyond it is overwritten (torch 2.15, AVX512-BF16; its forward pass is right).
    """
    return torch.autocast(device.type, enabled=device.type == "cuda")
