from dataclasses import replace
from math import prod
from types import SimpleNamespace

import pytest

from tests.planning.conftest import BYTES_PER_VOXEL, FIXED, FLOP_PER_TOKEN, MIB, linear_memory
from unetr_nnunet.architectures.token_geometry import check_token_size
from unetr_nnunet.planning.memory import GIB, UntraceableError, with_reserve
from unetr_nnunet.planning.sizing import TFLOP, Given, Sizing
from unetr_nnunet.planning.training_step import TrainingStep

TEMPLATE = TrainingStep("Modified", "Tiny", (), 0, (), (), 1, 3)
NNUNET = SimpleNamespace(patch_size=(48, 192, 192), flop=6 * TFLOP)
BTCV = ((3.0, 0.76, 0.76), (130, 512, 512), 30 * 130 * 512 * 512, NNUNET)
HEAD = (
    (4.1, 2.5, 4.1),
    (64, 115, 103),
    69 * 64 * 115 * 103,
    SimpleNamespace(patch_size=(64, 128, 112), flop=4 * TFLOP),
)
COARSE, FINE = 3456 * FLOP_PER_TOKEN / TFLOP, 27648 * FLOP_PER_TOKEN / TFLOP  # of BTCV at nnU-Net's patch


def sizing(gib, tflop=None):
    return Sizing(TEMPLATE, gib, tflop, lambda step: None)


def test_by_default_a_step_takes_twice_nnunets_operations_and_twice_its_voxels(instant_memory):
    choice = sizing(24).choose(*BTCV)
    assert choice.budget.flop == 12 * TFLOP
    assert choice.step.token_size == (4, 16, 16)
    refused, estimate = choice.refused
    assert (refused.token_size, refused.patch_size) == ((2, 8, 8), NNUNET.patch_size)
    assert estimate.flop == FINE * TFLOP > choice.budget.flop
    assert 1.8 * prod(NNUNET.patch_size) < prod(choice.step.patch_size) <= 2 * prod(NNUNET.patch_size)
    assert (choice.patch_limit, choice.batch_limit, choice.step.batch_size) == ("nnU-Net", "patch", 2)
    assert choice.estimate == linear_memory(choice.step)
    assert choice.nnunet_patch == NNUNET.patch_size


def test_a_finer_token_comes_before_a_larger_patch(instant_memory):
    choice = sizing(24, 1.01 * FINE).choose(*BTCV)
    assert (choice.step.token_size, choice.step.patch_size) == ((2, 8, 8), NNUNET.patch_size)
    assert choice.refused is None, "the next would be below 8 mm"
    assert choice.patch_limit == "compute"
    assert sizing(24, 0.99 * FINE).choose(*BTCV).step.token_size == (4, 16, 16)


def test_a_finer_token_that_does_not_fit_the_memory_is_not_taken(instant_memory, monkeypatch):
    def costly_tokens(step):
        estimate = linear_memory(step)
        tokens = prod(step.patch_size) * step.batch_size // prod(step.token_size)
        return replace(estimate, peak=estimate.peak + tokens * MIB)

    monkeypatch.setattr("unetr_nnunet.planning.sizing.predict_memory", costly_tokens)
    choice = sizing(24, 1000).choose(*BTCV)
    assert choice.step.token_size == (4, 16, 16)
    assert choice.refused[0].token_size == (2, 8, 8)
    assert choice.budget.exceeded(choice.refused[1]) == "memory"


def test_coarse_voxels_get_tokens_of_few_voxels(instant_memory):
    """At 2.5 mm a token of 16 voxels is 40 mm long."""
    assert sizing(24, 1000).choose(*HEAD).step.token_size == (2, 4, 2)
    step = sizing(24, 10).choose(*HEAD).step
    assert (step.token_size, step.patch_size) == ((4, 8, 4), (64, 120, 104))


@pytest.mark.parametrize("gib", [4, 5, 6])
def test_where_memory_is_short_the_patch_is_the_largest_that_fits(instant_memory, gib):
    choice = sizing(gib).choose(*BTCV)
    step = choice.step
    assert choice.patch_limit == "memory"
    assert (choice.refused[0].token_size == (4, 16, 16)) == (gib < 6), (
        "too large at nnU-Net's patch or with finer tokens"
    )
    assert (step.token_size, step.batch_size) == ((4, 16, 16), 2)
    assert with_reserve(choice.estimate.peak) <= gib * GIB
    one_token_more = linear_memory(step).peak + 2 * BYTES_PER_VOXEL * max(
        prod(step.patch_size) // step.patch_size[axis] * step.token_size[axis] for axis in range(3)
    )
    assert with_reserve(one_token_more) > gib * GIB


