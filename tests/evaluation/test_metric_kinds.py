import pytest

from unetr_nnunet.evaluation.case_metrics import METRICS
from unetr_nnunet.evaluation.metric_kinds import METRIC_KINDS, is_higher_better


def test_every_metric_of_a_case_has_a_kind() -> None:
    assert set(METRICS) - {"truth_voxels", "prediction_voxels", "overlap_voxels"} == set(METRIC_KINDS)


def test_which_values_are_better() -> None:
    assert is_higher_better("dice")
    assert not is_higher_better("hd95_mm")
    for metric in ("components", "Dice"):
        with pytest.raises(ValueError, match=f"cannot be compared by '{metric}'; take one of dice, iou"):
            is_higher_better(metric)
