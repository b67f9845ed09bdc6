import math

import pytest

from unetr_nnunet.evaluation.case_metrics import METRICS
from unetr_nnunet.evaluation.metric_kinds import METRIC_KINDS, figure_read, is_higher_better


def test_every_metric_of_a_case_has_a_kind() -> None:
    assert set(METRICS) - {"truth_voxels", "prediction_voxels", "overlap_voxels"} == set(METRIC_KINDS)


def test_which_values_are_better() -> None:
    assert is_higher_better("dice")
    assert not is_higher_better("hd95_mm")
    for metric in ("components", "Dice"):
        with pytest.raises(ValueError, match=f"cannot be compared by '{metric}'; take one of dice, iou"):
            is_higher_better(metric)


def test_figures_that_no_case_can_score() -> None:
    assert math.isnan(figure_read("dice", None))
    assert math.isnan(figure_read("hd95_mm", math.nan))
    assert (figure_read("dice", 1), figure_read("hd95_mm", 200.5)) == (1, 200.5)
    for metric, value in (("nsd", 1.01), ("swapped", -0.5), ("hd95_mm", math.inf)):
        with pytest.raises(ValueError, match=f"{metric} is {value}, which no case can score"):
            figure_read(metric, value)
    with pytest.raises(TypeError, match="dice is True, which is no number"):
        figure_read("dice", True)
