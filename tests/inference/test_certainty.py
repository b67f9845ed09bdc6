import numpy as np
import pytest
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from unetr_nnunet.inference import certainty
from unetr_nnunet.inference.certainty import fold_dice, fold_labels, network_labels

PLAIN = LabelManager({"background": 0, "liver": 1, "spleen": 2}, None)
REGIONS = LabelManager({"background": 0, "whole": [1, 2], "core": 2}, [1, 2])


@pytest.mark.parametrize("manager", [PLAIN, REGIONS], ids=["labels", "regions"])
def test_labels_are_nnunets_and_probabilities_the_means_over_their_voxels(
    manager: LabelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certainty, "CHUNK_VALUES", 500)  # several chunks
    logits = 3 * torch.randn(manager.num_segmentation_heads, 9, 10, 11, generator=torch.Generator().manual_seed(0))
    result = network_labels(logits.half(), manager)
    probabilities = np.asarray(manager.apply_inference_nonlin(logits.half().float()))
    expected = np.asarray(manager.convert_probabilities_to_segmentation(probabilities))
    assert np.array_equal(result.labels, expected)
    assert result.labels.dtype == np.uint8
    for integer, probability in result.probabilities.items():
        output = integer - manager.has_regions
        own = probabilities[output] > 0.5 if manager.has_regions else expected == integer
        assert probability == pytest.approx(probabilities[output][own].mean(), abs=1e-4)
    assert set(result.probabilities) == {1, 2}


def test_an_organ_without_a_voxel_has_no_probability() -> None:
    logits = torch.zeros(3, 2, 2, 2)
    logits[1] = 1
    assert set(network_labels(logits, PLAIN).probabilities) == {1}


def test_dice_between_folds() -> None:
    whole = torch.zeros(4, 4, 4, dtype=torch.uint8)
    whole[:2] = 1  # 32 voxels
    half = whole.clone()
    half[1] = 0
    half[3] = 2
    organs = {"liver": (1,), "spleen": (2,), "kidney": (3,), "all": (1, 2)}
    assert fold_dice([whole, whole], organs) == {"liver": 1, "all": 1}
    assert fold_dice([whole, half], organs) == pytest.approx({"liver": 2 / 3, "spleen": 0, "all": 0.5})
    assert fold_dice([whole, half, whole], organs)["liver"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert fold_dice([whole], organs) == {}
    assert fold_dice([torch.zeros_like(whole)] * 2, organs) == {}


def test_the_labels_of_a_fold() -> None:
    logits = torch.randn(3, 4, 5, 6)
    assert torch.equal(fold_labels(logits, PLAIN).long(), logits.argmax(0))
