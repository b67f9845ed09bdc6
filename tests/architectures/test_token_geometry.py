import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetr_nnunet.architectures.token_geometry import (
    check_token_size,
    derive_fine_token_size,
    derive_token_size,
    nearest_patch_sizes,
    stage_kernels,
    stage_strides,
    token_grid,
)

# nnU-Net's planner makes each axis k * 2**pools.
axis_lengths = st.builds(lambda k, pools: k * 2**pools, st.integers(4, 12), st.integers(0, 7))
patch_sizes = st.lists(axis_lengths, min_size=2, max_size=3)


@pytest.mark.parametrize(
    ("patch_size", "token_size"),
    [
        ((96, 96, 96), (16, 16, 16)),
        ((48, 192, 192), (16, 16, 16)),
        ((14, 256, 256), (2, 16, 16)),
        ((5, 320, 320), (1, 16, 16)),
        ((7, 448, 448), (1, 16, 16)),
        ((20, 320, 256), (4, 16, 16)),
        ((40, 96, 96), (8, 16, 16)),
        ((56, 40, 7), (8, 8, 1)),
        ((512, 448), (16, 16)),
    ],
)
def test_original_rule(patch_size, token_size):
    assert derive_token_size(patch_size) == token_size


@pytest.mark.parametrize(
    ("patch_size", "spacing_mm", "token_size"),
    [
        ((48, 192, 192), (3.0, 0.76, 0.76), (4, 16, 16)),
        ((96, 96, 96), (1.0, 1.0, 1.0), (16, 16, 16)),
        ((64, 128, 128), (2.0, 1.0, 1.0), (8, 16, 16)),
        ((14, 256, 256), (8.0, 0.5, 0.5), (1, 16, 16)),
        ((14, 256, 256), (2.0, 0.5, 0.5), (2, 16, 16)),  # 4 would be isotropic but does not divide 14
        ((192, 192, 48), (0.76, 0.76, 3.0), (16, 16, 4)),
        ((256, 256), (0.7, 0.7), (16, 16)),
        ((9, 64, 64), (1.0, 1.0, 1.0), (1, 16, 16)),  # the odd axis does not halve the others
        ((10, 64, 64), (1.0, 1.0, 1.0), (2, 16, 16)),
        ((64, 64, 14), (1.2, 1.2, 0.8), (16, 16, 2)),
        ((12, 192, 192), (1.0, 1.0, 1.0), (4, 16, 16)),
        ((40, 96, 96), (1.0, 1.0, 1.0), (8, 8, 8)),
        ((9, 15, 15), (1.0, 1.0, 1.0), (1, 1, 1)),
    ],
)
def test_near_isotropic_rule(patch_size, spacing_mm, token_size):
    assert derive_token_size(patch_size, spacing_mm) == token_size


@given(patch_sizes)
def test_every_planned_patch_has_a_token_the_decoder_can_undo(patch_size):
    token_size = derive_token_size(patch_size)
    grid = token_grid(patch_size, token_size)
    assert [length * count for length, count in zip(token_size, grid, strict=True)] == patch_size
    strides = stage_strides(token_size)
    assert 2 ** len(strides) == max(2, *token_size), "a stage for each doubling of the longest axis"
    for axis, length in enumerate(token_size):
        per_stage = [stride[axis] for stride in strides]
        assert math.prod(per_stage) == length
        assert per_stage == sorted(per_stage), "an axis is halved in the deep stages first"
        assert length == 16 or (patch_size[axis] // length) % 2 == 1, "a longer token would have divided"


def test_strides_of_a_thin_token():
    assert stage_strides((2, 16, 16)) == ((1, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2))
    assert stage_strides((16, 4)) == ((2, 1), (2, 1), (2, 2), (2, 2))
    assert stage_strides((2, 8, 8)) == ((1, 2, 2), (1, 2, 2), (2, 2, 2))
    assert stage_strides((1, 1)) == ((1, 1),)


@pytest.mark.parametrize(
    ("patch_size", "spacing_mm", "token_size"),
    [
        ((96, 96, 96), (1.5, 1.5, 1.5), (8, 8, 8)),
        ((96, 96, 96), None, (8, 8, 8)),
        ((128, 128, 128), (1.0, 1.0, 1.0), (8, 8, 8)),
        ((160, 160, 160), (1.0, 1.0, 1.0), (16, 16, 16)),
        ((48, 192, 192), (3.0, 0.76, 0.76), (4, 16, 16)),
        ((24, 96, 96), (3.0, 0.76, 0.76), (2, 8, 8)),
        ((20, 96, 96), (1.0, 1.0, 1.0), (4, 8, 8)),
        ((512, 512), (0.8, 0.8), (8, 8)),
    ],
    ids=str,
)
def test_fine_tokens_are_the_finest_that_are_not_too_many(patch_size, spacing_mm, token_size):
    assert derive_fine_token_size(patch_size, spacing_mm) == token_size


def test_error_names_nearest_token_and_patch_sizes():
    with pytest.raises(ValueError, match=r"\(16, 16, 16\).*\(14, 256, 256\)") as caught:
        check_token_size((14, 256, 256), (16, 16, 16))
    assert "nearest valid token size: (2, 16, 16)" in str(caught.value)
    assert "(16, 256, 256)" in str(caught.value)
    with pytest.raises(ValueError, match=r"\(48, 64, 64\) and \(48, 80, 80\)"):
        check_token_size((48, 72, 72), (16, 16, 16))
    with pytest.raises(ValueError, match=r"one of \(1, 2, 4, 8, 16\); nearest valid token size: \(16, 8\)"):
        check_token_size((96, 72), (12, 12))
    with pytest.raises(ValueError, match="axes"):
        check_token_size((96, 96, 96), (16, 16))


@given(patch_sizes, st.sampled_from([1, 2, 4, 8, 16]))
def test_nearest_patch_sizes_are_valid_and_near(patch_size, length):
    token_size = (length,) * len(patch_size)
    for nearest in nearest_patch_sizes(patch_size, token_size):
        assert check_token_size(nearest, token_size) == token_size
        assert all(abs(a - b) < length for a, b in zip(nearest, patch_size, strict=True))


@pytest.mark.parametrize("patch_size", [(96,), (4, 96, 96, 96), (0, 96, 96)])
def test_impossible_patch_sizes_are_refused(patch_size):
    with pytest.raises(ValueError, match="axes"):
        derive_token_size(patch_size)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0), (1.0, 0.0, 1.0)])
def test_spacing_must_fit_the_patch(spacing_mm):
    with pytest.raises(ValueError, match="spacing_mm"):
        derive_token_size((96, 96, 96), spacing_mm)


@pytest.mark.parametrize(
    ("token_size", "spacing_mm", "kernels"),
    [
        ((16, 16, 16), None, [(3, 3, 3)] * 4),
        ((4, 16, 16), (3.0, 0.76, 0.76), [(1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3)]),
        ((4, 16, 16), None, [(3, 3, 3)] * 4),
        ((16, 16, 16), (3.0, 0.76, 0.76), [(3, 3, 3)] * 4),
        ((16, 16), (0.8, 0.8), [(3, 3)] * 4),
    ],
)
def test_kernels_leave_out_thick_slices_until_they_are_downsampled(token_size, spacing_mm, kernels):
    assert list(stage_kernels(stage_strides(token_size), spacing_mm)) == kernels
