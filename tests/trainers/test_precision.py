from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from unetr_nnunet.architectures.conv_blocks import Convolution
from unetr_nnunet.trainers import precision
from unetr_nnunet.trainers.precision import (
    PRECISION_VARIABLE,
    OneDNNConvolutions,
    training_autocast,
    training_dtype,
    validation_arithmetic,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="reads the processor's flags from /proc/cpuinfo")
def test_a_cpu_has_bfloat16_where_the_processor_lists_it() -> None:
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert precision.cpu_has_bfloat16() == bool(flags & {"avx512_bf16", "amx_tile"})


@pytest.mark.parametrize("has", [True, False])
@pytest.mark.parametrize("check", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_either_kind_of_bfloat16_is_enough(monkeypatch: pytest.MonkeyPatch, check: str, has: bool) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: has and name == check, raising=False)
    assert precision.cpu_has_bfloat16() is has


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A GPU with or without bfloat16; emulated, every GPU has it."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or has)
    has: bool = request.param


@pytest.mark.parametrize(
    ("gpu", "asked", "expected", "words"),
    [
        (True, None, torch.float16, "in float16"),
        (True, "float16", torch.float16, "in float16"),
        (True, "bfloat16", torch.bfloat16, "in bfloat16"),
        (False, "bfloat16", torch.float16, f"no bfloat16, which {PRECISION_VARIABLE} asks for: training in float16"),
        (False, None, torch.float16, "in float16"),
    ],
    indirect=["gpu"],
)
@pytest.mark.usefixtures("gpu")
def test_a_gpu_trains_in_what_is_asked_for_and_what_it_has(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, expected: torch.dtype, words: str
) -> None:
    monkeypatch.delenv(PRECISION_VARIABLE, raising=False)
    if asked:
        monkeypatch.setenv(PRECISION_VARIABLE, asked)
    dtype, line = training_dtype(CUDA)
    assert dtype == expected
    assert words in line


@pytest.mark.parametrize("device", [CPU, CUDA])
@pytest.mark.parametrize("text", ["float32", "bf16", "BFLOAT16", ""])
def test_an_unknown_precision_is_refused(monkeypatch: pytest.MonkeyPatch, device: torch.device, text: str) -> None:
    monkeypatch.setenv(PRECISION_VARIABLE, text)
    with pytest.raises(ValueError, match=f"{PRECISION_VARIABLE}='{text}' is not .*float16 or bfloat16"):
        training_dtype(device)


def test_the_variable_does_not_reach_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PRECISION_VARIABLE, raising=False)
    assert training_dtype(CPU) == (None, "Training in float32 on cpu.")
    monkeypatch.setenv(PRECISION_VARIABLE, "bfloat16")
    assert training_dtype(CPU) == (None, f"Training in float32 on cpu; {PRECISION_VARIABLE} is for CUDA.")


def test_contexts_inside_keep_the_precision() -> None:
    """nnU-Net's validation opens an autocast context of its own, which names no type."""
    data = torch.ones(2, 2)
    with training_autocast(CPU, torch.float16), torch.autocast("cpu", enabled=True):
        assert (data @ data).dtype == torch.float16
    with torch.autocast("cpu", enabled=True):
        assert (data @ data).dtype == torch.bfloat16, "torch's own default on a CPU"
    with training_autocast(CPU, None):
        assert (data @ data).dtype == torch.float32


def test_on_a_cpu_a_step_is_in_float32() -> None:
    """In bfloat16 the weight gradient of a convolution over two slices is garbage on processors that multiply it."""
    weight = torch.ones(16, 16, 3, 3, 3, requires_grad=True)
    for _ in range(20):
        used_before = [torch.full((size,), torch.inf) for size in (500, 7000, 60_000, 300_000)]
        del used_before
        weight.grad = None
        dtype, _ = training_dtype(CPU)
        with training_autocast(CPU, dtype):
            maps = torch.nn.functional.conv3d(torch.ones(2, 16, 2, 8, 8), weight, padding=1)
        assert maps.dtype == torch.float32
        maps.sum().backward()
        assert weight.grad is not None
        assert weight.grad[0, 0, 1, 1, 1] == 2 * 2 * 8 * 8
        assert torch.equal(weight.grad, weight.grad[:1, :1].expand_as(weight))


SLOW = "aten::slow_conv3d_forward"


@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 2, "padding": 1}, {"dilation": (1, 2, 1), "padding": (0, 2, 1), "bias": False}, {"groups": 4}],
    ids=str,
)
def test_onednn_computes_the_convolutions_of_a_single_window(options: dict[str, Any]) -> None:
    convolution, window = torch.nn.Conv3d(4, 8, 3, **options), torch.randn(1, 4, 12, 10, 8)
    with torch.no_grad(), OneDNNConvolutions(), profile(activities=[ProfilerActivity.CPU]) as profiled:
        maps = convolution(window)
    assert SLOW not in {event.key for event in profiled.key_averages()}
    with torch.no_grad():
        right = convolution.double()(window.double())
    torch.testing.assert_close(maps.double(), right, rtol=1e-5, atol=1e-5)


def test_onednn_takes_our_own_convolutions() -> None:
    """Which call PyTorch's function with fewer arguments, and whose weights have a layout of their own."""
    convolution, window = Convolution(4, 8, (3, 3, 3), stride=(1, 2, 2)), torch.randn(1, 4, 12, 10, 8)
    with torch.no_grad(), OneDNNConvolutions(), profile(activities=[ProfilerActivity.CPU]) as profiled:
        maps = convolution(window)
        depthwise = functional.conv3d(window, torch.ones(4, 1, 3, 3, 3), padding=1, groups=4)
    assert SLOW not in {event.key for event in profiled.key_averages()}
    with torch.no_grad():
        right = functional.conv3d(window.double(), convolution.weight.double(), None, (1, 2, 2), (1, 1, 1))
        sums = functional.avg_pool3d(window.double(), 3, 1, 1) * 27
    torch.testing.assert_close(maps.double(), right, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(depthwise.double(), sums, rtol=1e-5, atol=1e-5)


def test_without_the_context_pytorch_takes_its_slow_convolution() -> None:
    """If this fails, PyTorch has become faster, and `OneDNNConvolutions` can go."""
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU]) as profiled:
        torch.nn.Conv3d(4, 8, 3)(torch.randn(1, 4, 12, 10, 8))
    assert SLOW in {event.key for event in profiled.key_averages()}


def test_a_gpu_validates_without_the_context() -> None:
    """A compiled network would be compiled again inside it."""
    assert isinstance(validation_arithmetic(CPU, None), OneDNNConvolutions)
    assert not isinstance(validation_arithmetic(CUDA, None), OneDNNConvolutions)
    assert not isinstance(validation_arithmetic(CPU, torch.float16), OneDNNConvolutions)


def test_other_arithmetic_and_gradients_stay_pytorchs() -> None:
    convolution, window = torch.nn.Conv3d(4, 8, 3), torch.randn(1, 4, 12, 10, 8)
    with torch.no_grad():
        by_name, double = torch.nn.Conv3d(4, 8, 3, padding="same"), torch.nn.Conv3d(4, 8, 3).double()
        expected = convolution(window[0]), by_name(window), double(window.double())
        with OneDNNConvolutions():
            found = convolution(window[0]), by_name(window), double(window.double())
            with torch.autocast("cpu", torch.bfloat16):
                assert convolution(window).dtype == torch.bfloat16
    assert all(map(torch.equal, found, expected))
    with OneDNNConvolutions():
        convolution(window).sum().backward()
    assert convolution.weight.grad is not None
