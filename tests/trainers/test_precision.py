from pathlib import Path

import pytest
import torch

from unetr_nnunet.trainers import precision


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="reads the processor's flags from /proc/cpuinfo")
def test_bfloat16_is_claimed_only_where_the_processor_lists_it() -> None:
    flags = set(Path("/proc/cpuinfo").read_text().split())
    if precision.cpu_has_bfloat16():
        assert flags & {"avx512_bf16", "amx_bf16", "amx_tile"}


def test_on_a_cpu_a_step_is_in_float32() -> None:
    """In bfloat16 the weight gradient of a convolution over two slices is garbage on processors that multiply it."""
    weight = torch.ones(16, 16, 3, 3, 3, requires_grad=True)
    for _ in range(20):
        used_before = [torch.full((size,), torch.inf) for size in (500, 7000, 60_000, 300_000)]
        del used_before
        weight.grad = None
        with precision.training_autocast(torch.device("cpu")):
            maps = torch.nn.functional.conv3d(torch.ones(2, 16, 2, 8, 8), weight, padding=1)
        assert maps.dtype == torch.float32
        maps.sum().backward()
        assert weight.grad is not None
        assert weight.grad[0, 0, 1, 1, 1] == 2 * 2 * 8 * 8
        assert torch.equal(weight.grad, weight.grad[:1, :1].expand_as(weight))
