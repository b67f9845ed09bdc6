"""All figures of one case: on paper, and where organs are absent, merged, ignored or at the border."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from tests.evaluation.label_map_pairs import ANISOTROPIC_MM, PAIRS, LabelMap, Pair
from unetr_nnunet.evaluation.case_metrics import case_metrics, count_components
from unetr_nnunet.evaluation.metrics import METRICS
from unetr_nnunet.evaluation.protocols import RULES

COLUMNS = {"right_kidney": (2,), "left_kidney": (3,), "liver": (6,)}
SPACING_MM = (5.0, 2.0, 1.0)


def score(truth: LabelMap, prediction: LabelMap, **changes: Any) -> dict[str, dict[str, float]]:
    settings: dict[str, Any] = {
        "columns": COLUMNS,
        "spacing_mm": SPACING_MM,
        "tolerances_mm": dict.fromkeys(changes.get("columns", COLUMNS), 1.0),
        "rule": RULES["nnunet"],
    }
    figures = case_metrics(truth, prediction, **(settings | changes))
    return {column: organ.measured() for column, organ in figures.items()}


def kidneys() -> Pair:
    """A right kidney of 40 voxels, of which 8 are called left and 8 are missed; 4 others are claimed elsewhere."""
    truth, prediction = np.zeros((2, 4, 10, 12), np.uint8)
    truth[0, 0:4, 0:10] = 2
    prediction[0, 0:4, 0:6] = 2
    prediction[0, 0:4, 6:8] = 3
    prediction[3, 8:10, 0:2] = 2
    return truth, prediction


def test_every_figure_on_paper() -> None:
    right = score(*kidneys())["right_kidney"]
    surface = {name: right.pop(name) for name in ("hd95_mm", "assd_mm", "nsd")}
    assert right == pytest.approx(
        {
            "dice": 2 * 24 / (40 + 28),
            "iou": 24 / 44,
            "precision": 24 / 28,
            "recall": 24 / 40,
            "volume_ml": 0.28,  # 28 voxels of 10 mm3
            "true_volume_ml": 0.4,
            "volume_error_ml": -0.12,
            "relative_volume_error": -0.3,
            "components": 2,
            "true_components": 1,
            "swapped": 8 / 40,
            "truth_voxels": 40,
            "prediction_voxels": 28,
            "overlap_voxels": 24,
        },
        abs=1e-12,
    )
    # the second piece is 3 slices (15 mm) away and its rows of two voxels 5 and 6 rows (10 and 12 mm)
    near, far = (15**2 + 10**2) ** 0.5, (15**2 + 12**2) ** 0.5
    assert surface["hd95_mm"] == pytest.approx(
        near + 0.65 * (far - near)
    )  # of 28, the value at place 0.95 * 27 = 25.65
    to_truth = 2 * near + 2 * far
    to_prediction = 4 * (1 + 2 + 3 + 4)  # four rows of voxels that lie 1, 2, 3 and 4 mm beyond
    assert surface["assd_mm"] == pytest.approx((to_truth + to_prediction) / (28 + 40))
    assert 0 < surface["nsd"] < 1


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_mirrored_image_scores_the_same(axes: tuple[int, ...]) -> None:
    truth, prediction = kidneys()  # the organ lies at the image's start, mirrored at its end
    mirrored = score(*(np.flip(np.pad(side, ((0, 1), (0, 2), (0, 3))), axes) for side in (truth, prediction)))
    for column, figures in score(truth, prediction).items():
        assert mirrored[column] == pytest.approx(figures, nan_ok=True, abs=1e-9)


def test_columns_and_metrics_come_in_their_order() -> None:
    scores = score(*kidneys())
    assert list(scores) == list(COLUMNS)
    assert list(scores["right_kidney"]) == list(METRICS)
    assert list(scores["liver"]) == [name for name in METRICS if name != "swapped"]
    assert all(type(value) in (int, float) for figures in scores.values() for value in figures.values())


@pytest.mark.parametrize("rule", RULES.values(), ids=str)
def test_absent_organs(rule: Any) -> None:
    scores = score(*kidneys(), rule=rule)
    for column, agreement in (("left_kidney", rule.truth_absent), ("liver", rule.both_absent)):
        for name in ("dice", "iou", "nsd"):
            assert scores[column][name] == pytest.approx(agreement, nan_ok=True)
        for name in ("hd95_mm", "assd_mm", "recall", "relative_volume_error"):
            assert math.isnan(scores[column][name])
        assert scores[column]["true_components"] == 0
    assert scores["left_kidney"]["components"] == 1
    assert scores["left_kidney"]["precision"] == 0
    assert math.isnan(scores["left_kidney"]["swapped"])
    assert math.isnan(scores["liver"]["precision"])


def test_missed_organ() -> None:
    truth, _ = kidneys()
    right = score(truth, np.zeros_like(truth))["right_kidney"]
    assert (right["dice"], right["nsd"], right["recall"], right["relative_volume_error"]) == (0, 0, 0, -1)
    assert math.isnan(right["hd95_mm"])
    assert math.isnan(right["precision"])


@pytest.mark.parametrize("pair", PAIRS)
def test_a_perfect_prediction(pair: Callable[[], Pair]) -> None:
    truth, _ = pair()
    for figures in score(truth, truth.copy(), columns={"a": (1,), "b": (2,), "c": (3, 4)}).values():
        assert [figures[name] for name in ("dice", "iou", "precision", "recall", "nsd")] == [1] * 5
        assert (figures["hd95_mm"], figures["assd_mm"], figures["volume_error_ml"]) == (0, 0, 0)
        assert figures["components"] == figures["true_components"] > 0


def test_merged_column_equals_a_relabelled_map() -> None:
    truth, prediction = PAIRS[0]()
    merged = score(truth, prediction, columns={"both": (2, 4), "one": (1,)}, spacing_mm=ANISOTROPIC_MM)
    relabelled = (np.where(side == 4, 2, side) for side in (truth, prediction))
    assert merged == score(*relabelled, columns={"both": (2,), "one": (1,)}, spacing_mm=ANISOTROPIC_MM)


def test_labels_in_no_column_are_background() -> None:
    truth, prediction = PAIRS[0]()
    alone = score(truth, prediction, columns={"a": (2,)})
    assert alone == score(*(np.where(side == 2, 2, 0) for side in (truth, prediction)), columns={"a": (2,)})
    assert alone["a"] == score(truth, prediction, columns={"b": (1,), "a": (2,), "c": (3, 4)})["a"]


def test_ignored_voxels_count_nowhere() -> None:
    truth, prediction = kidneys()
    truth[3] = 9
    ignoring = score(truth, prediction, ignore_label=9)
    truth[3] = prediction[3] = 0
    without = score(truth, prediction)
    for column, figures in ignoring.items():
        assert figures == pytest.approx(without[column], nan_ok=True, abs=0)
    assert ignoring["right_kidney"]["components"] == 1


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.int64])
def test_does_not_depend_on_the_integer_type(dtype: type[np.integer]) -> None:
    truth, prediction = PAIRS[0]()
    columns = {"a": (1,), "b": (2,)}
    assert score(truth.astype(dtype), prediction, columns=columns) == score(truth, prediction, columns=columns)


def test_leaves_its_arrays_alone() -> None:
    truth, prediction = kidneys()
    truth[3], before = 9, prediction.copy()
    prediction.flags.writeable = truth.flags.writeable = False
    score(truth, prediction, ignore_label=9)
    np.testing.assert_array_equal(prediction, before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spacing_mm": (1.0, 0.0, 1.0)}, r"spacing is \(1.0, 0.0, 1.0\)"),
        ({"spacing_mm": (1.0, math.nan, 1.0)}, "spacing is"),
        ({"spacing_mm": (1.0, 1.0)}, "spacing is"),
        ({"tolerances_mm": {"right_kidney": 1.0}}, "tolerance of 'left_kidney' is nan"),
        ({"tolerances_mm": dict.fromkeys(COLUMNS, -1.0)}, "tolerance of 'right_kidney' is -1.0"),
        ({"columns": {"a": (1, 2), "b": (2,)}}, "a label is in two columns"),
        ({"columns": {"a": (1,), "b": ()}}, "column 'b' has no label"),
    ],
)
def test_refuses_settings_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(*kidneys(), **changes)


@pytest.mark.parametrize(
    ("truth", "message"),
    [(np.zeros((4, 10, 11), np.uint8), "shape"), (np.full((4, 10, 12), 300), r"truth holds label\(s\) 300")],
)
def test_refuses_label_maps_that_it_cannot_score(truth: LabelMap, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(truth, kidneys()[1])


# ---- components, against SciPy's labelling of each label by itself ----


def test_pieces_that_share_a_corner_are_one() -> None:
    label_map = np.zeros((4, 4, 4), np.uint8)
    label_map[0, 0, 0] = label_map[1, 1, 1] = 1  # corner to corner
    label_map[3, 3, 0] = label_map[3, 3, 2] = 3  # a gap between
    assert count_components(label_map, 4) == [1, 0, 2, 0]


def test_two_organs_that_touch_stay_two() -> None:
    assert count_components(np.array([[[1, 2, 1]]], np.uint8), 2) == [2, 1]


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_equals_scipy_on_random_label_maps(share: float) -> None:
    random = np.random.default_rng(1)
    label_map = np.where(random.random((12, 20, 25)) < share, random.integers(1, 6, (12, 20, 25)), 0).astype(np.uint8)
    expected = [ndimage.label(label_map == label, np.ones((3, 3, 3)))[1] for label in range(1, 7)]
    assert count_components(label_map, 6) == expected
    assert expected[0] > 1
    assert expected[5] == 0


def test_no_label_no_component() -> None:
    assert count_components(np.zeros((2, 3, 4), np.uint8), 2) == [0, 0]
    assert count_components(np.zeros((0, 0, 0), np.uint8), 2) == [0, 0]
