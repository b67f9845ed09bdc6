"""What differs between a GPU and a CPU: how data get there, and how convolutions are chosen."""

import contextlib
import threading
from collections.abc import Iterator

import torch

from unetr_nnunet.inference.out_of_memory import is_out_of_memory

PINNED_BYTES = 2**26
"""Page-locked memory that a transfer uses at a time; PyTorch keeps it for the next."""

_lock = threading.Lock()
_flags_before: list[bool] = []


def to_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor to a device; on its own device it is returned as it is.

    From the CPU to a GPU it goes through page-locked memory, a part at a time, so that the caller need not wait until
    the GPU gets to the copy.

    Args:
        values: of any shape.
        device: where to.
    """
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    result = torch.empty(values.shape, dtype=values.dtype, device=device)
    flat, target = values.reshape(-1), result.view(-1)
    step = max(1, PINNED_BYTES // values.itemsize)
    for start in range(0, flat.numel(), step):
        target[start : start + step].copy_(_pinned(flat[start : start + step]), non_blocking=True)
    return result


def _pinned(values: torch.Tensor) -> torch.Tensor:
    """Return a page-locked copy, or the values themselves where no more memory may be locked."""
    try:
        return values.pin_memory()
    except RuntimeError as error:
        if is_out_of_memory(error, values.device):
            return values
        raise


@contextlib.contextmanager
def fastest_convolutions(device: torch.device) -> Iterator[None]:
    """Let cuDNN time its algorithms for each new shape and keep the fastest; without CUDA, do nothing.

    The setting is the whole process's, and there may be a thread for each GPU: the last to leave restores it.
    """
    if device.type != "cuda":
        yield
        return
    with _lock:
        _flags_before.append(torch.backends.cudnn.benchmark)
        torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        with _lock:
            before = _flags_before.pop()
            if not _flags_before:
                torch.backends.cudnn.benchmark = before