def test_a_small_compute_budget_makes_the_patch_smaller(instant_memory):
    choice = sizing(24, COARSE / 2).choose(*BTCV)
    assert choice.patch_limit == "compute"
    assert 0.4 < prod(choice.step.patch_size) / prod(NNUNET.patch_size) <= 0.5
    assert choice.estimate.flop <= COARSE / 2 * TFLOP


def test_the_default_budget_never_takes_from_nnunets_patch(instant_memory):
    """However large a network the user has asked for."""
    cheap = SimpleNamespace(patch_size=NNUNET.patch_size, flop=1000)
    choice = sizing(24).choose(*BTCV[:3], cheap)
    assert choice.step.patch_size == NNUNET.patch_size
    assert choice.budget.flop == COARSE * TFLOP == choice.estimate.flop
    assert "coarsest tokens" in choice.budget.flop_source
    assert sizing(24).choose(*BTCV[:3], cheap, Given((96, 256, 256))).step.patch_size == (96, 256, 256)


def test_budget_that_is_left_by_a_whole_image_makes_the_batch_larger(instant_memory):
    spacing_mm, shape, voxels = (1.0, 1.0, 1.0), (64, 128, 128), 100 * 64 * 128 * 128
    nnunet = SimpleNamespace(patch_size=shape, flop=TFLOP)
    choice = sizing(24).choose(spacing_mm, shape, voxels, nnunet)
    assert (choice.step.patch_size, choice.patch_limit) == (shape, "image")
    assert choice.step.batch_size == choice.max_batch_size == 5, "5 % of the data set"
    assert choice.batch_limit == "data set"
    choice = sizing(5).choose(spacing_mm, shape, 100 * voxels, nnunet)
    assert 2 < choice.step.batch_size < choice.max_batch_size
    assert 0 <= choice.budget.memory - choice.estimate.peak < BYTES_PER_VOXEL * prod(shape)
    assert choice.batch_limit == "memory"
    choice = sizing(24, 1.5).choose(spacing_mm, shape, 100 * voxels, nnunet)
    assert choice.batch_limit == "compute"
    assert 0 <= choice.budget.flop - choice.estimate.flop < choice.estimate.flop / choice.step.batch_size


def test_slices_are_compared_at_nnunets_usual_batch(instant_memory):
    """Finer tokens would fit at a batch of two, which nobody trains slices with."""
    nnunet = SimpleNamespace(patch_size=(512, 512), flop=4 * TFLOP)
    choice = sizing(24).choose((0.76, 0.76), (512, 512), BTCV[2], nnunet)
    assert (choice.step.token_size, choice.step.patch_size) == ((16, 16), (512, 512))
    assert choice.refused[0].batch_size == 12
    assert choice.refused[1].flop == 12 * 64 * 64 * FLOP_PER_TOKEN
    assert choice.step.batch_size > 12


def test_a_small_data_set_still_has_a_batch_of_two(instant_memory):
    nnunet = SimpleNamespace(patch_size=(64, 64, 64), flop=TFLOP)
    choice = sizing(24).choose((1.0, 1.0, 1.0), (64, 64, 64), 64**3, nnunet)
    assert (choice.step.batch_size, choice.max_batch_size) == (2, 2)


def test_what_is_given_is_taken(instant_memory):
    choice = sizing(24).choose(*BTCV, Given((96, 96, 16), (4, 4, 4), 4))
    step = choice.step
    assert (step.patch_size, step.token_size, step.batch_size) == ((96, 96, 16), (4, 4, 4), 4)
    step = sizing(24).choose(*BTCV, Given(patch_size=(96, 96, 16))).step
    assert (step.patch_size, step.token_size, step.batch_size) == ((96, 96, 16), (2, 8, 8), 2)
    step = sizing(24).choose(*BTCV, Given(token_size=(16, 16, 16))).step
    assert step.token_size == (16, 16, 16)
    assert 1.8 * prod(NNUNET.patch_size) < prod(step.patch_size) <= 2 * prod(NNUNET.patch_size)
    step = sizing(24).choose(*BTCV, Given(token_size=(2, 4, 4))).step
    assert step.token_size == (2, 4, 4)
    assert prod(step.patch_size) < prod(NNUNET.patch_size), "the budget is twice nnU-Net's all the same"
    with pytest.raises(ValueError, match=r"token size \(16, 16, 16\) does not fit patch size \(24, 96, 96\)"):
        sizing(24).choose(*BTCV, Given((24, 96, 96), (16, 16, 16)))


