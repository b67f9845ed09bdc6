"""Prediction on a CUDA device: the label maps of the CPU, without needless waiting, and with little memory."""

import contextlib
import gc
import warnings

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import nn

from tests.inference.simulated_gpu import MIB
from tests.inference.small_model import DATASET, REGIONS, RESIDUAL, plans, write_model
from tests.inference.test_label_map import CASES, LABELS, on_image, smooth_logits
from tests.inference.test_label_map import REGIONS as REGION_LABELS
from tests.inference.test_predictor import ct
from unetr_nnunet.inference import device as device_module
from unetr_nnunet.inference.batch_sizes import BatchSizes
from unetr_nnunet.inference.device import to_device
from unetr_nnunet.inference.fidelity import Fidelity
from unetr_nnunet.inference.memory import Arrays, free_on
from unetr_nnunet.inference.model import load_model
from unetr_nnunet.inference.placement import Placement
from unetr_nnunet.inference.predictor import Predictor
from unetr_nnunet.inference.sliding_window import SlidingWindow
from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, trainer_folder

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("default::UserWarning"),  # of CUDA's libraries, which differ from GPU to GPU
]
GPU = torch.device("cuda", 0)
RESULTS_LEAVE = "cuda is out of memory: keeping the logits in main memory"
ONE_BY_ONE = "cuda is out of memory: running one window at a time"
TO_THE_CPU = "cuda is out of memory: running on the CPU"


@pytest.fixture(autouse=True)
def _reference(monkeypatch):
    """The CPU works in float32, whatever it could do; memory is given back after each test."""
    monkeypatch.setattr("unetr_nnunet.inference.sliding_window.cpu_has_bfloat16", lambda: False)
    monkeypatch.setenv(EXTERNAL_TRAINERS, str(trainer_folder()))
    yield
    gc.collect()
    torch.cuda.empty_cache()


@contextlib.contextmanager
def only(size):
    """Leave this process so many bytes of the GPU, and up to 40 MiB more: a limit is set, and filled up but for these.

    Arrays of up to 1 MiB come from blocks of their own, which are left too.
    """
    gc.collect()
    torch.cuda.empty_cache()
    spare = [torch.empty(each, dtype=torch.uint8, device=GPU) for each in (size, *[MIB] * 16)]
    total = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved(GPU) + 4096 * MIB) / total), GPU)
    filler, piece = [], 512 * MIB
    try:
        while piece >= MIB:
            try:
                filler.append(torch.empty(piece, dtype=torch.uint8, device=GPU))
            except torch.OutOfMemoryError:
                piece //= 2
        del spare
        yield
    finally:
        filler.clear()
        torch.cuda.set_per_process_memory_fraction(1.0, GPU)
        torch.cuda.empty_cache()


def clear_agreement(ours, theirs, probabilities):
    """Return the share of voxels on which two label maps agree; near-ties, of which noise has many, are left out."""
    ours, theirs = map(sitk.GetArrayFromImage, (ours, theirs))
    assert np.sort(np.bincount(theirs.ravel()))[-2] > 0.02 * theirs.size, "a constant map agrees with anything"
    ranked = np.sort(np.concatenate([probabilities, np.full_like(probabilities[:1], 0.5)]), axis=0)
    clear = np.diff(ranked, axis=0).min(0) > 5e-3
    assert clear.mean() > 0.5
    return float(np.mean(ours[clear] == theirs[clear]))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"folds": 2},
        {"dataset": DATASET | REGIONS},
        {"plan": plans(network_class=RESIDUAL)},
        {"plan": plans(patch=(32, 32), spacing=(1.5, 1.5)), "mirror_axes": (0, 1)},
        {"trainer": "nnUNetTrainerUNETR_Tiny"},
        {"trainer": "nnUNetTrainerUNETR_Modified_Tiny"},
    ],
    ids=["plain", "folds", "regions", "residual", "slices", "original", "modified"],
)
def test_the_label_map_is_that_of_the_cpu(options, tmp_path):
    model, image = load_model(write_model(tmp_path / "model", **options, seed=3), None), ct("RAS")
    expected = Predictor([model], "cpu").predict([image])
    probabilities = Predictor([model], "cpu").segment([image], probabilities_in="RAS").probabilities
    on_gpu = Predictor([model], "cuda")
    assert clear_agreement(on_gpu.predict([image]), expected, probabilities) >= 0.999
    on_gpu.fidelity = Fidelity.EXACT
    exact = Predictor([model], "cpu", fidelity="exact")
    probabilities = exact.segment([image], probabilities_in="RAS").probabilities
    assert clear_agreement(on_gpu.predict([image]), exact.predict([image]), probabilities) >= 0.999
    difference = np.abs(
        on_gpu.segment([image], probabilities_in="RAS").probabilities.astype(np.float32) - probabilities
    )
    assert np.quantile(difference, 0.999) < 0.05


