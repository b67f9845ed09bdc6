from collections import Counter, defaultdict
from itertools import product

import numpy as np
import pytest
from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

from unetr_nnunet.inference.windows import all_views, place_windows


def test_every_view_of_nnunets_windows():
    windows = place_windows((40, 50, 70), (16, 32, 32), (0, 1, 2), every_view=True)
    steps = compute_steps_for_sliding_window((40, 50, 70), (16, 32, 32), 0.5)
    assert [window.start for window in windows] == list(product(*steps))
    assert all(window.views == all_views((0, 1, 2)) for window in windows)
    assert len(all_views((0, 1, 2))) == 8
    assert all_views(()) == ((),)


def test_inside_an_image_every_view_is_seen_four_times():
    windows = place_windows((64, 64, 64), (16, 16, 16), (0, 1, 2))
    over_a_voxel = [window for window in windows if all(start <= 30 < start + 16 for start in window.start)]
    seen = Counter(view for window in over_a_voxel for view in window.views)
    assert set(seen) == set(all_views((0, 1, 2)))
    assert set(seen.values()) == {4}


def views_by_place(windows):
    places = defaultdict(list)
    for window in windows:
        places[window.start] += window.views
    return places


@pytest.mark.parametrize("axes", [(0, 2), (0, 1, 2)])
def test_a_window_has_half_of_the_views_each_axis_mirrored_as_often_as_not(axes):
    for views in views_by_place(place_windows((64, 40, 64), (16, 16, 16), axes)).values():
        assert len(set(views)) == len(views) == 2 ** (len(axes) - 1)
        assert set(Counter(axis for view in views for axis in view).values()) == {len(views) // 2}


def test_few_mirror_axes():
    for views in views_by_place(place_windows((40, 40, 40), (16, 16, 16), ())).values():
        assert views == [()]
    for views in views_by_place(place_windows((40, 40, 40), (16, 16, 16), (1,))).values():
        assert sorted(views) == [(), (1,)]


def test_axes_that_may_not_be_mirrored_are_not():
    windows = place_windows((40, 40, 40), (16, 16, 16), (1,))
    assert {axis for window in windows for view in window.views for axis in view} == {1}


@pytest.mark.parametrize("shape", [(16, 16, 16), (17, 40, 41), (100, 33, 64)])
def test_the_first_pass_covers_the_image(shape):
    covered = np.zeros(shape, int)
    windows = place_windows(shape, (16, 16, 16), (0, 1, 2))
    for window in windows:
        if window.is_first:
            covered[tuple(slice(start, start + 16) for start in window.start)] += 1
    assert covered.min() >= 1
    assert sum(window.is_first for window in windows) <= np.prod([np.ceil(length / 16) + 1 for length in shape])
