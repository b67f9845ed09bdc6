import functools
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode

from tests.planning.conftest import on_cpu, on_gpu
from unetr_nnunet.architectures.build import resolve_token_size
from unetr_nnunet.architectures.networks import WrongOutputError
from unetr_nnunet.architectures.presets import ARCHITECTURES
from unetr_nnunet.planning.measured import measure_memory
from unetr_nnunet.planning.memory import (
    GIB,
    TFLOP,
    Budget,
    MemoryEstimate,
    _StorageTracker,
    predict_memory,
    with_reserve,
)
from unetr_nnunet.planning.training_step import TrainingStep, forward_and_loss

THICK = TrainingStep("Modified", "Tiny", (16, 48, 48), 2, (3.0, 0.8, 0.8), (2, 8, 8), 1, 14)
CUBE = replace(THICK, patch_size=(32, 32, 32), spacing_mm=(1.0, 1.0, 1.0), token_size=(8, 8, 8))
FLAT = replace(THICK, patch_size=(128, 64), spacing_mm=(0.8, 0.8), token_size=(16, 16), in_channels=2)

STEPS = {
    **{name: replace(THICK, architecture=name) for name in ARCHITECTURES},
    "cube, one patch": replace(CUBE, batch_size=1),
    "original, cube, 16": replace(CUBE, architecture="original", token_size=(16, 16, 16)),
    "2-D": FLAT,
    "2-D original": replace(FLAT, architecture="original"),
    "regions": replace(CUBE, regions=True, out_channels=3),
    "regions, ignored voxels": replace(CUBE, regions=True, ignore_label=True, out_channels=3),
    "ignored voxels": replace(CUBE, architecture="original", ignore_label=True),
}


@functools.cache
def predicted_on_cpu(name):
    return predict_memory(STEPS[name], "cpu", None)


