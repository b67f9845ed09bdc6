import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import nn

from tests.inference.small_model import plans, write_model
from unetr_nnunet.inference.memory import Arrays
from unetr_nnunet.inference.model import load_model
from unetr_nnunet.inference.sliding_window import Placement, SlidingWindow

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
    found = run(load_model(folder, None), data, exact=True)
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


def test_slices(tmp_path):
    folder = write_model(tmp_path, plans(patch=(32, 32), spacing=(1.5, 1.5)), mirror_axes=(0, 1))
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), (0,))
    data = noise(1, 5, 50, 40)
    expected = predictor.predict_logits_from_preprocessed_data(data).float().numpy()
    found = run(load_model(folder, None), data, exact=True)
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


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
        labels = run(model, data).argmax(0)
        np.testing.assert_array_equal(labels == 1, (data[0] > 100).numpy())
        counts.append(model.network.windows)
    model.network = _Counting()
    run(model, torch.zeros(1, 64, 128, 128), exact=True)
    assert model.network.windows == 7**3 * 8
    assert counts[0] == 4**3, "the first pass has no overlap"
    assert counts[0] < counts[1] <= counts[0] + 2 * 27


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


def test_smaller_placements_end_on_the_cpu():
    placement, words = Placement(torch.device("cuda"), torch.device("cuda")), []
    while (smaller := placement.smaller()) is not None:
        placement = smaller[0]
        words.append(smaller[1])
    assert placement.device.type == "cpu"
    assert len(words) == 3
