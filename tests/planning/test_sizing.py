from math import prod

import pytest

from tests.planning.conftest import BYTES_PER_VOXEL, FIXED, MIB, linear_memory
from unetr_nnunet.architectures.token_geometry import check_token_size
from unetr_nnunet.planning.memory import UNCERTAINTY
from unetr_nnunet.planning.sizing import GIB, Sizing
from unetr_nnunet.planning.training_step import TrainingStep

TEMPLATE = TrainingStep("Modified", "Tiny", (), 0, (), (), 1, 3)
BTCV = ((3.0, 0.76, 0.76), (130, 512, 512), 30 * 130 * 512 * 512)


def sizing(gib):
    return Sizing(TEMPLATE, gib, lambda step: None)


@pytest.mark.parametrize("gib", [4, 8, 24, 40])
def test_the_patch_is_the_largest_that_fits_with_a_batch_of_two(instant_memory, gib):
    choice = sizing(gib).choose(*BTCV)
    step = choice.step
    assert (step.token_size, step.batch_size) == ((4, 16, 16), 2)
    assert choice.estimate == linear_memory(step)
    assert choice.estimate.peak * (1 + UNCERTAINTY) <= gib * GIB
    one_token_more = linear_memory(step).peak + 2 * BYTES_PER_VOXEL * max(
        prod(step.patch_size) // step.patch_size[axis] * step.token_size[axis] for axis in range(3)
    )
    assert one_token_more * (1 + UNCERTAINTY) > gib * GIB
    assert choice.largest == (132, 512, 512)


def test_memory_that_is_left_by_a_whole_image_makes_the_batch_larger(instant_memory):
    spacing_mm, shape, voxels = (1.0, 1.0, 1.0), (64, 128, 128), 100 * 64 * 128 * 128
    choice = sizing(24).choose(spacing_mm, shape, voxels)
    assert choice.step.patch_size == shape
    assert choice.max_batch_size == 5
    assert choice.step.batch_size == 5, "5 % of the data set"
    choice = sizing(4).choose(spacing_mm, shape, 100 * voxels)
    assert 2 < choice.step.batch_size < choice.max_batch_size
    left = 4 * GIB / (1 + UNCERTAINTY) - choice.estimate.peak
    assert 0 <= left < BYTES_PER_VOXEL * prod(shape)


def test_a_small_data_set_still_has_a_batch_of_two(instant_memory):
    choice = sizing(24).choose((1.0, 1.0, 1.0), (64, 64, 64), 64**3)
    assert (choice.step.batch_size, choice.max_batch_size) == (2, 2)


def test_given_patch_and_batch_are_taken(instant_memory):
    choice = sizing(24).choose(*BTCV, patch_size=[96, 96, 16], batch_size=4)
    assert (choice.step.patch_size, choice.step.batch_size) == ((96, 96, 16), 4)
    assert choice.step.token_size == (4, 16, 16)
    assert choice.patch_given
    assert choice.batch_given
    assert sizing(24).choose(*BTCV, patch_size=(96, 96, 16)).step.batch_size == 2


def test_a_given_batch_makes_the_patch_smaller(instant_memory):
    two, eight = sizing(24).choose(*BTCV), sizing(24).choose(*BTCV, batch_size=8)
    assert eight.step.batch_size == 8
    assert prod(eight.step.patch_size) == pytest.approx(prod(two.step.patch_size) / 4, rel=0.15)
    assert not eight.patch_given


@pytest.mark.parametrize(
    ("gib", "options", "message"),
    [
        (1, {"patch_size": (96, 96, 96)}, r"Modified, size Tiny, with patch size 96 96 96 and batch size 2"),
        (2, {"patch_size": (48, 96, 96), "batch_size": 20}, r"batch size 20 .* more than the 2 GiB of --gpu-memory"),
        (0.4, {}, r"patch size 16 64 64 .* \(0\.3 GiB are weights and optimizer\): take a smaller --patch-size"),
    ],
)
def test_what_does_not_fit_is_refused(instant_memory, gib, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        sizing(gib).choose(*BTCV, **options)
    assert "\n" not in str(caught.value)


def test_a_spacing_wider_than_the_image_is_refused(instant_memory):
    with pytest.raises(ValueError, match=r"--spacing: the median image has no voxel at 1000\.00 x 10\.00 x 10\.00 mm"):
        sizing(24).choose((1000.0, 10.0, 10.0), (0, 40, 40), 1e6)


def test_the_smallest_patch_is_still_planned(instant_memory):
    smallest = (FIXED + 50 * MIB + 2 * BYTES_PER_VOXEL * 16 * 64 * 64) * (1 + UNCERTAINTY) / GIB
    assert sizing(smallest * 1.001).choose(*BTCV).step.patch_size == (16, 64, 64)


def test_equal_networks_are_predicted_once(instant_memory):
    chooser = sizing(24)
    chooser.choose(*BTCV)
    count = len(instant_memory)
    chooser.choose((3.0, 0.761, 0.761), *BTCV[1:])
    assert len(instant_memory) == count
    assert len(set(instant_memory)) == count


def test_with_the_real_prediction_the_target_is_filled():
    choice = sizing(1.5).choose(*BTCV)
    assert 0.85 < choice.estimate.peak * (1 + UNCERTAINTY) / (1.5 * GIB) <= 1
    assert check_token_size(choice.step.patch_size, choice.step.token_size) == (4, 16, 16)