def really_saved(step):
    """Return the bytes that a forward pass and the loss keep for the backward pass on this CPU, weights apart."""
    network = step.build_network()
    weights = {tensor.data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    sizes = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    data, target = step.make_batch(torch.device("cpu"))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward_and_loss(network, step.build_loss(), data, target, None)
    assert torch.isfinite(result[1])
    return sum(sizes.values())


@pytest.mark.parametrize("name", STEPS)
def test_saved_activations_are_those_really_saved(name):
    estimate = predicted_on_cpu(name)
    assert estimate.saved_activations == pytest.approx(really_saved(STEPS[name]), rel=0.05)


@pytest.mark.parametrize("name", ["original", "Modified", "2-D", "regions, ignored voxels"])
def test_the_peak_is_that_of_torchs_allocator(name):
    estimate = predicted_on_cpu(name)
    measured = measure_memory(STEPS[name], on_cpu())
    assert estimate.peak == pytest.approx(measured.allocated, rel=0.02)
    assert sum(estimate.at_peak.values()) == estimate.peak


def test_parameters_and_optimizer_state_are_those_of_adamw():
    network = CUBE.build_network()
    optimizer = torch.optim.AdamW(network.parameters())
    sum(parameter.sum() for parameter in network.parameters()).backward()
    optimizer.step()
    state = sum(entry["exp_avg"].nbytes + entry["exp_avg_sq"].nbytes for entry in optimizer.state.values())
    parameters = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
    estimate = predict_memory(CUBE)
    assert estimate.at_peak["optimizer state"] == state
    assert estimate.at_peak["parameters"] == parameters
    assert estimate.fixed == state + parameters


@pytest.mark.parametrize("architecture", ["original", "ModifiedV1"])
def test_operations_are_those_of_torchs_counter(architecture):
    """On the meta device, where attention is two products forward and four backward; flash attention repeats one."""
    step = replace(THICK, architecture=architecture)
    with torch.device("meta"):
        network = step.build_network()
        loss = step.build_loss()
        data, target = step.make_batch(torch.device("meta"))
    with FlopCounterMode(display=False) as counter:
        forward_and_loss(network, loss, data, target, None)[1].backward()
    assert predict_memory(step).flop == pytest.approx(counter.get_total_flops(), rel=0.02)


@pytest.mark.parametrize("groups", [1, 4, 8])
@pytest.mark.parametrize("kind", [torch.nn.Conv3d, torch.nn.ConvTranspose3d])
def test_a_convolution_in_groups_computes_that_much_less(kind, groups):
    """Twice for each weight and each of the 8 x 8 x 8 voxels that it meets, forward and for both gradients."""
    with FakeTensorMode(), _StorageTracker(convolution_copies=False) as tracker:
        layer = kind(8, 16, 2, stride=2, groups=groups, bias=False)
        size = 8 if kind is torch.nn.ConvTranspose3d else 16
        layer(torch.ones(1, 8, size, size, size, requires_grad=True)).sum().backward()
    assert tracker.flop == 3 * 2 * (8 * 16 // groups * 2**3) * 8**3


def test_attention_on_a_gpu_saves_no_matrix_of_weights():
    """Four times the tokens would be sixteen times the matrix."""
    step = TrainingStep("original", "Tiny", (32, 64, 64), 1, (1.0, 1.0, 1.0), (4, 4, 4), 1, 2)
    small, large = predict_memory(step), predict_memory(replace(step, patch_size=(64, 64, 128)))
    assert large.saved_activations < 4.1 * small.saved_activations
    matrix = 4 * 3 * (64 * 64 * 128 // 64) ** 2 * 2  # layers x heads x tokens squared, two bytes each
    assert large.saved_activations < matrix


def test_half_precision_on_cuda_saves_less_than_float32_on_a_cpu():
    cuda, cpu = predict_memory(STEPS["original"]), predicted_on_cpu("original")
    assert 0.4 * cpu.saved_activations < cuda.saved_activations < 0.8 * cpu.saved_activations


def test_autocast_is_left_as_it_was():
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    predict_memory(CUBE, "cuda", torch.bfloat16)
    assert (torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")) == before


def test_the_reserve_is_one_gib_and_a_tenth():
    assert with_reserve(10 * GIB) == pytest.approx(12 * GIB)


@pytest.mark.parametrize("needs_input_gradient", [True, False])
def test_a_convolution_copies_its_operands_on_the_way_back_too(needs_input_gradient):
    """The first convolution of a network gives no gradient to the image."""
    peaks = []
    for copies in (False, True):
        with FakeTensorMode(), _StorageTracker(convolution_copies=copies) as tracker:
            image = torch.empty(1, 4, 16, 16, 16, device="cuda", dtype=torch.float16)
            weight = torch.empty(8, 4, 3, 3, 3, device="cuda", dtype=torch.float16)
            gradient = torch.empty(1, 8, 16, 16, 16, device="cuda", dtype=torch.float16)
            mask = [needs_input_gradient, True, False]
            geometry = (None, [1, 1, 1], [1, 1, 1], [1, 1, 1], False, [0, 0, 0], 1)
            torch.ops.aten.convolution_backward(gradient, image, weight, *geometry, mask)
        peaks.append(tracker.peak)
    assert peaks[1] - peaks[0] == gradient.nbytes + (2 if needs_input_gradient else 1) * image.nbytes


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_what_several_gpus_exchange_is_what_torch_keeps_for_it(one_process):
    buckets = DistributedDataParallel(CUBE.build_network())._get_ddp_logging_data()["bucket_sizes"]
    assert predict_memory(CUBE).exchange == sum(int(size) for size in buckets.split(", "))


@functools.cache
def predicted_on_gpu(architecture, size, batch):
    return predict_memory(replace(THICK, architecture=architecture, size=size, batch_size=batch))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_a_gpu_needs_is_in_proportion_to_the_batch(architecture):
    """And the same each time."""
    one, two, three = (predicted_on_gpu(architecture, "base", batch) for batch in (1, 2, 3))
    assert predict_memory(replace(THICK, architecture=architecture, size="base", batch_size=1)) == one
    assert one.peak < two.peak < three.peak
    patch_bytes = two.saved_activations - one.saved_activations
    assert three.saved_activations - two.saved_activations == pytest.approx(patch_bytes, rel=0.01)
    assert one.fixed == two.fixed == three.fixed
    assert (two.flop, three.flop) == (2 * one.flop, 3 * one.flop)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_larger_networks_take_more(architecture):
    tiny, base, large = (predicted_on_gpu(architecture, size, 1) for size in ("Tiny", "base", "Large"))
    assert tiny.peak < base.peak < large.peak
    assert tiny.flop < base.flop < large.flop


GPU_STEPS = [
    replace(step, architecture=architecture, size=size)
    for architecture, size in (("original", "base"), ("Modified", "base"), ("CNNStem", "base"), ("Modified", "Large"))
    for step in (
        replace(CUBE, patch_size=(96, 96, 96), token_size=(16, 16, 16)),
        replace(THICK, patch_size=(48, 192, 192), token_size=(4, 16, 16)),
        replace(FLAT, patch_size=(512, 512), batch_size=12, in_channels=1),
    )
]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("step", GPU_STEPS, ids=str)
def test_the_peak_and_its_reserve_hold_a_step_on_a_gpu(step):
    predicted = predict_memory(step).peak
    measured = measure_memory(step, on_gpu())
    assert measured.allocated == pytest.approx(predicted, rel=0.25)
    assert measured.reserved + GIB / 2 <= with_reserve(predicted)  # beside the context


BUDGET = Budget(12, 5 * TFLOP)  # 10 GiB for the predicted peak: 12 GiB less 1 GiB, less a tenth of what is predicted


def estimate(gib, tflop=1.0, fixed_gib=0.0):
    at_peak = {"parameters": int(fixed_gib * GIB / 3), "optimizer state": int(fixed_gib * GIB * 2 / 3)}
    return MemoryEstimate(0, at_peak, int(gib * GIB), int(tflop * TFLOP))


def test_the_reserve_is_left_free():
    assert BUDGET.memory == pytest.approx(10 * GIB)
    assert with_reserve(BUDGET.memory) == pytest.approx(12 * GIB)


@pytest.mark.parametrize(
    ("gib", "tflop", "limit"),
    [(9.99, 4.99, ""), (10.01, 1, "memory"), (1, 5.01, "compute"), (10.01, 5.01, "memory"), (9.99, 5, "")],
)
def test_either_limit_can_be_exceeded(gib, tflop, limit):
    assert BUDGET.exceeded(estimate(gib, tflop)) == limit
    assert (BUDGET.used(estimate(gib, tflop)) > 1) == bool(limit)


def test_weights_are_taken_off_before_the_share_is_reckoned():
    """So that twice the batch uses twice the share."""
    assert BUDGET.used(estimate(6, fixed_gib=2)) == pytest.approx(0.5)
    assert BUDGET.used(estimate(10, fixed_gib=2)) == pytest.approx(1)
    assert BUDGET.used(estimate(2.1, tflop=4, fixed_gib=2)) == pytest.approx(0.8)


def test_weights_that_do_not_fit_at_all_exceed_the_memory():
    assert BUDGET.exceeded(estimate(11, fixed_gib=10.5)) == "memory"
    assert Budget(0.5, TFLOP).exceeded(estimate(0.1, tflop=0.1)) == "memory", "less than the reserve"


def test_another_packages_peak_is_that_of_torchs_allocator(otherlab):
    step = TrainingStep("Pyramid", "base", (16, 32, 32), 2, (1.0, 1.0, 1.0), (), 1, 3)
    assert predict_memory(step, "cpu", None).peak == pytest.approx(measure_memory(step, on_cpu()).allocated, rel=0.05)


def test_an_output_that_is_not_the_architectures_is_no_matter_of_tracing(otherlab, monkeypatch):
    step = TrainingStep("Line", "base", (8, 16, 16), 2, (1.0, 1.0, 1.0), (), 1, 3)
    monkeypatch.setattr(TrainingStep, "build_network", lambda step: torch.nn.Conv3d(1, 4, 1))
    with pytest.raises(WrongOutputError, match=r"Line .* returns \(2, 4, 8, 16, 16\)"):
        predict_memory(step)


NEEDS_AVX512 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512",
    reason="without AVX-512, oneDNN takes half a GiB a thread for the weight gradient of 1024 channels",
)

BASELINES = [
    ("SwinUNETR", "F24", (32, 32, 64), 0.05),
    ("SegResNetDS", "base", (32, 64, 64), 0.05),
    ("MedNeXt", "S", (128, 128), 0.05),
    ("MedNeXt", "S", (16, 32, 32), 0.06),  # on a CPU a convolution by channel copies its operands if it has three axes
    pytest.param("PrimusV3", "S", (32, 64, 64), 0.05, marks=NEEDS_AVX512),
    ("ResEnc", "base", (32, 64, 64), 0.05),
    ("PlainConvUNet", "Tiny", (32, 64, 64), 0.05),
]
"""Architecture, size, patch and tolerance. In smaller patches the CPU reorders weights that outweigh the maps."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "patch", "tolerance"), BASELINES)
def test_a_baselines_peak_is_that_of_torchs_allocator(name, size, patch, tolerance):
    step = TrainingStep(name, size, patch, 2, (3.0, 1.0, 1.0)[-len(patch) :], (), 1, 3)
    measured = measure_memory(step, on_cpu()).allocated
    assert predict_memory(step, "cpu", None).peak == pytest.approx(measured, rel=tolerance)


@pytest.mark.parametrize(
    ("patch_size", "spacing_mm"), [((96, 96, 96), (1.5, 1.5, 1.5)), ((48, 192, 192), (3.0, 0.76, 0.76))], ids=str
)
def test_a_training_step_of_modified_takes_no_more_than_the_originals(patch_size, spacing_mm):
    peak, flop = {}, {}
    for name in ("original", "Modified"):
        token_size = resolve_token_size(name, patch_size, spacing_mm, None)
        step = TrainingStep(name, "base", patch_size, 2, spacing_mm, token_size, 1, 14)
        estimate = predict_memory(step, "cuda", torch.float16)
        peak[name], flop[name] = estimate.peak, estimate.flop
    assert peak["Modified"] < 0.95 * peak["original"]
    assert flop["Modified"] < 1.01 * flop["original"]
