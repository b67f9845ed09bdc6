import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetr_nnunet.planning.patch_search import (
    by,
    candidate_patches,
    in_whole_tokens,
    largest_that_fits,
    sensible_tokens,
    tokens_that_tile,
)

BTCV_MM, BTCV_SHAPE, BTCV_PATCH = (3.0, 0.76, 0.76), (130, 512, 512), (48, 192, 192)  # nnU-Net's own patch
spacings = st.lists(st.floats(0.3, 6.0), min_size=2, max_size=3)
shapes = st.lists(st.integers(4, 1200), min_size=3, max_size=3)


@pytest.mark.parametrize(
    ("spacing_mm", "shape", "tokens"),
    [
        (BTCV_MM, BTCV_SHAPE, [(4, 16, 16), (2, 8, 8)]),
        ((1, 1, 1), (300, 300, 300), [(16, 16, 16), (8, 8, 8)]),
        ((0.76, 3.0, 0.76), (512, 130, 512), [(16, 4, 16), (8, 2, 8)]),
        ((4.1, 2.5, 4.1), (64, 115, 103), [(8, 16, 8), (4, 8, 4), (2, 4, 2)]),  # 40, 20 and 10 mm along the finest axis
        ((0.5, 0.5, 0.5), (300, 300, 300), [(16, 16, 16)]),  # 8 mm; 4 would be less than about that
        ((2, 1, 1), (20, 40, 40), [(4, 8, 8)]),  # 16 voxels would leave 2.5 tokens along the longest axis
        ((1, 1, 1), (12, 12, 12), [(4, 4, 4)]),
        ((0.76, 0.76), (512, 512), [(16, 16), (8, 8)]),
    ],
)
def test_tokens_reach_from_four_along_the_longest_axis_to_about_eight_mm(spacing_mm, shape, tokens):
    assert sensible_tokens(spacing_mm, shape) == tokens


@given(spacings)
def test_a_token_is_at_most_root_two_from_isotropic(spacing_mm):
    for width, token in zip((16, 8, 4), sensible_tokens(spacing_mm, [1000] * len(spacing_mm)), strict=False):
        width_mm = width * min(spacing_mm)
        for length, spacing in zip(token, spacing_mm, strict=True):
            assert length == 1 or 1 / math.sqrt(2) - 1e-9 <= length * spacing / width_mm <= math.sqrt(2) + 1e-9


@pytest.mark.parametrize(
    ("patch_size", "spacing_mm", "tokens"),
    [
        ((96, 96, 16), BTCV_MM, [(4, 16, 16), (2, 8, 8)]),
        ((48, 72, 72), BTCV_MM, [(2, 8, 8)]),  # 16 does not divide 72
        ((32, 32, 32), (1, 1, 1), [(8, 8, 8)]),  # so that there are four along each axis
        ((96, 96, 96), (1, 1, 1), [(16, 16, 16), (8, 8, 8)]),
        ((48, 48, 48), (1, 1, 1), [(8, 8, 8)]),
        ((24, 72, 72), (1, 0.5, 0.5), [(4, 8, 8)]),  # below the sensible length, but the only one
    ],
)
def test_the_tokens_of_a_given_patch(patch_size, spacing_mm, tokens):
    assert tokens_that_tile(patch_size, spacing_mm) == tokens


def test_a_patch_that_no_token_tiles_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"--patch-size 50 100 100: .* 4 x 16 x 16 voxels: take 48 96 96 or 52 112 11"):
        tokens_that_tile((50, 100, 100), BTCV_MM)


def test_candidates_reach_from_twice_nnunets_voxels_to_four_tokens_an_axis():
    patches = candidate_patches(BTCV_PATCH, BTCV_SHAPE, (4, 16, 16))
    assert BTCV_PATCH in patches
    assert patches[-1] == (16, 64, 64)
    assert 1.8 * math.prod(BTCV_PATCH) < math.prod(patches[0]) <= 2 * math.prod(BTCV_PATCH)


def test_no_candidate_is_larger_than_the_image_in_whole_tokens():
    assert candidate_patches((32, 32, 32), (30, 30, 30), (16, 16, 16)) == [(32, 32, 32)]
    assert candidate_patches((64, 128, 112), (64, 115, 103), (4, 8, 4))[0] == (64, 120, 104)


@given(spacings.filter(lambda spacing: len(spacing) == 3), shapes, st.lists(st.floats(0.05, 1), min_size=3, max_size=3))
def test_candidates_change_in_whole_tokens_by_one_axis_at_a_time(spacing_mm, shape, shares):
    token = sensible_tokens(spacing_mm, shape)[0]
    nnunet_patch = [math.ceil(axis * share) for axis, share in zip(shape, shares, strict=True)]
    patches = candidate_patches(nnunet_patch, shape, token)
    assert in_whole_tokens(nnunet_patch, shape, token) in patches
    assert all(np.all(np.mod(patch, token) == 0) and min(patch) > 0 for patch in patches)
    assert all(np.all(np.array(patch) - shape < token) for patch in patches), "more padding than a token"
    for larger, smaller in itertools.pairwise(patches):
        assert sorted(np.subtract(larger, smaller) // token) == [0, 0, 1]


def test_patches_keep_the_shape_of_the_image_as_nnunets_do():
    """nnU-Net takes from the axis that covers most of the median image; larger patches gain where least is covered."""
    shape = np.array([500, 256, 256])
    patches = candidate_patches((192, 96, 96), shape, (16, 16, 16))
    start = patches.index((192, 96, 96))
    assert start not in (0, len(patches) - 1)
    for place, (larger, smaller) in enumerate(itertools.pairwise(patches)):
        axis = int(np.argmax(np.subtract(larger, smaller)))
        if place < start:
            assert (smaller / shape)[axis] == (smaller / shape).min()
        else:
            assert (larger / shape)[axis] == (larger / shape)[np.array(larger) > 64].max()


def shares(sizes, budget, growth):
    asked = []

    def used(index):
        asked.append(index)
        return growth(sizes[index]) / budget

    return used, asked


@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=60, unique=True),
    st.floats(0.1, 2e6),
    st.sampled_from([lambda size: size, lambda size: size**1.3 / 10, lambda size: 40 * size**0.7]),
    st.integers(0, 59),
)
def test_the_largest_that_fits_is_found(sizes, budget, growth, first):
    sizes = sorted(sizes, reverse=True)
    used, asked = shares(sizes, budget, growth)
    fitting = [index for index, size in enumerate(sizes) if growth(size) / budget <= 1]
    assert largest_that_fits(sizes, used, min(first, len(sizes) - 1)) == (fitting[0] if fitting else None)
    assert len(asked) == len(set(asked)), "each size is estimated once"


def test_linear_growth_takes_few_estimates():
    sizes = list(range(10000, 10, -10))
    used, asked = shares(sizes, 7 * 4321, lambda size: 7 * size)
    assert sizes[largest_that_fits(sizes, used, len(sizes) - 1)] == 4320
    assert len(asked) <= 4


def test_nothing_fits_where_there_is_no_budget_at_all():
    assert largest_that_fits([3, 2, 1], lambda index: math.inf, 1) is None


def test_by():
    assert by((3.0, 0.76), 2) == "3.00 x 0.76"
    assert by((96, 96, 16)) == "96 x 96 x 16"
