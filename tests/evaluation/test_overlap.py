"""Overlap, Dice and left-right swaps: fractions on paper, MONAI's figures, and properties of any label maps."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from unetr_nnunet.evaluation.overlap import find_partners, joint_histogram, overlap_figures, swapped_share
from unetr_nnunet.evaluation.protocols import RULES, AbsentOrganRule
from unetr_nnunet.organs import ORGANS as BTCV_ORGANS

LabelMap = npt.NDArray[np.uint8]
ORGANS = {"spleen": 1, "liver": 2, "aorta": 3}
LABEL_MAPS = hypothesis_numpy.arrays(np.uint8, (2, 3, 4), elements=st.integers(0, 3))


def organ_overlap(
    truth: npt.NDArray[np.integer],
    prediction: npt.NDArray[np.integer],
    organs: Mapping[str, int],
    rule: AbsentOrganRule = RULES["nnunet"],
) -> dict[str, dict[str, float]]:
    histogram = joint_histogram(truth, prediction, max(organs.values()))
    return {name: overlap_figures(histogram, (label,), rule).measured() for name, label in organs.items()}


def box(shape: tuple[int, int, int], **slices: tuple[int, slice, slice, slice]) -> LabelMap:
    volume = np.zeros(shape, np.uint8)
    for label, *where in slices.values():
        volume[tuple(where)] = label
    return volume


def test_dice_is_the_fraction_on_paper() -> None:
    everywhere = slice(None)
    truth = box((4, 6, 6), a=(1, slice(0, 2), everywhere, everywhere), b=(2, slice(3, 4), everywhere, everywhere))
    prediction = box((4, 6, 6), a=(1, slice(1, 2), everywhere, everywhere), b=(2, slice(2, 4), everywhere, everywhere))
    scores = organ_overlap(truth, prediction, ORGANS)
    assert scores["spleen"] == {
        "dice": pytest.approx(2 / 3, abs=1e-15),  # 72 voxels against 36, 36 in common: 2 * 36 / 108
        "iou": 1 / 2,
        "precision": 1,
        "recall": 1 / 2,
        "truth_voxels": 72,
        "prediction_voxels": 36,
        "overlap_voxels": 36,
    }
    assert scores["liver"]["dice"] == pytest.approx(2 / 3, abs=1e-15)
    assert math.isnan(scores["aorta"]["dice"])


def test_two_cubes_shifted_by_one_voxel() -> None:
    truth, prediction = (box((3, 6, 6), a=(1, slice(0, 3), slice(1, 4), slice(s, s + 3))) for s in (1, 2))
    scores = organ_overlap(truth, prediction, {"spleen": 1})
    assert scores["spleen"]["dice"] == pytest.approx(2 / 3, abs=1e-15)  # 18 of 27 voxels in common


@pytest.mark.parametrize(
    ("rule", "both", "truth_only", "prediction_only"),
    [
        ("nnunet", math.nan, 0, 0),
        ("unetr", 0, 0, 0),
        ("unetr_plus_plus", 1, 0, 0),
        ("transunet", 0, 0, 1),
    ],
)
def test_absent_organs_follow_the_rule(rule: str, both: float, truth_only: float, prediction_only: float) -> None:
    truth, prediction = np.array([[[0, 1, 0]]], np.uint8), np.array([[[0, 2, 2]]], np.uint8)
    scores = organ_overlap(truth, prediction, ORGANS, RULES[rule])
    for figure in ("dice", "iou"):
        assert [scores[organ][figure] for organ in ORGANS] == pytest.approx(
            [truth_only, prediction_only, both], nan_ok=True, abs=0
        )
    assert [scores[organ]["precision"] for organ in ORGANS] == pytest.approx([math.nan, 0, math.nan], nan_ok=True)
    assert [scores[organ]["recall"] for organ in ORGANS] == pytest.approx([0, math.nan, math.nan], nan_ok=True)


def realistic_pair() -> tuple[LabelMap, LabelMap]:
    """Thirteen boxes of CT-like extent, the prediction shifted, with one organ missed and one invented."""
    random = np.random.default_rng(5)
    truth = np.zeros((40, 128, 128), np.uint8)
    for label in range(1, 13):
        z, y, x = random.integers((0, 0, 0), (30, 100, 100))
        truth[z : z + 10, y : y + 25, x : x + 25] = label
    prediction = np.roll(truth, (1, 2, -3), (0, 1, 2))
    prediction[prediction == 4] = 0
    prediction[0, :3, :3] = 13
    return truth, prediction


def random_pair() -> tuple[LabelMap, LabelMap]:
    random = np.random.default_rng(6)
    truth, prediction = random.integers(0, 14, (2, 9, 30, 31), np.uint8)
    truth[truth == 7] = 0
    prediction[prediction == 7] = 0
    return truth, prediction


@pytest.mark.parametrize("pair", [realistic_pair, random_pair])
def test_dice_equals_monai_where_both_define_it(pair: Callable[[], tuple[LabelMap, LabelMap]]) -> None:
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    truth, prediction = pair()
    organs = {str(label): label for label in range(1, 14)}
    one_hot = [
        torch.stack([torch.from_numpy(volume == label) for label in range(14)])[None] for volume in (prediction, truth)
    ]
    ours = organ_overlap(truth, prediction, organs)
    both_empty_is_one = organ_overlap(truth, prediction, organs, RULES["unetr_plus_plus"])
    for ignore_empty in (True, False):  # where truth is empty: NaN, or 1 if the prediction is empty too and else 0
        theirs = metrics.DiceMetric(include_background=False, reduction="none", ignore_empty=ignore_empty)(*one_hot)[0]
        for organ, expected in zip(organs, theirs.tolist(), strict=True):
            if ours[organ]["truth_voxels"]:
                assert ours[organ]["dice"] == pytest.approx(expected, abs=1e-6)
            elif ignore_empty:
                assert math.isnan(expected)
            else:
                assert both_empty_is_one[organ]["dice"] == pytest.approx(expected, abs=1e-6)
    assert any(not scores["truth_voxels"] for scores in ours.values())


@pytest.mark.parametrize("pair", [realistic_pair, random_pair])
def test_equals_simpleitk(pair: Callable[[], tuple[LabelMap, LabelMap]]) -> None:
    truth, prediction = pair()
    measures = sitk.LabelOverlapMeasuresImageFilter()
    measures.Execute(sitk.GetImageFromArray(prediction), sitk.GetImageFromArray(truth))
    compared = 0
    for organ, figures in organ_overlap(truth, prediction, {str(label): label for label in range(1, 14)}).items():
        if figures["truth_voxels"] and figures["prediction_voxels"]:
            label = int(organ)
            assert figures["dice"] == pytest.approx(measures.GetDiceCoefficient(label), abs=1e-6)
            assert figures["iou"] == pytest.approx(measures.GetJaccardCoefficient(label), abs=1e-6)
            assert figures["recall"] == pytest.approx(1 - measures.GetFalseNegativeError(label), abs=1e-6)
            assert figures["precision"] == pytest.approx(1 - measures.GetFalseDiscoveryRate(label), abs=1e-6)
            compared += 1
    assert compared >= 11


def test_merged_labels_are_one_structure() -> None:
    truth, prediction = np.array([[[1, 1, 2, 2, 0]]], np.uint8), np.array([[[2, 1, 1, 3, 3]]], np.uint8)
    histogram = joint_histogram(truth, prediction, 3)
    figures = overlap_figures(histogram, (1, 2), RULES["nnunet"]).measured()
    assert (figures["truth_voxels"], figures["prediction_voxels"], figures["overlap_voxels"]) == (4, 3, 3)
    assert figures["dice"] == pytest.approx(6 / 7)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64])
def test_counts_do_not_depend_on_the_integer_type(dtype: type[np.integer]) -> None:
    truth = np.array([[[0, 15, 15, 255]]], dtype)
    histogram = joint_histogram(truth, truth[..., ::-1].astype(np.int64), 255)
    assert np.argwhere(histogram).tolist() == [[0, 255], [15, 15], [255, 0]]
    assert histogram[15, 15] == 2


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        ([[[0, 1]]], [[[0, 7]]], r"prediction holds label\(s\) 7"),
        ([[[-1, 1]]], [[[0, 1]]], r"truth holds label\(s\) -1"),
        ([[[0, 9]]], [[[0, 1]]], r"truth holds label\(s\) 9"),
        ([[[0, 1]]], [[[0, 1, 1]]], r"shape \(1, 1, 2\).*\(1, 1, 3\)"),
        (np.zeros((0, 2, 2), int), np.zeros((0, 2, 2), int), "no voxels"),
    ],
)
def test_refuses_what_it_cannot_score(truth: object, prediction: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        organ_overlap(np.array(truth), np.array(prediction), {"spleen": 1, "liver": 3})


@settings(max_examples=60)
@given(LABEL_MAPS, LABEL_MAPS)
def test_symmetric_bounded_and_equal_to_set_arithmetic(left: LabelMap, right: LabelMap) -> None:
    there = organ_overlap(left, right, ORGANS)
    back = organ_overlap(right, left, ORGANS)
    for organ, label in ORGANS.items():
        a, b = set(np.flatnonzero(left == label)), set(np.flatnonzero(right == label))
        expected = 2 * len(a & b) / (len(a) + len(b)) if a or b else math.nan
        assert there[organ]["dice"] == pytest.approx(expected, nan_ok=True, abs=1e-12)
        assert back[organ]["dice"] == pytest.approx(expected, nan_ok=True, abs=1e-12)
        assert not a or organ_overlap(left, left, ORGANS)[organ]["dice"] == 1


def test_btcv_has_two_pairs() -> None:
    assert find_partners(organ.name for organ in BTCV_ORGANS) == {
        "right_kidney": "left_kidney",
        "left_kidney": "right_kidney",
        "right_adrenal_gland": "left_adrenal_gland",
        "left_adrenal_gland": "right_adrenal_gland",
    }


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("kidney_left", "kidney_right"),  # TotalSegmentator
        ("left kidney", "right kidney"),  # AMOS22
        ("Left_Head_of_Femur", "Right_Head_of_Femur"),
        ("lung_upper_lobe_left", "lung_upper_lobe_right"),
    ],
)
def test_pairs_of_other_data_sets(left: str, right: str) -> None:
    assert find_partners([left, "liver", right]) == {left: right, right: left}


def test_one_side_alone_is_no_pair() -> None:
    assert find_partners(["left_kidney", "right_adrenal_gland", "adrenal_glands", "cleft", "cright"]) == {}


def test_share_is_the_fraction_on_paper() -> None:
    truth = np.array([[[2] * 10 + [3] * 4 + [0] * 2]], np.uint8)
    prediction = np.array([[[2] * 6 + [3] * 3 + [0] + [3] * 3 + [2] + [3] * 2]], np.uint8)
    histogram = joint_histogram(truth, prediction, 3)
    assert swapped_share(histogram, (2,), (3,)) == 3 / 10  # the tenth is missed, not swapped
    assert swapped_share(histogram, (3,), (2,)) == 1 / 4  # false positives over background are no swap


def test_absent_organ_has_no_share() -> None:
    empty = np.zeros((1, 1, 5), np.uint8)
    assert math.isnan(swapped_share(joint_histogram(empty, empty, 3), (2,), (3,)))
