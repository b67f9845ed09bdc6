"""The whole predict command beside nnU-Net's own predictor, where shortcuts would lose something.

The networks' answers are known by construction; the label maps are those of the command in its default mode.
"""

import csv

import numpy as np
import pytest
import SimpleITK as sitk

from tests.inference.known_networks import write_known_model
from tests.inference.small_model import DATASET, REGIONS, write_model
from tests.inference.test_predictor import stock
from unetr_nnunet.cli.main import main

SPACING = (3.0, 1.5, 1.5)
"""That of the networks, so that nothing is resampled."""
TISSUE = ((0, 0, 1.0), (1, 0, 0), (-9, 0, -9), (-9, 0, -9))
"""Label 1 above 100 HU, background below."""


def write_image(path, voxels, spacing=SPACING):
    image = sitk.GetImageFromArray(voxels.astype(np.int16))
    image.SetSpacing(spacing[::-1])
    image.SetDirection(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation("RAS"))
    sitk.WriteImage(image, str(path))
    return path


def in_ras(path):
    return sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), "RAS"))


def predict(image, model, *options):
    output = image.parent / ("out" + "".join(options).replace("--", "-"))
    assert main(["predict", "-i", str(image), "-o", str(output), "-m", str(model), "--device", "cpu", *options]) == 0
    return in_ras(output / image.name)


def nnunets(image, model, folds=(0,)):
    mask, _ = stock(model, image, folds)
    return sitk.GetArrayFromImage(sitk.DICOMOrient(mask, "RAS"))


@pytest.fixture(autouse=True, params=["PyTorch", pytest.param("OpenVINO", marks=pytest.mark.slow)])
def engine(request, monkeypatch):
    """What runs the network, whatever the size of the image."""
    monkeypatch.setattr(
        "unetr_nnunet.inference.openvino_networks.LEAST_VOXELS", 1 if request.param == "OpenVINO" else 2**62
    )


