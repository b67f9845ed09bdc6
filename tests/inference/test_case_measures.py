import numpy as np
import pytest
import torch

from tests.inference.small_model import DATASET, REGIONS, plans, write_model
from tests.inference.test_predictor import ct
from unetr_nnunet.inference.case_measures import measure_case
from unetr_nnunet.inference.label_map import LogitsOnImage
from unetr_nnunet.inference.memory import Arrays
from unetr_nnunet.inference.model import load_model
from unetr_nnunet.inference.model_set import ModelSet
from unetr_nnunet.inference.predictor import Predictor
from unetr_nnunet.inference.preparation import Prepared


def case(model, part_start=0):
    """Return logits of a spleen of 2 x 4 x 6 voxels at the first slice of a part, a kidney, and a speck of spleen."""
    logits = torch.zeros(4, 10, 20, 30)
    logits[0] = 2
    logits[1, :2, 4:8, 10:16] = 4
    logits[2, 5:7, 4:8, 20:26] = 3
    logits[1, 9, 19, 29] = 3
    prepared = Prepared(
        data=torch.full((1, 10 + part_start, 20, 30), 0.5),
        part=((part_start, 10 + part_start), (0, 20), (0, 30)),
        network_shape=(10 + part_start, 20, 30),
        network_spacing_mm=(3.0, 1.5, 1.5),
        crop=(slice(0, 10 + part_start), slice(5, 25), slice(5, 35)),
        image_shape=(10 + part_start, 30, 40),
        spacing_mm=(3.0, 1.5, 1.5),
    )
    return LogitsOnImage(logits, prepared, model.resampling, model.labels, Arrays(0))


@pytest.fixture
def model(tmp_path):
    return load_model(write_model(tmp_path / "model"))


def test_what_is_measured_of_known_logits(model):
    measures = measure_case(case(model), model, [], np.asarray)
    assert set(measures.organs) == {"spleen", "right_kidney"}
    spleen = measures.organs["spleen"]
    assert spleen.volume_ml == pytest.approx(49 * 3 * 1.5 * 1.5 / 1000)
    assert spleen.mean_hu == pytest.approx(0.5 * 120 + 80)  # as the plans normalise
    assert (spleen.parts, spleen.at_border) == (1, True)
    kidney = measures.organs["right_kidney"]
    assert not kidney.at_border
    difference = np.subtract(kidney.place_mm, spleen.place_mm)
    assert difference == pytest.approx((-15, 0, 15), abs=1.5)  # arrays in RAS: x to the right, z to the head
    odds = np.exp(2) / (np.exp(2) + 2 + np.exp(4))
    assert measures.probabilities["spleen"] == pytest.approx(1 - odds - 2 * np.exp(-2) * odds, abs=0.02)
    assert set(measures.probabilities) == {"spleen", "right_kidney"}
    assert measures.fold_dice == {}


def test_the_edge_of_the_body_is_not_the_border_of_the_image(model):
    assert not measure_case(case(model, part_start=3), model, [], np.asarray).organs["spleen"].at_border


def test_what_postprocessing_removes_is_not_measured(model):
    measures = measure_case(case(model), model, [], ModelSet((), None, (1,)).postprocess)
    assert measures.organs["spleen"].volume_ml == pytest.approx(48 * 3 * 1.5 * 1.5 / 1000)
    assert set(measure_case(case(model), model, [], lambda labels: labels * (labels != 2)).probabilities) == {"spleen"}


@pytest.mark.parametrize("regions", [False, True], ids=["labels", "regions"])
def test_folds_are_compared_where_there_are_several(regions, tmp_path):
    turned = {"transpose_forward": [1, 2, 0], "transpose_backward": [2, 0, 1], "spacing": (1.5, 1.5, 3)}
    folder = write_model(tmp_path, plans(**turned) if regions else plans(), DATASET | REGIONS if regions else None, 2)
    measures = Predictor([load_model(folder)]).segment([ct("LPS")]).measures
    assert set(measures.fold_dice) == set(measures.organs) == set(measures.probabilities)
    assert all(0 <= dice < 1 for dice in measures.fold_dice.values())
    assert any(measures.fold_dice.values())
    assert Predictor([load_model(folder, 0)]).segment([ct("LPS")]).measures.fold_dice == {}


def test_several_models_have_the_measures_of_the_first(tmp_path):
    image = ct("LPS")
    models = [load_model(write_model(tmp_path / str(seed), seed=seed)) for seed in (0, 5)]
    alone = Predictor(models[:1]).segment([image]).measures
    assert Predictor(models).segment([image]).measures == alone
    assert Predictor(models[::-1]).segment([image]).measures != alone
