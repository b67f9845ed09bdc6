import contextlib

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import nn

from tests.inference.simulated_gpu import MIB, NetworkOn, SimulatedGPU
from tests.inference.small_model import plans, write_model
from unetr_nnunet.inference.batch_sizes import BatchSizes
from unetr_nnunet.inference.fidelity import Fidelity
from unetr_nnunet.inference.memory import Arrays
from unetr_nnunet.inference.model import load_model
from unetr_nnunet.inference.placement import Placement
from unetr_nnunet.inference.sliding_window import SlidingWindow

CPU = Placement(torch.device("cpu"), torch.device("cpu"))


def run(model, data, **options):
    return (
        SlidingWindow(data, [(0, length) for length in data.shape[1:]], model, CPU, Arrays(0), **options)
        .run(model.parameters)
        .float()
        .numpy()
    )


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(16, 32, 32), (30, 50, 33), (9, 20, 60)])
@pytest.mark.parametrize("mirror_axes", [None, (0, 1, 2), (1,)])
def test_exact_logits_are_nnunets(shape, mirror_axes, tmp_path):
    folder = write_model(tmp_path, mirror_axes=mirror_axes)
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), (0,))
    data = noise(1, *shape)
    expected = predictor.predict_logits_from_preprocessed_data(data).float().numpy()
    found = run(load_model(folder, None), data, fidelity=Fidelity.EXACT)
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


def test_slices(tmp_path):
    folder = write_model(tmp_path, plans(patch=(32, 32), spacing=(1.5, 1.5)), mirror_axes=(0, 1))
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), (0,))
    data = noise(1, 5, 50, 40)
    expected = predictor.predict_logits_from_preprocessed_data(data).float().numpy()
    found = run(load_model(folder, None), data, fidelity=Fidelity.EXACT)
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


def test_each_folds_own_label_map_is_kept_where_there_are_several(tmp_path):
    model, data = load_model(write_model(tmp_path, folds=2, mirror_axes=None)), noise(1, 20, 40, 40)
    windows = SlidingWindow(data, [(2, 20), (0, 40), (0, 30)], model, CPU, Arrays(0))
    windows.run(model.parameters)
    maps = windows.fold_maps
    for parameters, labels in zip(model.parameters, maps, strict=True):
        alone = windows.run([parameters])
        assert torch.equal(labels.long(), alone.float().argmax(0))
        assert windows.fold_maps == []
    assert not torch.equal(*maps)


class _Counting(nn.Module):
    """Says background everywhere but at bright voxels, and counts the windows it sees."""

    def __init__(self, outputs=4):
        super().__init__()
        self.outputs, self.windows = outputs, 0

    def forward(self, x):
        self.windows += len(x)
        logits = torch.zeros(len(x), self.outputs, *x.shape[2:])
        logits[:, 0] = 10
        logits[:, 1] = 20 * (x[:, 0] > 100)
        return logits

    def load_state_dict(self, weights):
        pass


def test_empty_regions_get_the_first_pass_only(tmp_path):
    model = load_model(write_model(tmp_path), None)
    counts = []
    for bright in (False, True):
        model.network = _Counting()
        data = torch.zeros(1, 64, 128, 128)
        if bright:
            data[0, 20:24, 20:24, 20:24] = 200
        labels = run(model, data, fidelity=Fidelity.FAST).argmax(0)
        np.testing.assert_array_equal(labels == 1, (data[0] > 100).numpy())
        counts.append(model.network.windows)
    model.network = _Counting()
    run(model, torch.zeros(1, 64, 128, 128), fidelity=Fidelity.EXACT)
    assert model.network.windows == 7**3 * 8
    assert counts[0] == 4**3, "the first pass has no overlap"
    assert counts[0] < counts[1] <= counts[0] + 2 * 27


class _Overflowing(_Counting):
    """As `_Counting`, but in reduced precision, or always, bright voxels become infinite or NaN."""

    def __init__(self, value, always=False):
        super().__init__()
        self.value, self.always = value, always

    def forward(self, x):
        logits = super().forward(x)
        if self.always or torch.is_autocast_enabled("cpu"):
            logits[:, 1][x[:, 0] > 100] = self.value
        return logits


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("fidelity", [Fidelity.DEFAULT, Fidelity.FAST])
def test_windows_that_are_not_finite_run_again_in_float32(value, fidelity, tmp_path, monkeypatch):
    monkeypatch.setattr("unetr_nnunet.inference.sliding_window.cpu_has_bfloat16", lambda: True)
    model = load_model(write_model(tmp_path), None)
    model.network, reports = _Overflowing(value), []
    data = torch.zeros(1, 32, 64, 64)
    data[0, 2:4, 2:4, 2:4] = 200
    labels = run(model, data, fidelity=fidelity, progress=lambda *report: reports.append(report)).argmax(0)
    np.testing.assert_array_equal(labels == 1, (data[0] > 100).numpy())
    assert reports[-1][0] == reports[-1][1] == model.network.windows