@pytest.fixture
def float32(monkeypatch):
    """No bfloat16, for tests of where the network looks whose logits are close."""
    monkeypatch.setattr("unetr_nnunet.inference.openvino_networks.cpu_has_bfloat16", lambda: False)
    monkeypatch.setattr("unetr_nnunet.inference.sliding_window.cpu_has_bfloat16", lambda: False)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_small_target_wherever_it_lies_between_the_windows(axis, tmp_path):
    """The network needs tissue on all sides of it, which a window's edge takes away."""
    lines = ((0, 0, 0), (1, 10, -12), (-9, 0, -99), (-9, 0, -99))  # target 3, around it 1: 3 + 10 > 12
    model = write_known_model(tmp_path / "model", [lines], mirror_axes=None)
    shape = [16, 32, 32]
    shape[axis] = 200
    voxels, starts = np.full(shape, 100), list(range(8, 188, 11))
    for start in starts:
        box = [slice(length // 2 - 2, length // 2 + 2) for length in shape]
        box[axis] = slice(start, start + 4)
        voxels[tuple(box)] = 300
    image = write_image(tmp_path / "ct.nii.gz", voxels)
    expected = nnunets(image, model)
    count = [np.count_nonzero(expected.take(range(start, start + 4), axis)) for start in starts]
    assert min(count) > 0, "nnU-Net finds all of them"
    np.testing.assert_array_equal(predict(image, model), expected)
    np.testing.assert_array_equal(predict(image, model, "--exact"), expected)


@pytest.mark.usefixtures("float32")
def test_what_fast_may_miss(tmp_path):
    """A target at the seam of two windows of the first pass, seen from the middle of the window between them only."""
    lines = ((0, 0, 0), (1, 40, -75), (-9, 0, -99), (-9, 0, -99))
    model = write_known_model(tmp_path / "model", [lines], mirror_axes=None)
    voxels = np.full((48, 64, 64), 100)
    voxels[22:26, 30:34, 30:34] = 300
    image = write_image(tmp_path / "ct.nii.gz", voxels)
    expected = nnunets(image, model)
    assert np.count_nonzero(expected) > 0
    np.testing.assert_array_equal(predict(image, model), expected)
    assert np.count_nonzero(predict(image, model, "--fast")) == 0, "as --fast says: this shows that the test can fail"


@pytest.mark.parametrize("seeing", range(5))
def test_a_target_that_only_one_of_five_folds_sees(seeing, tmp_path):
    blind, sharp = ((0, 0, 1), (0, 0, 0), (0, 0, -9), (0, 0, -9)), ((0, 0, 1), (10, 0, -10), (0, 0, -9), (0, 0, -9))
    model = write_known_model(tmp_path / "model", [sharp if fold == seeing else blind for fold in range(5)])
    voxels = np.zeros((32, 64, 64))
    voxels[14:18, 30:34, 30:34] = 300
    image = write_image(tmp_path / "ct.nii.gz", voxels)
    for options in ((), ("--fast",), ("--exact",)):
        np.testing.assert_array_equal(predict(image, model, *options), voxels > 0)


@pytest.mark.usefixtures("float32")
def test_a_sheet_between_two_organs_that_wins_at_no_voxel_of_the_network(tmp_path):
    """Logits are lines of an upper envelope over HU; between 100 and 300 interpolation passes 200, the sheet's HU."""
    envelope = ((0, 0, 0.0), (1, 0, -0.5), (2, 0, -1.8), (3, 0, -4.5))  # bends at 50, 130 and 270 HU
    model = write_known_model(tmp_path / "model", [envelope], mirror_axes=None, spacing=[3.0, 3.0, 3.0])
    voxels = np.zeros((24, 64, 64))
    voxels[4:20, 16:48, 16:32] = 100
    voxels[4:20, 16:48, 32:48] = 300
    image = write_image(tmp_path / "ct.nii.gz", voxels, (3.0, 1.5, 1.5))
    expected = nnunets(image, model)
    assert np.count_nonzero(expected == 2) > 100
    assert np.mean(predict(image, model) == expected) > 0.9999
    assert np.count_nonzero(predict(image, model, "--fast") == 2) == np.count_nonzero(expected == 2)


LUNG = ((0, 0, 0), (1, 0, 9.2), (-9, 0, -99), (-9, 0, -99))
"""Label 1 above -920 HU."""


def bodies(kind):
    voxels = np.full((20, 90, 100), -1000)
    if kind == "lungs only":
        voxels[4:16, 20:70, 10:40] = voxels[4:16, 20:70, 60:90] = -850
    elif kind == "a chest in a small field of view":
        voxels[:] = -850
        voxels[:, 40:50, 45:55] = 50
    elif kind == "arms at the side":
        voxels[:, 20:70, 30:70] = 50
        voxels[:, 40:50, 2:8] = voxels[:, 40:50, 92:98] = 30
    elif kind == "two bodies":
        voxels[:, 5:35, 5:35] = voxels[:, 55:85, 65:95] = 50
    elif kind == "a small body beside a large one":
        voxels[:, 20:85, 30:95] = 50
        voxels[8:10, 3:6, 3:6] = 50
    return voxels


@pytest.mark.parametrize(
    "kind",
    [
        "lungs only",
        "a chest in a small field of view",
        "arms at the side",
        "two bodies",
        "a small body beside a large one",
    ],
)
@pytest.mark.parametrize("options", [(), ("--fast",)])
def test_bodies_of_every_kind(kind, options, tmp_path):
    model = write_known_model(tmp_path / "model", [LUNG], mirror_axes=None)
    voxels = bodies(kind)
    image = write_image(tmp_path / "ct.nii.gz", voxels)
    np.testing.assert_array_equal(nnunets(image, model), voxels > -920)
    np.testing.assert_array_equal(predict(image, model, *options), voxels > -920)


def test_a_label_that_reaches_into_the_air(tmp_path):
    """The network calls everything organ that is not tissue, so the air must be looked at after all."""
    lines = ((0, 0, 0), (-1, 0, -9), (-9, 0, -99), (-9, 0, -99))
    model = write_known_model(tmp_path / "model", [lines], mirror_axes=None)
    voxels = np.full((20, 120, 120), -1000)
    voxels[5:15, 50:70, 50:70] = 50
    image = write_image(tmp_path / "ct.nii.gz", voxels)
    np.testing.assert_array_equal(predict(image, model), voxels < -900)


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("shape", [(16, 32, 32), (10, 20, 28)])
@pytest.mark.parametrize("dataset", [DATASET, DATASET | REGIONS], ids=["labels", "regions"])
def test_an_image_of_a_single_window_sees_every_view(shape, dataset, tmp_path):
    """Random weights answer differently to each view."""
    model = write_model(tmp_path / "model", dataset=dataset)
    image = write_image(tmp_path / "ct.nii.gz", np.random.default_rng(0).normal(80, 120, shape))
    expected = nnunets(image, model)
    assert len(np.unique(expected)) > 2
    assert np.mean(predict(image, model) == expected) > 0.999
    assert np.mean(predict(image, model, "--disable-tta") == expected) < 0.99


@pytest.mark.parametrize("scale", [1e3, 1e30])
def test_logits_beyond_float16(scale, tmp_path):
    """nnU-Net adds up in float16 and finds nothing."""
    model = write_known_model(tmp_path / "model", [TISSUE], scale=scale)
    voxels = np.zeros((32, 64, 64))
    voxels[10:20, 20:40, 20:40] = 300
    image = write_image(tmp_path / "ct.nii.gz", voxels)
    np.testing.assert_array_equal(predict(image, model), voxels > 100)
    assert np.mean(predict(image, model, "--save-probabilities") == (voxels > 100)) == 1


@pytest.mark.parametrize("option", [(), ("--exact",), ("--save-probabilities",)])
def test_what_is_not_finite_fails_its_case(option, tmp_path, capsys):
    model = write_known_model(tmp_path / "model", [((0, 0, 1), (1, 0, 0), (0, 0, 0), (0, 0, 0))], scale=2e38)
    image = write_image(tmp_path / "ct.nii.gz", np.full((16, 32, 32), 300))
    words = ["predict", "-i", str(image), "-o", str(tmp_path / "out"), "-m", str(model), "--device", "cpu", *option]
    assert main(words) == 1
    ((case, _, reason),) = list(csv.reader((tmp_path / "out" / "failed.csv").read_text().splitlines()))[1:]
    assert case == "ct"
    assert reason.startswith("the network's output is not finite: its weights are damaged, or the image's values are")
    assert not (tmp_path / "out" / "ct.nii.gz").exists()
    assert "0 of 1 cases written" in capsys.readouterr().out
