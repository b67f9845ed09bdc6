"""Left-right swaps: pairs by name, shares on paper."""

import math

import numpy as np
import pytest

from unetr_nnunet.evaluation.overlap import joint_histogram
from unetr_nnunet.evaluation.swaps import find_partners, swapped_share
from unetr_nnunet.organs import ORGANS


def test_btcv_has_two_pairs() -> None:
    assert find_partners(organ.name for organ in ORGANS) == {
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