def test_nothing_is_left_on_the_gpu_but_the_network(tmp_path):
    predictor = Predictor([load_model(write_model(tmp_path), None)], "cuda")
    left = []
    for _ in range(2):
        predictor.predict([ct()])
        gc.collect()
        left.append(torch.cuda.memory_allocated(GPU))
    assert left[0] == left[1]


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def windows(model, data, **options):
    return SlidingWindow(
        data, [(0, length) for length in data.shape[1:]], model, Placement.on(GPU), Arrays(0), **options
    )


def test_nothing_waits_for_the_gpu_from_window_to_window(tmp_path):
    model = load_model(write_model(tmp_path), None)
    counts, reports = [], []
    for shape in ((1, 24, 48, 48), (1, 24, 48, 48), (1, 40, 128, 128)):
        running = windows(model, noise(*shape), progress=lambda *report: reports.append(report))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                running.run(model.parameters)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        counts.append(sum("called a synchronizing" in str(each.message) for each in caught))
    assert counts[2] == counts[1] > 0, "weights and the map of what is suspicious are copied once"
    assert counts[2] < reports[-1][1]
    assert reports[-1][0] == reports[-1][1]


class _Hungry(nn.Module):
    """Finds voxels above the mean, and takes so much memory for a batch of a size; notes each size."""

    def __init__(self, needed):
        super().__init__()
        self.needed, self.sizes, self.searched = needed, [], []

    def forward(self, x):
        if x.is_cuda:
            taken = torch.empty(self.needed(len(x)), dtype=torch.uint8, device=x.device)
            self.sizes.append(len(x))
            self.searched.append(torch.backends.cudnn.benchmark)
            del taken
        logits = torch.zeros(len(x), 4, *x.shape[2:], device=x.device)
        logits[:, 0] = 1
        logits[:, 1] = 20.0 * (x[:, 0] > 0)
        return logits

    def load_state_dict(self, weights):
        pass


@pytest.fixture
def thresholds(tmp_path):
    """Return a model, an image of 128 x 256 x 256 voxels without air, and the label map, known by construction."""
    plan = plans(patch=(64, 128, 128), spacing=(1.0, 1.0, 1.0))
    dataset = DATASET | {"channel_names": {"0": "MR"}}
    model = load_model(write_model(tmp_path / "model", plan, dataset, mirror_axes=None), None)
    voxels = np.random.default_rng(0).integers(1, 160, (128, 256, 256)).astype(np.int16)
    image = sitk.GetImageFromArray(voxels)
    image.SetDirection(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation("RAS"))
    return model, image, (voxels > 80).astype(np.uint8)  # 80 becomes 0 by normalisation


def label_map(model, image):
    return sitk.GetArrayFromImage(Predictor([model], "cuda").predict([image]))


