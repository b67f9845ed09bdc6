"""Numbers of components, against SciPy's labelling of each label by itself."""

import numpy as np
import pytest
from scipy import ndimage

from unetr_nnunet.evaluation.components import count_components


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
