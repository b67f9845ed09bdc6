"""OpenVINO beside PyTorch: on networks of every kind, and where it must not be used."""

import logging
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import nn

from tests.inference.small_model import RESIDUAL, plans, write_model
from tests.inference.test_sliding_window import noise, run
from unetr_nnunet.inference import openvino_networks
from unetr_nnunet.inference.fidelity import Fidelity
from unetr_nnunet.inference.model import load_model
from unetr_nnunet.inference.openvino_networks import LARGEST_ERROR, OpenVINONetworks, in_pytorch, openvino_is_installed
from unetr_nnunet.inference.predictor import Predictor
from unetr_nnunet.trainers.precision import cpu_has_bfloat16

pytestmark = pytest.mark.skipif(not openvino_is_installed(), reason="openvino is optional")

FLAT = {"patch": (32, 32), "spacing": (1.5, 1.5)}


@pytest.fixture
def float32(monkeypatch):
    monkeypatch.setattr(openvino_networks, "cpu_has_bfloat16", lambda: False)


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize(
    ("trainer", "plan"),
    [
        ("nnUNetTrainer", {}),
        ("nnUNetTrainer", {"network_class": RESIDUAL}),
        ("nnUNetTrainer", FLAT),
        ("nnUNetTrainerUNETR_Tiny", {}),
        ("nnUNetTrainerUNETR_Modified_Tiny", {}),
        ("nnUNetTrainerUNETR_Modified_Tiny", FLAT),
        ("nnUNetTrainerUNETR_FPN_NoTransformer_Tiny", {}),
    ],
)
def test_logits_are_pytorchs(trainer, plan, tmp_path):
    model = load_model(write_model(tmp_path, plans(**plan), trainer=trainer, folds=2))
    networks = OpenVINONetworks(model)
    windows = noise(3, 1, *model.configuration.patch_size)
    for fold, weights in enumerate(model.parameters):
        compiled = networks.fold(fold)
        model.network.load_state_dict(weights)
        with torch.no_grad():
            expected = in_pytorch(model.network, windows)
        found = torch.stack([logits.clone() for logits in compiled.each(windows.split(1))])
        assert float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt()) < 1e-3
        first = next(compiled.each(windows.split(1)))  # the rest is given up
        torch.testing.assert_close(first, found[0])


def test_a_case_runs_in_it_only_where_it_is_large(tmp_path, monkeypatch):
    model = load_model(write_model(tmp_path, folds=2, mirror_axes=None))
    data, networks = noise(1, 16, 32, 64), OpenVINONetworks(model)  # three windows
    by_pytorch = run(model, data)
    np.testing.assert_array_equal(run(model, data, openvino=networks), by_pytorch)
    assert not networks._compiled
    monkeypatch.setattr(openvino_networks, "LEAST_VOXELS", 3 * 16 * 32 * 32)
    by_openvino = run(model, data, openvino=networks)
    assert sorted(networks._compiled) == [0, 1]
    assert 0 < np.std(by_openvino - by_pytorch) < LARGEST_ERROR[cpu_has_bfloat16()] * np.std(by_pytorch)


def test_weights_stay_those_of_the_model(tmp_path):
    model = load_model(write_model(tmp_path, folds=2))
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    networks = OpenVINONetworks(model)
    for fold in range(2):
        assert networks.fold(fold)
    for name, tensor in model.network.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