@pytest.mark.parametrize("fidelity", list(Fidelity))
def test_what_is_not_finite_in_float32_either_is_an_error(fidelity, tmp_path):
    model = load_model(write_model(tmp_path), None)
    model.network = _Overflowing(float("nan"), always=True)
    data = torch.zeros(1, 32, 64, 64)
    data[0, 20, 20, 20] = 200
    with pytest.raises(ValueError, match="the network's output is not finite: its weights are damaged, or the image's"):
        run(model, data, fidelity=fidelity)


@pytest.mark.parametrize("factor", [1e3, 1e20])
def test_sums_that_float16_cannot_hold(factor, tmp_path, caplog):
    model = load_model(write_model(tmp_path), None)
    model.network = _Counting()
    data = 200 * (noise(1, 30, 50, 60) > 1)
    expected = run(model, data)
    forward = model.network.forward
    model.network.forward = lambda x: factor * forward(x)
    caplog.set_level("INFO")
    np.testing.assert_allclose(run(model, data), factor * expected, rtol=6e-3)
    assert caplog.messages == ["the network's logits are too large for float16: adding them up in float32"]


def test_views_are_turned_back(tmp_path):
    """A network that only looks at intensities must not notice any mirroring."""
    model = load_model(write_model(tmp_path), None)
    model.network = _Counting()
    data = 200 * (noise(1, 30, 50, 60) > 1)
    np.testing.assert_array_equal(run(model, data).argmax(0) == 1, (data[0] > 100).numpy())


def test_regions_are_suspicious_above_zero(tmp_path):
    from tests.inference.small_model import DATASET, REGIONS

    model = load_model(write_model(tmp_path, dataset=DATASET | REGIONS), None)
    model.network = _Counting(outputs=2)
    model.network.forward = lambda x: torch.full((len(x), 2, *x.shape[2:]), -5.0)
    assert run(model, torch.zeros(1, 64, 64, 64)).shape == (2, 64, 64, 64)


@pytest.mark.parametrize("flat", [False, True])
def test_batches_measured_on_a_gpu_give_the_same_logits(flat, tmp_path, monkeypatch):
    """The GPU is simulated; the network takes 100 MiB, and 200 more a window, of its 2 GiB."""
    plan = plans(patch=(32, 32), spacing=(1.5, 1.5)) if flat else plans()
    model = load_model(write_model(tmp_path, plan, folds=2, mirror_axes=(0, 1)), None)
    monkeypatch.setattr("unetr_nnunet.inference.sliding_window.cpu_has_bfloat16", lambda: False)
    data = noise(1, 20, 60, 50)
    expected = run(model, data)
    gpu = SimulatedGPU(monkeypatch, 2048 * MIB)
    monkeypatch.setattr(
        "unetr_nnunet.inference.sliding_window.BatchSizes", lambda _, most: BatchSizes(torch.device("cuda", 0), most)
    )
    network = model.network = NetworkOn(gpu, model.network, 100 * MIB, 200 * MIB, search=500 * MIB)
    reports = []
    found = run(model, data, progress=lambda *report: reports.append(report))
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    assert network.sizes[:4] == [1, 1, 2, 2]
    assert max(network.sizes) == 4
    assert sum(network.sizes) == reports[-1][0] == reports[-1][1]
    network.sizes.clear()
    run(model, data, fidelity=Fidelity.EXACT)
    assert set(network.sizes) == {1}


@pytest.mark.parametrize("fails", [False, True])
def test_cudnn_searches_while_the_network_runs_on_a_gpu(fails, tmp_path, monkeypatch):
    model = load_model(write_model(tmp_path), None)
    seen = []

    def record(self, parameters, kind):
        seen.append(torch.backends.cudnn.benchmark)
        if fails:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.zeros(1)

    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(SlidingWindow, "_run", record)
    windows = SlidingWindow(noise(1, 20, 40, 40), [(0, 20), (0, 40), (0, 40)], model, CPU, Arrays(0))
    windows.placement = Placement(torch.device("cuda"), torch.device("cpu"))
    with contextlib.suppress(torch.OutOfMemoryError):
        windows.run(model.parameters)
    assert seen == [True]
    assert torch.backends.cudnn.benchmark is False
