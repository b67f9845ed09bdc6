import gc
import weakref
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from tests.inference.simulated_gpu import SimulatedGPU
from unetr_nnunet.inference.out_of_memory import is_out_of_memory, until_it_fits

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
GIB = 2**30
REPORTS = [
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
    "CUDA driver error: out of memory",
    "MPS backend out of memory (MPS allocated: 17.9 GB)",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "Unable to find a valid cuDNN algorithm to run convolution",
    "FIND was unable to find an engine to execute this computation",
    "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.",
]
WHEN_SHORT = [
    "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
]
OTHERS = [
    "CUDA error: an illegal memory access was encountered",
    "cuDNN error: CUDNN_STATUS_BAD_PARAM",
    "The size of tensor a (4) must match the size of tensor b (5) at non-singleton dimension 3",
    "Found no NVIDIA driver on your system",
]


@pytest.mark.parametrize("words", REPORTS)
@pytest.mark.parametrize("kind", [RuntimeError, getattr(torch, "AcceleratorError", RuntimeError)])
def test_reports_of_a_lack_of_memory(words, kind):
    assert is_out_of_memory(kind(words), GPU)


def test_what_numpy_and_torch_really_raise():
    """More than any process's address space, which is refused at once."""
    with pytest.raises(MemoryError) as lacking:
        np.zeros(2**59)
    assert is_out_of_memory(lacking.value, CPU)
    with pytest.raises(RuntimeError, match="allocate memory") as lacking:
        torch.zeros(2**45)
    assert is_out_of_memory(lacking.value, CPU)
    assert is_out_of_memory(torch.OutOfMemoryError("Allocation on device 0 would exceed allowed memory"), GPU)


@pytest.mark.parametrize("words", OTHERS)
def test_other_errors(words):
    assert not is_out_of_memory(RuntimeError(words), GPU)
    assert not is_out_of_memory(ValueError("out of memory"), GPU)


@pytest.mark.parametrize("words", WHEN_SHORT)
def test_ambiguous_errors_count_when_memory_is_short(words, monkeypatch):
    SimulatedGPU(monkeypatch, 24 * GIB, taken=24 * GIB - GIB // 2)
    assert is_out_of_memory(RuntimeError(words), GPU)
    assert not is_out_of_memory(RuntimeError(words), CPU)
    SimulatedGPU(monkeypatch, 24 * GIB)
    assert not is_out_of_memory(RuntimeError(words), GPU)


def test_a_device_that_no_longer_answers_is_not_out_of_memory(monkeypatch):
    def broken(device):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "mem_get_info", broken)
    assert not is_out_of_memory(RuntimeError(WHEN_SHORT[0]), GPU)


@dataclass(frozen=True)
class Need:
    """So many arrays at once."""

    arrays: int
    device: torch.device = GPU

    def smaller(self):
        return (Need(self.arrays - 1), f"working with {self.arrays - 1}") if self.arrays > 1 else None


def test_work_is_tried_with_less_and_less(caplog):
    tried = []

    def work(need):
        tried.append(need.arrays)
        if need.arrays == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        if need.arrays == 2:
            raise RuntimeError("GET was unable to find an engine to execute this computation\nmore")
        return "done"

    assert until_it_fits(work, Need(3)) == "done"
    assert tried == [3, 2, 1]
    assert caplog.messages == [
        "cuda:0 is out of memory: working with 2",
        "cuda:0 is probably out of memory (RuntimeError: GET was unable to find an engine to execute this "
        "computation): working with 1",
    ]


def test_a_failed_attempt_leaves_nothing_in_memory():
    made, alive = [], []

    def work(need):
        alive.append([each() for each in made if each() is not None])
        array = torch.zeros(5)
        made.append(weakref.ref(array))
        if need.arrays > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    gc.disable()
    try:
        until_it_fits(work, Need(3))
    finally:
        gc.enable()
    assert alive == [[], [], []]


@pytest.mark.parametrize(
    ("error", "arrays"),
    [(RuntimeError(OTHERS[0]), 3), (torch.OutOfMemoryError("CUDA out of memory"), 1), (KeyError("out of memory"), 3)],
)
def test_what_smaller_work_cannot_help_is_raised_at_once(error, arrays, caplog):

    def work(need):
        raise error

    with pytest.raises(type(error)) as raised:
        until_it_fits(work, Need(arrays))
    assert raised.value is error
    assert caplog.messages == []
