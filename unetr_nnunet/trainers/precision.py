"""Choose the arithmetic of a device: the fastest that is accurate enough."""

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn import functional
from torch.nn.modules.utils import _triple
from torch.overrides import TorchFunctionMode

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


def validation_arithmetic(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Return the context in which whole cases are predicted: that of `training_autocast`, or `OneDNNConvolutions`."""
    return OneDNNConvolutions() if device.type == "cpu" and dtype is None else training_autocast(device, dtype)


class OneDNNConvolutions(TorchFunctionMode):
    """Inside this context oneDNN computes the 3-D convolutions of float32 on a CPU without gradients, as for batches.

    PyTorch leaves some of them to its older code, which is up to eight times slower: those of a single image with few
    channels and voxels (``ConvParams::use_mkldnn`` in ATen's ``Convolution.cpp``). Such are the windows that nnU-Net's
    predictor gives to a small network, one by one. The results differ by rounding.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of PyTorch, or oneDNN in its place."""
        return (_conv3d if func is functional.conv3d else func)(*args, **(kwargs or {}))


def _conv3d(
    image: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> torch.Tensor:
    """Compute what `torch.nn.functional.conv3d` does, in oneDNN where it has the same arithmetic."""
    suits = (
        image.device.type == "cpu"
        and image.dtype == weight.dtype == torch.float32
        and image.ndim == 5
        and not isinstance(padding, str)
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
    )
    if not suits:
        return functional.conv3d(image, weight, bias, stride, padding, dilation, groups)
    return torch.mkldnn_convolution(image, weight, bias, _triple(padding), _triple(stride), _triple(dilation), groups)
