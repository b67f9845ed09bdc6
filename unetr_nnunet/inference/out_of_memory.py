"""Tell a lack of memory from other errors, and try again with less."""

import logging
from collections.abc import Callable
from typing import Protocol, Self, TypeVar

import torch

from unetr_nnunet.nnunet.checkpoint import in_brief

logger = logging.getLogger(__name__)

SHORT_BYTES = 2**30
"""If less than this is free on the GPU, a CUDA library that fails without a reason is taken to lack memory."""

_SURE = (
    "out of memory",
    "alloc_failed",
    "allocation_failed",
    "can't allocate memory",
    "not enough memory",
    "bad_alloc",
)
_PROBABLE = ("unable to find a valid cudnn algorithm", "unable to find an engine")
"""PyTorch tries cuDNN's algorithms in turn, and passes over those whose workspace does not fit."""
_WHEN_SHORT = (
    "cudnn_status_not_initialized",
    "cudnn_status_internal_error",
    "cublas_status_not_initialized",
)
"""cuDNN and cuBLAS allocate memory of their own; these errors can mean that they failed to, or something else."""

Result = TypeVar("Result")


def is_out_of_memory(error: BaseException, device: torch.device) -> bool:
    """Return whether an error means that memory was short, on a GPU or on the CPU.

    PyTorch reports a lack of memory in CUDA, cuDNN, cuBLAS or its own CPU allocator not only as
    `torch.OutOfMemoryError`, but also as a `RuntimeError` that only its text tells from others.

    Args:
        error: what was raised.
        device: where the work was being done.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    text = str(error).lower()
    if any(words in text for words in (*_SURE, *_PROBABLE)):
        return True
    return any(words in text for words in _WHEN_SHORT) and _is_short(device)


def _is_short(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    try:
        return torch.cuda.mem_get_info(device)[0] < SHORT_BYTES
    except (RuntimeError, AssertionError):  # the device no longer answers: a defect, not a lack of memory
        return False


class Attempt(Protocol):
    """A way to do some work that takes a certain amount of memory."""

    @property
    def device(self) -> torch.device:
        """Where the work is done."""

    def smaller(self) -> tuple[Self, str] | None:
        """Return a way that takes less memory, and its description; None if nothing is left to try."""


Way = TypeVar("Way", bound=Attempt)


def until_it_fits(work: Callable[[Way], Result], way: Way) -> Result:
    """Do some work; each time memory runs out, log it and try a way that needs less.

    Args:
        work: does the work in a given way, from the start.
        way: the first to try.

    Raises:
        RuntimeError: from ``work``, if it has another reason, or if there is no way that needs less.
        MemoryError: from ``work``, if there is no way that needs less.
    """
    while True:
        try:
            return work(way)
        except (RuntimeError, MemoryError) as error:
            fall_back = way.smaller() if is_out_of_memory(error, way.device) else None
            if fall_back is None:
                raise
            cause = _cause(error)
        # Only now, outside the handler, has the failed attempt let go of its arrays.
        logger.warning("%s is %s: %s", way.device, cause, fall_back[1])
        way = fall_back[0]
        torch.cuda.empty_cache()


def _cause(error: Exception) -> str:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "out of memory"
    sure = any(words in str(error).lower() for words in _SURE)
    return f"{'out of memory' if sure else 'probably out of memory'} ({in_brief(error)})"
