import logging

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from tests.inference.small_model import write_model
from tests.inference.test_folder import masks, write_cts
from unetr_nnunet.inference.fidelity import Fidelity
from unetr_nnunet.inference.model import load_model
from unetr_nnunet.inference.prediction import PredictionSettings, predict_folder
from unetr_nnunet.inference.predictor import Predictor


@pytest.fixture
def cts(tmp_path):
    return write_cts(tmp_path / "cts", ["a", "b"])


def test_a_folder_in_python(cts, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    model = write_model(tmp_path / "model", mirror_axes=None)
    shares = []
    summary = predict_folder(
        str(cts), str(tmp_path / "out"), [str(model)], report=lambda cases: lambda case, share: shares.append(case.name)
    )
    assert (summary.written, summary.failed) == (2, ())
    assert set(shares) == {"a", "b"}
    expected = Predictor([load_model(model)]).predict([sitk.ReadImage(str(cts / "a.nii.gz"))])
    np.testing.assert_array_equal(masks(tmp_path / "out")["a.nii.gz"], sitk.GetArrayFromImage(expected))
    assert "nnUNetTrainer, 1 fold(s), arrays in RAS (reader NibabelIOWithReorient)" in caplog.text


def test_settings_reach_the_predictor(cts, tmp_path, monkeypatch):
    made, real = [], Predictor.__init__

    def note(self, models, device, fidelity, **options):
        made.append((len(models[0].parameters), device, fidelity, options["mirroring"], options["scratch"]))
        real(self, models, device, fidelity, **options)

    monkeypatch.setattr(Predictor, "__init__", note)
    settings = PredictionSettings(folds=(1,), device="cpu", fidelity=Fidelity.FAST, mirroring=False, part=(2, 2))
    model = write_model(tmp_path / "model", folds=2)
    assert predict_folder(cts, tmp_path / "out", [model], settings).written == 1
    assert made == [(1, "cpu", Fidelity.FAST, False, tmp_path / "out")]
    assert list(masks(tmp_path / "out")) == ["b.nii.gz"]


@pytest.mark.parametrize("part", [(0, 2), (5, 2), (2, 1)])
def test_wrong_parts(part):
    with pytest.raises(ValueError, match=r"give \(k, n\) for the k-th of n shares"):
        PredictionSettings(part=part)


def test_settings_of_other_types():
    settings = PredictionSettings(folds=0, fidelity="exact", device=torch.device("cpu"))
    assert (settings.folds, settings.fidelity, settings.device) == ((0,), Fidelity.EXACT, "cpu")


def test_one_model_or_none(cts, tmp_path):
    model = write_model(tmp_path / "model", mirror_axes=None, folds=2)
    assert predict_folder(cts / "a.nii.gz", tmp_path / "out", str(model), PredictionSettings(folds=0)).written == 1
    with pytest.raises(ValueError, match="no model to predict with"):
        predict_folder(cts, tmp_path / "other", [])


def test_the_input_is_looked_for_before_the_model_is_loaded(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        predict_folder(tmp_path / "nowhere", tmp_path / "out", [tmp_path / "no model"])


def test_probabilities_of_readers_that_are_not_known_are_refused_before_the_network_runs(cts, tmp_path, monkeypatch):
    class Foreign:
        pass

    model = write_model(tmp_path / "model")
    monkeypatch.setattr(
        "nnunetv2.utilities.plans_handling.plans_handler.PlansManager.image_reader_writer_class", Foreign
    )
    monkeypatch.setattr(Predictor, "segment", lambda *_: pytest.fail("the network ran"))
    with pytest.raises(ValueError, match="probabilities cannot be saved for the image reader Foreign"):
        predict_folder(cts, tmp_path / "out", [model], PredictionSettings(save_probabilities=True))
