"""Choose the arithmetic of a device: the fastest that is accurate enough."""

import os
from contextlib import AbstractContextManager, nullcontext

import torch

PRECISION_VARIABLE = "UNETR_NNUNET_PRECISION"
PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def cpu_has_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX); without it bfloat16 is slower."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)


def training_dtype(device: torch.device) -> tuple[torch.dtype | None, str]:
    """Choose the arithmetic of a training on this device, from the environment variable ``UNETR_NNUNET_PRECISION``.

    On CUDA it is float16, as in nnU-Net, or bfloat16 where the variable asks for it and the GPU has it. Elsewhere it is
    float32. Not bfloat16 on a CPU, fast as it would be: the weight gradient of its 3-D convolutions is wrong for maps
    with two slices, and memory beyond it is overwritten (torch 2.15, AVX512-BF16; its forward pass is right).

    Args:
        device: where the network is trained.

    Returns:
        The type for `training_autocast`, None for float32, and a line about it for the log.

    Raises:
        ValueError: the variable holds something else.
    """
    name = os.environ.get(PRECISION_VARIABLE, "float16")
    if name not in PRECISIONS:
        raise ValueError(
            f"{PRECISION_VARIABLE}={name!r} is not a precision; set it to {' or '.join(PRECISIONS)}, or unset it"
        )
    if device.type != "cuda":
        ignored = f"; {PRECISION_VARIABLE} is for CUDA" if PRECISION_VARIABLE in os.environ else ""
        return None, f"Training in float32 on {device.type}{ignored}."
    if name == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16, f"This GPU has no bfloat16, which {PRECISION_VARIABLE} asks for: training in float16."
    return PRECISIONS[name], f"Training in {name}, mixed with float32."


def training_autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Return the autocast context for a type that `training_dtype` chose; inside it, nnU-Net's own contexts keep it."""
    return torch.autocast(device.type, dtype) if dtype else nullcontext()
