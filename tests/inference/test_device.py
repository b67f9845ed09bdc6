import contextlib
import threading

import pytest
import torch

from unetr_nnunet.inference import device as module
from unetr_nnunet.inference.device import fastest_convolutions, to_device

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _flag(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)


def test_on_the_same_device_nothing_is_copied():
    values = torch.zeros(3)
    assert to_device(values, CPU) is values


@pytest.mark.parametrize("pinned_bytes", [2**26, 8, 1])
@pytest.mark.parametrize("is_refused", [False, True])
def test_a_copy_to_a_gpu_goes_through_page_locked_parts(monkeypatch, pinned_bytes, is_refused):
    """The GPU is the CPU here; the parts and their order are the same."""
    pinned, real = [], torch.empty

    def pin(values):
        pinned.append(values.nbytes)
        if is_refused:
            raise RuntimeError("CUDA error: out of memory")
        return values.clone()

    monkeypatch.setattr(module, "PINNED_BYTES", pinned_bytes)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch, "empty", lambda *words, device, **named: real(*words, **named))
    values = torch.arange(24.0).view(2, 3, 4).transpose(0, 1)
    copy = to_device(values, GPU)
    assert copy is not values
    torch.testing.assert_close(copy, values, rtol=0, atol=0)
    assert sum(pinned) == values.nbytes
    assert max(pinned) <= max(4, pinned_bytes)
    assert to_device(torch.zeros(0, 3), GPU).shape == (0, 3)


def test_another_error_of_page_locking_is_raised(monkeypatch):
    def pin(values):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    real = torch.empty
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch, "empty", lambda *words, device, **named: real(*words, **named))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        to_device(torch.zeros(3), GPU)


@pytest.mark.parametrize("before", [False, True])
def test_the_search_for_convolutions_is_on_inside_and_restored(before):
    torch.backends.cudnn.benchmark = before
    with fastest_convolutions(CPU):
        assert torch.backends.cudnn.benchmark is before
    with contextlib.suppress(KeyError), fastest_convolutions(GPU):
        assert torch.backends.cudnn.benchmark
        raise KeyError
    assert torch.backends.cudnn.benchmark is before


def test_the_first_of_two_threads_to_leave_does_not_turn_it_off():
    inside, leave, seen = threading.Barrier(2), threading.Event(), []

    def long():
        with fastest_convolutions(GPU):
            inside.wait(10)
            leave.wait(10)
            seen.append(torch.backends.cudnn.benchmark)

    thread = threading.Thread(target=long)
    thread.start()
    with fastest_convolutions(torch.device("cuda", 1)):
        inside.wait(10)
    leave.set()
    thread.join(10)
    assert seen == [True]
    assert not torch.backends.cudnn.benchmark
