import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from tests.planning.conftest import on_cpu, on_gpu
from unetr_nnunet.planning import measured
from unetr_nnunet.planning.measured import Measurement, measure_memory, verify
from unetr_nnunet.planning.training_step import TrainingStep

STEP = TrainingStep("Modified", "Tiny", (16, 32, 32), 2, (1.0, 1.0, 1.0), (8, 8, 8), 1, 3)


def test_at_least_weights_gradients_and_optimizer_are_measured():
    weights = sum(parameter.nbytes for parameter in STEP.build_network().parameters())
    small, large = (measure_memory(replace(STEP, batch_size=size), on_cpu()).allocated for size in (1, 3))
    assert small > 4 * weights
    features_bytes = 2 * 8 * 16 * 32 * 32 * 4  # of the two patches more, at full resolution
    assert large - small > 8 * features_bytes


def test_the_peak_is_the_largest_sum_up_to_any_time():
    assert measured._peak([(3, -10), (1, 10), (2, 5), (4, 2), (5, -7)]) == 15


def test_verification_compares_the_prediction_with_the_measurement():
    predicted, found = verify(STEP, on_cpu())
    assert predicted == pytest.approx(found.allocated, rel=0.05)
    assert found.reserved is None


def test_the_update_is_handed_what_the_trainer_would_hand_it():
    """Network, loss, optimizer and a batch; what it changes is changed."""
    calls = []

    def update(network, loss, optimizer, data, target):
        weights = [parameter.clone() for parameter in network.parameters()]
        loss(network(data), target).backward()
        optimizer.step()
        changed = [not torch.equal(*pair) for pair in zip(weights, network.parameters(), strict=True)]
        calls.append((type(optimizer), optimizer.defaults["fused"], data.shape, any(changed)))

    measure_memory(STEP, replace(on_cpu(), update=update))
    assert calls == [(torch.optim.AdamW, True, (2, 1, 16, 32, 32), True)] * 2


def test_network_and_dice_loss_are_compiled_as_in_a_training(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(type(module).__name__))
    measure_memory(STEP, replace(on_cpu(), compiled=True))
    assert compiled == ["MemoryEfficientSoftDiceLoss", "UNETR"]


def test_on_cuda_both_peaks_are_measured_with_cudnn_choosing_its_algorithms(monkeypatch):
    """On a GPU that is not there, and has 5 bytes allocated and 8 reserved before."""
    seen = []
    cuda = SimpleNamespace(
        empty_cache=lambda: seen.append("cache emptied"),
        reset_peak_memory_stats=lambda device: seen.append("peaks reset"),
        memory_allocated=lambda device: 5,
        memory_reserved=lambda device: 8,
        max_memory_allocated=lambda device: 105,
        max_memory_reserved=lambda device: 208,
    )
    monkeypatch.setattr("torch.cuda", cuda)
    monkeypatch.setattr(measured, "_train", lambda *arguments: seen.append(torch.backends.cudnn.benchmark))
    assert measure_memory(STEP, on_gpu_without_one()) == Measurement(100, 200)
    assert seen == ["cache emptied", "peaks reset", True]
    assert not torch.backends.cudnn.benchmark


def on_gpu_without_one():
    return replace(on_cpu(), device=torch.device("cuda"), autocast_dtype=torch.float16)


def test_a_step_that_does_not_fit_is_not_run(monkeypatch):
    monkeypatch.setattr(measured.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    monkeypatch.setattr(measured, "measure_memory", lambda *arguments: pytest.fail("ran"))
    with pytest.raises(ValueError, match=r"GiB on cpu, 0\.0 GiB are free here: .* a smaller --patch-size"):
        verify(STEP, on_cpu())


def test_a_part_of_a_gpu_has_only_its_own_memory(monkeypatch):
    """A MIG instance of 5 GB reports its own size as free, whatever the GPU has."""
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (int(4.75 * 2**30), int(4.75 * 2**30)))
    monkeypatch.setattr(measured, "measure_memory", lambda *arguments: Measurement(1, 2))
    assert verify(STEP, on_gpu_without_one())[1] == Measurement(1, 2)
    with pytest.raises(ValueError, match=r"GiB on cuda, 4\.8 GiB are free here"):
        verify(replace(STEP, patch_size=(256, 256, 256)), on_gpu_without_one())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("compiled", [False, True])
def test_on_a_gpu(compiled):
    predicted, found = verify(replace(STEP, patch_size=(64, 64, 64)), replace(on_gpu(), compiled=compiled))
    assert found.allocated <= 1.25 * predicted
    assert found.reserved >= found.allocated


def test_the_profiler_is_silent(capfd):
    measure_memory(STEP, on_cpu())
    assert capfd.readouterr() == ("", "")
    assert os.environ["KINETO_LOG_LEVEL"]


def test_what_cannot_be_traced_is_measured_alone(otherlab):
    step = TrainingStep("Opaque", "base", (8, 16, 16), 2, (1.0, 1.0, 1.0), (), 1, 3)
    predicted, measured = verify(step, on_cpu())
    assert predicted is None
    assert measured.allocated > 0