def test_a_given_batch_makes_the_patch_smaller(instant_memory):
    two, eight = sizing(6).choose(*BTCV), sizing(6).choose(*BTCV, Given(batch_size=8))
    assert eight.step.batch_size == 8
    assert prod(eight.step.patch_size) == pytest.approx(prod(two.step.patch_size) / 4, rel=0.15)


@pytest.mark.parametrize(
    ("gib", "tflop", "given", "message"),
    [
        (2, None, Given((96, 96, 96)), r"Modified, size Tiny, patch size 96 96 96, batch size 2"),
        (3, None, Given((48, 96, 96), None, 20), r"batch size 20 .* more than the 3 GiB of --gpu-memory"),
        (
            1.4,
            None,
            None,
            r"patch size 16 64 64, .* \(0\.3 GiB are weights and optimizer\): take a smaller --patch-size",
        ),
        (1, None, None, r"with 1 GiB and 10% in reserve 1\.5 GiB, more than the 1 GiB"),
        (24, 1, Given((48, 192, 192)), r"takes 1\.7 TFLOP, more than the 1 of --tflop-per-step: allow more"),
    ],
)
def test_what_does_not_fit_is_refused(instant_memory, gib, tflop, given, message):
    with pytest.raises(ValueError, match=message) as caught:
        sizing(gib, tflop).choose(*BTCV, given)
    assert "\n" not in str(caught.value)


def test_the_smallest_patch_is_still_planned(instant_memory):
    smallest = with_reserve(FIXED + 50 * MIB + 2 * BYTES_PER_VOXEL * 16 * 64 * 64) / GIB
    assert sizing(smallest * 1.001).choose(*BTCV).step.patch_size == (16, 64, 64)


def test_equal_steps_are_predicted_once(instant_memory):
    chooser = sizing(24)
    chooser.choose(*BTCV)
    assert len(set(instant_memory)) == len(instant_memory) <= 4
    chooser.choose(*BTCV)
    assert len(set(instant_memory)) == len(instant_memory)


def other(name, **given):
    return Sizing(TrainingStep(name, "base", (), 0, (), (), 1, 3), 24, None, lambda step: None).choose(
        *BTCV, Given(**given)
    )


def test_without_tokens_a_patch_grows_by_what_the_architecture_wants(otherlab, instant_memory):
    step = other("Line").step
    assert (step.token_size, step.batch_size) == ((), 2)
    assert [axis % length for axis, length in zip(step.patch_size, (8, 16, 16), strict=True)] == [0, 0, 0]
    assert 1.8 * prod(NNUNET.patch_size) < prod(step.patch_size) <= 2 * prod(NNUNET.patch_size)
    assert other("Line", patch_size=(24, 64, 64)).step.patch_size == (24, 64, 64)


def test_without_tokens_none_can_be_given(otherlab, instant_memory):
    with pytest.raises(ValueError, match=r"--token-size: Line \(otherlab 1\.2\) does not take it: leave it out"):
        other("Line", token_size=(8, 8, 8))
    with pytest.raises(ValueError, match="patch 20 x 64 x 64 is no multiple of 8 x 16 x 16"):
        other("Line", patch_size=(20, 64, 64))


def test_what_cannot_be_traced_needs_patch_and_batch(otherlab):
    with pytest.raises(UntraceableError, match=r"memory of Opaque .* give --patch-size and --batch-size, and --verify"):
        other("Opaque", patch_size=(8, 16, 16))
    choice = other("Opaque", patch_size=(8, 16, 16), batch_size=3)
    assert choice.estimate is None
    assert (choice.step.patch_size, choice.step.batch_size) == ((8, 16, 16), 3)


@pytest.mark.slow
def test_with_the_real_prediction_the_memory_is_filled():
    choice = sizing(2.5).choose(*BTCV)
    assert choice.patch_limit == "memory"
    assert 0.85 < choice.estimate.peak / choice.budget.memory <= 1
    assert check_token_size(choice.step.patch_size, choice.step.token_size) == (4, 16, 16)


@pytest.mark.slow
def test_with_the_real_prediction_head_and_neck_get_finer_tokens():
    """16 voxels would be 40 mm there, eight tokens across a head."""
    network = replace(TEMPLATE, size="base", out_channels=6)
    choice = Sizing(network, 24, 10, lambda step: None).choose(*HEAD)
    assert choice.step.token_size == (4, 8, 4)
