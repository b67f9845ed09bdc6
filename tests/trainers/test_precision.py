from pathlib import Path

import pytest
import torch

from unetr_nnunet.trainers import precision


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="reads the processor's flags from /proc/cpuinfo")
def test_bfloat16_is_claimed_only_where_the_processor_lists_it() -> None:
    flags = set(Path("/proc/cpuinfo").read_text().split())
    if precision.cpu_has_bfloat16():
        assert flags & {"avx512_bf16", "amx_bf16", "amx_tile"}


@pytest.mark.parametrize("fast", [True, False])
def test_cpu_autocast_follows_the_processor(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: fast)
    with precision.training_autocast(torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if fast else torch.float32)
