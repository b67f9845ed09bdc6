import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from unetr_nnunet.planning import measured
from unetr_nnunet.planning.measured import measure_memory, verify
from unetr_nnunet.planning.training_step import TrainingStep

STEP = TrainingStep("Modified", "Tiny", (16, 32, 32), 2, (1.0, 1.0, 1.0), (8, 8, 8), 1, 3)


def test_at_least_weights_gradients_and_optimizer_are_measured():
    weights = sum(parameter.nbytes for parameter in STEP.build_network().parameters())
    small, large = (measure_memory(replace(STEP, batch_size=size), torch.device("cpu"), None) for size in (1, 3))
    assert small > 4 * weights
    features_bytes = 2 * 8 * 16 * 32 * 32 * 4  # of the two patches more, at full resolution
    assert large - small > 10 * features_bytes


def test_the_peak_is_the_largest_sum_up_to_any_time():
    assert measured._peak([(3, -10), (1, 10), (2, 5), (4, 2), (5, -7)]) == 15


def test_verification_compares_the_prediction_with_the_measurement():
    predicted, found = verify(STEP, torch.device("cpu"), None)
    assert predicted == pytest.approx(found, rel=0.05)


def test_a_step_that_does_not_fit_is_not_run(monkeypatch):
    monkeypatch.setattr(measured.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    monkeypatch.setattr(measured, "measure_memory", lambda *arguments: pytest.fail("ran"))
    with pytest.raises(ValueError, match=r"GiB on cpu, 0\.0 GiB are free here: .* a smaller --patch-size"):
        verify(STEP, torch.device("cpu"), None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu():
    predicted, found = verify(replace(STEP, patch_size=(64, 64, 64)), torch.device("cuda"), torch.float16)
    assert predicted == pytest.approx(found, rel=0.15)


def test_the_profiler_is_silent(capfd):
    measure_memory(STEP, torch.device("cpu"), None)
    assert capfd.readouterr() == ("", "")
    assert os.environ["KINETO_LOG_LEVEL"]