class _CannotBeExported(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def load_state_dict(self, weights, **options):
        return self.network.load_state_dict(weights, **options)

    def forward(self, x):
        return self.network(x.abs() if float(x.sum()) > 1e9 else x)


def test_what_it_cannot_run_runs_in_pytorch(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(openvino_networks, "LEAST_VOXELS", 1)
    model = load_model(write_model(tmp_path, mirror_axes=None))
    data = noise(1, 16, 32, 64)
    expected = run(model, data)
    model.network = _CannotBeExported(model.network)
    with caplog.at_level(logging.INFO):
        np.testing.assert_allclose(run(model, data, openvino=OpenVINONetworks(model)), expected, atol=0.02)
    assert "OpenVINO cannot run this network, PyTorch does" in caplog.text


def test_one_output_that_it_gets_wrong_is_said_and_runs_in_pytorch(tmp_path, monkeypatch, caplog):
    def wrong(self, windows):
        for logits in real(self, windows):
            logits[3] *= 1.3
            yield logits

    real = openvino_networks.CompiledNetwork.each
    monkeypatch.setattr(openvino_networks, "LEAST_VOXELS", 1)
    monkeypatch.setattr(openvino_networks.CompiledNetwork, "each", wrong)
    model = load_model(write_model(tmp_path, mirror_axes=None))
    data = noise(1, 16, 32, 64)
    expected = run(model, data)
    np.testing.assert_array_equal(run(model, data, openvino=OpenVINONetworks(model)), expected)
    assert "OpenVINO's logits differ from PyTorch's by" in caplog.text


def test_where_it_fails_pytorch_goes_on(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(openvino_networks, "LEAST_VOXELS", 1)
    model = load_model(write_model(tmp_path, mirror_axes=None))
    data = noise(1, 16, 32, 200)
    expected, networks = run(model, data), OpenVINONetworks(model)
    monkeypatch.setattr(openvino_networks.CompiledNetwork, "each", _fail_after(4))
    assert np.std(run(model, data, openvino=networks) - expected) < 0.05 * np.std(expected)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "OpenVINO has failed (RuntimeError: std::bad_alloc): PyTorch runs this model"
    ]
    assert networks.fold(0) is None, "not for the next case either, although it is compiled"


def test_memory_of_feature_maps_is_given_back(tmp_path, monkeypatch):
    released = []
    monkeypatch.setattr(openvino_networks.CompiledNetwork, "release", lambda self: released.append(self))
    monkeypatch.setattr(openvino_networks, "LEAST_VOXELS", 1)
    model = load_model(write_model(tmp_path, folds=3, mirror_axes=None))
    run(model, noise(1, 16, 32, 64), openvino=OpenVINONetworks(model))
    assert len(set(map(id, released))) == 3


def test_a_case_tells_what_ran_its_networks(tmp_path, monkeypatch):
    model = load_model(write_model(tmp_path, mirror_axes=None))
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(0, 300, (16, 40, 40)).astype(np.float32))
    image.SetSpacing((1.5, 1.5, 3.0))
    assert Predictor([model]).segment([image]).engines == ("PyTorch",)
    monkeypatch.setattr(openvino_networks, "LEAST_VOXELS", 1)
    assert Predictor([model]).segment([image]).engines == ("OpenVINO",)
    assert Predictor([model], fidelity="exact").segment([image]).engines == ("PyTorch",)
    monkeypatch.setattr(openvino_networks.CompiledNetwork, "each", _fail_after(1))
    assert Predictor([model]).segment([image]).engines == ("OpenVINO", "PyTorch")


def _fail_after(count):
    real = openvino_networks.CompiledNetwork.each

    def each(self, windows):
        for number, logits in enumerate(real(self, windows)):
            if number >= count:
                raise RuntimeError("std::bad_alloc")
            yield logits

    return each


@pytest.mark.parametrize("fidelity", list(Fidelity))
def test_exact_predictions_are_pytorchs(fidelity, tmp_path):
    predictor = Predictor([load_model(write_model(tmp_path))], "cpu", fidelity)
    assert (predictor._openvino[0] is None) == (fidelity is Fidelity.EXACT)


def test_it_is_imported_without_its_telemetry():
    code = (
        "from unetr_nnunet.inference.openvino_networks import _import_openvino; import sys\n"
        "_import_openvino()\n"
        "assert not any(name.startswith('openvino_telemetry.') for name in sys.modules)\n"
        "from openvino.tools.ovc import telemetry_utils; print(telemetry_utils.tm.__name__)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "openvino.tools.ovc.telemetry_stub"
