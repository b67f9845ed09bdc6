import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetr_nnunet.planning.patch_search import (
    NNUNET_LARGEST,
    by,
    candidate_patches,
    largest_that_fits,
    near_isotropic_token,
    token_that_tiles,
)

BTCV_MM, BTCV_SHAPE = (3.0, 0.76, 0.76), (130, 512, 512)
spacings = st.lists(st.floats(0.3, 6.0), min_size=2, max_size=3)
shapes = st.lists(st.integers(4, 1200), min_size=3, max_size=3)


@pytest.mark.parametrize(
    ("spacing_mm", "shape", "token"),
    [
        (BTCV_MM, BTCV_SHAPE, (4, 16, 16)),
        ((1, 1, 1), (300, 300, 300), (16, 16, 16)),
        ((0.76, 3.0, 0.76), (512, 130, 512), (16, 4, 16)),
        ((2, 1, 1), (20, 40, 40), (4, 8, 8)),  # 16 voxels would leave 2.5 tokens along the longest axis
        ((1, 1, 1), (12, 12, 12), (4, 4, 4)),
        ((0.76, 0.76), (512, 512), (16, 16)),
    ],
)
def test_tokens_are_near_isotropic_and_at_least_four_along_the_longest_axis(spacing_mm, shape, token):
    assert near_isotropic_token(spacing_mm, shape) == token


@given(spacings)
def test_a_token_is_at_most_root_two_from_isotropic(spacing_mm):
    token = near_isotropic_token(spacing_mm, [1000] * len(spacing_mm))
    width_mm = 16 * min(spacing_mm)
    for length, spacing in zip(token, spacing_mm, strict=True):
        assert length == 1 or 1 / math.sqrt(2) - 1e-9 <= length * spacing / width_mm <= math.sqrt(2) + 1e-9


@pytest.mark.parametrize(
    ("patch_size", "spacing_mm", "token"),
    [
        ((96, 96, 16), BTCV_MM, (4, 16, 16)),
        ((48, 72, 72), BTCV_MM, (2, 8, 8)),  # 16 does not divide 72
        ((32, 32, 32), (1, 1, 1), (8, 8, 8)),  # so that there are four along each axis
        ((96, 96, 96), (1, 1, 1), (16, 16, 16)),
        ((48, 48, 48), (1, 1, 1), (8, 8, 8)),
    ],
)
def test_the_token_of_a_given_patch(patch_size, spacing_mm, token):
    assert token_that_tiles(patch_size, spacing_mm) == token


def test_a_patch_that_no_token_tiles_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"--patch-size 50 100 100: .* 4 x 16 x 16 voxels: take 48 96 96 or 52 112 11"):
        token_that_tiles((50, 100, 100), BTCV_MM)


def test_the_first_candidate_is_the_median_image_and_the_last_four_tokens_an_axis():
    patches = candidate_patches(BTCV_MM, BTCV_SHAPE, (4, 16, 16))
    assert patches[0] == (132, 512, 512)
    assert patches[-1] == (16, 64, 64)
    assert candidate_patches((1, 1, 1), (30, 30, 30), (16, 16, 16)) == [(32, 32, 32)]


@given(st.lists(st.floats(0.3, 6.0), min_size=3, max_size=3), shapes)
def test_candidates_shrink_in_whole_tokens(spacing_mm, shape):
    token = near_isotropic_token(spacing_mm, shape)
    patches = candidate_patches(spacing_mm, shape, token)
    assert all(np.all(np.mod(patch, token) == 0) and min(patch) > 0 for patch in patches)
    assert all(np.all(np.array(patch) - shape < token) for patch in patches), "more padding than a token"
    for larger, smaller in itertools.pairwise(patches):
        steps = np.subtract(larger, smaller)
        assert steps.min() >= 0
        assert steps.max() > 0


def test_large_patches_have_the_same_extent_along_each_axis():
    for patch in candidate_patches((1, 1, 1), (1000, 512, 512), (16, 16, 16)):
        if max(patch) < 500 and math.prod(patch) > NNUNET_LARGEST[3]:
            assert len(set(patch)) == 1


def test_small_patches_shrink_as_nnunets():
    """nnU-Net takes from the axis that covers most of the median image; so the shape follows the image's."""
    shape = np.array([1000, 512, 512])
    patches = [patch for patch in candidate_patches((1, 1, 1), shape, (16, 16, 16)) if math.prod(patch) < 256**3]
    for larger, smaller in itertools.pairwise(patches):
        axis = int(np.argmax(np.subtract(larger, smaller)))
        shrinkable = np.array(larger) > 64
        assert (larger / shape)[axis] == (larger / shape)[shrinkable].max()


def estimates(sizes, fixed, slope):
    asked = []

    def estimate(index):
        asked.append(index)
        return SimpleNamespace(peak=fixed + slope(sizes[index]), fixed=fixed)

    return estimate, asked


@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=60, unique=True),
    st.floats(0, 2e6),
    st.sampled_from([lambda size: size, lambda size: size**1.3 / 10, lambda size: 40 * size**0.7]),
)
def test_the_largest_that_fits_is_found(sizes, budget, growth):
    sizes = sorted(sizes, reverse=True)
    estimate, asked = estimates(sizes, 1000, growth)
    fitting = [index for index, size in enumerate(sizes) if 1000 + growth(size) <= budget]
    assert largest_that_fits(sizes, estimate, budget) == (fitting[0] if fitting else None)
    assert len(asked) == len(set(asked)), "each size is estimated once"


def test_linear_memory_takes_few_estimates():
    sizes = list(range(10000, 10, -10))
    estimate, asked = estimates(sizes, 1000, lambda size: 7 * size)
    index = largest_that_fits(sizes, estimate, 1000 + 7 * 4321)
    assert sizes[index] == 4320
    assert len(asked) <= 4


def test_by():
    assert by((3.0, 0.76), 2) == "3.00 x 0.76"
    assert by((96, 96, 16)) == "96 x 96 x 16"