def test_batches_grow_to_what_the_memory_allows(thresholds, caplog):
    """100 MiB a window, and 32 for its input, output and sums."""
    model, image, expected = thresholds
    model.network = _Hungry(lambda size: 100 * MIB * size)
    torch.backends.cudnn.benchmark = False
    with only(900 * MIB):
        np.testing.assert_array_equal(label_map(model, image), expected)
    assert model.network.sizes[:4] == [1, 1, 2, 2]
    assert max(model.network.sizes) == 4
    assert all(model.network.searched)
    assert not torch.backends.cudnn.benchmark
    assert caplog.messages == []
    model.network.sizes.clear()
    np.testing.assert_array_equal(label_map(model, image), expected)
    assert max(model.network.sizes) >= 8
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("free_mib", "needed", "expected_words"),
    [
        (64, lambda size: 0, [RESULTS_LEAVE]),  # of logits there are 64 MiB, of the image 32
        (1024, lambda size: 8192 * MIB if size > 2 else MIB, [RESULTS_LEAVE, ONE_BY_ONE]),
        (1024, lambda size: 8192 * MIB, [RESULTS_LEAVE, ONE_BY_ONE, TO_THE_CPU]),
    ],
    ids=["logits", "batch", "network"],
)
def test_every_fall_back_is_reached_and_said(thresholds, free_mib, needed, expected_words, caplog):
    model, image, expected = thresholds
    model.network = _Hungry(needed)
    with only(free_mib * MIB):
        found = label_map(model, image)
    assert caplog.messages == expected_words
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("trainer", ["nnUNetTrainer", "nnUNetTrainerUNETR_Tiny"])
def test_convolutions_and_products_without_memory_end_on_the_cpu(trainer, tmp_path, caplog):
    """Whatever PyTorch, cuDNN and cuBLAS raise is recognised."""
    plan = plans(patch=(64, 128, 128), spacing=(1.0, 1.0, 1.0))
    plan["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["features_per_stage"] = [32, 32, 32]
    model = load_model(write_model(tmp_path / "model", plan, mirror_axes=None, trainer=trainer), None)
    image = ct(shape=(64, 128, 128), spacing=(1.0, 1.0, 1.0))
    expected = sitk.GetArrayFromImage(Predictor([model], "cpu").predict([image]))
    with only(10 * MIB):
        found = label_map(model, image)
    assert len(caplog.messages) == 3
    assert all("out of memory" in message for message in caplog.messages)
    assert caplog.messages[-1].endswith("running on the CPU")
    assert np.mean(found == expected) > 0.9999


def test_free_memory_is_what_can_be_allocated():
    with only(500 * MIB):
        free = free_on(GPU)
        assert 500 * MIB <= free <= 600 * MIB
        torch.empty(480 * MIB, dtype=torch.uint8, device=GPU)
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(free + 64 * MIB, dtype=torch.uint8, device=GPU)


def test_batch_sizes_measure_the_device():
    batches, sizes, left = BatchSizes(GPU, 64), [], 100
    with only(1000 * MIB):
        while left:
            with batches.take(left) as size:
                held = torch.empty((50 + 40 * size) * MIB, dtype=torch.uint8, device=GPU)
                del held
            sizes.append(size)
            left -= size
    assert sizes[:6] == [1, 1, 2, 2, 16, 16]  # 80 % of 1000 MiB: 50 + 16 x 40 = 690


@pytest.mark.parametrize("pinned_bytes", [2**26, 1000])
def test_copies_are_whole(pinned_bytes, monkeypatch):
    monkeypatch.setattr(device_module, "PINNED_BYTES", pinned_bytes)
    values = noise(3, 17, 19, 23).transpose(1, 3)
    for _ in range(3):  # page-locked memory is used again while earlier copies may be under way
        copies = [to_device(values + number, GPU) for number in range(5)]
        for number, copy in enumerate(copies):
            torch.testing.assert_close(copy.cpu(), values + number, rtol=0, atol=0)
    assert to_device(copies[0], GPU) is copies[0]


@pytest.mark.parametrize(("shape", "image_shape", "spacing", "network_spacing"), CASES)
@pytest.mark.parametrize("labels", [LABELS, REGION_LABELS], ids=["labels", "regions"])
def test_labels_and_probabilities_are_those_of_the_cpu(shape, image_shape, spacing, network_spacing, labels):
    values = smooth_logits(labels.num_segmentation_heads, shape)
    grid = (image_shape, spacing, network_spacing, labels)
    on_cpu, on_gpu = on_image(values, *grid), on_image(torch.from_numpy(values).to(GPU), *grid)
    assert np.mean(on_cpu.label_map() == on_gpu.label_map()) > 0.9999
    assert on_gpu.values.is_cuda
    for (_, ours), (_, theirs) in zip(on_gpu.probabilities(), on_cpu.probabilities(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.fixture(scope="module")
def large():
    """Return logits of 3 MiB, the grid of an image of 64 MiB, and its label map."""
    values, grid = smooth_logits(5, (16, 128, 160)), ((64, 1024, 1024), (1, 1, 1), (4, 8, 6.4))
    return values, grid, on_image(values, *grid).label_map()


def test_a_label_map_without_room_is_made_on_the_cpu(large, caplog):
    values, grid, expected = large
    on_gpu = on_image(torch.from_numpy(values).to(GPU), *grid)
    with only(16 * MIB):
        found = on_gpu.label_map()
    assert caplog.messages == ["cuda:0 is out of memory: resampling the logits on the CPU"]
    np.testing.assert_array_equal(found, expected)


def test_a_label_map_is_made_in_slabs_on_a_gpu_with_little_room(large):
    """As a whole it would take a GiB or more."""
    values, grid, expected = large
    with only(200 * MIB):
        on_gpu = on_image(torch.from_numpy(values).to(GPU), *grid)
        found = on_gpu.label_map()
    assert on_gpu.values.is_cuda
    assert np.mean(found == expected) > 0.9999
