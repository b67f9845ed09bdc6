from dataclasses import replace

import pytest

from tests.planning.conftest import linear_memory
from unetr_nnunet.planning.explain import NOT_MEASURED, explanation, memory_parts, summary, tflop
from unetr_nnunet.planning.memory import TFLOP, Budget
from unetr_nnunet.planning.sizing import Choice, Given
from unetr_nnunet.planning.training_step import TrainingStep

STEP = TrainingStep("Modified", "base", (56, 224, 208), 2, (3.0, 0.76, 0.76), (4, 16, 16), 1, 14)
NNUNET = replace(STEP, patch_size=(48, 192, 192))
FINER = replace(NNUNET, token_size=(2, 8, 8))
CHOICE = Choice(
    STEP,
    linear_memory(STEP),
    median_shape=(130, 512, 512),
    nnunet_patch=(48, 192, 192),
    max_batch_size=4,
    budget=Budget(24, 12 * TFLOP, "twice what nnU-Net's own plan takes"),
    given=Given(),
    refused=(FINER, linear_memory(FINER)),
    patch_limit="nnU-Net",
    batch_limit="patch",
)


def test_the_summary_is_one_line():
    assert summary("3d_fullres", CHOICE) == (
        "3d_fullres: patch 56 x 224 x 208, token 4 x 16 x 16, batch 2, 5.20 GiB and 2.5 TFLOP a step predicted"
    )


def test_every_figure_is_explained():
    text = "\n".join(explanation(CHOICE, "as I like it"))
    for expected in (
        "3.000 x 0.760 x 0.760 mm, as I like it",
        "4 x 16 x 16 voxels = 12.0 x 12.2 x 12.2 mm; limited by --tflop-per-step: 2 x 8 x 8 would take 13.8 TFLOP at "
        "patch 48 x 192 x 192, batch 2",
        "56 x 224 x 208 voxels = 168 x 170 x 158 mm, 8% of the median image (130 x 512 x 512)",
        "14 x 14 x 13 = 2548 tokens",
        "limited by nnU-Net's own patch, 48 x 192 x 192: no more than twice its voxels",
        "batch    2; only a patch that covers the median image gets a larger one",
        "5.20 GiB at the peak: parameters 0.10 GiB, optimizer state 0.20 GiB, saved activations 4.86 GiB",
        "of 20.91 GiB: 24 GiB less 1 GiB and 10% in reserve",
        "with several GPUs 0.10 GiB more on each, to exchange gradients",
        "2.5 TFLOP a step, forward and backward, of 12.0 TFLOP: twice what nnU-Net's own plan takes",
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"refused": None}, "12.2 mm; about as thick as wide; a finer one would be below 5.7 mm"),
        ({"given": Given(token_size=(4, 16, 16))}, "12.2 mm; as given"),
        (
            {"budget": Budget(6, 100 * TFLOP), "refused": (FINER, replace(CHOICE.estimate, peak=2**33))},
            "limited by --gpu-memory: 2 x 8 x 8 would take 8.00 GiB at patch 48",
        ),
        (
            {"budget": Budget(6, 100 * TFLOP), "refused": (NNUNET, replace(CHOICE.estimate, peak=2**33))},
            "limited by --gpu-memory: this one would take 8.00 GiB at patch 48",
        ),
        ({"given": Given(patch_size=STEP.patch_size)}, "tokens\n           as given"),
        ({"patch_limit": "image"}, "it covers the median image"),
        ({"patch_limit": "memory"}, "limited by --gpu-memory; nnU-Net's own patch is 48 x 192 x 192"),
        ({"patch_limit": "compute"}, "limited by --tflop-per-step; nnU-Net's own patch is 48 x 192 x 192"),
        ({"given": Given(batch_size=2)}, "2; as given"),
        ({"batch_limit": "data set"}, "2; limited by the data set: 5% of its voxels"),
        ({"batch_limit": "memory"}, "2; limited by --gpu-memory"),
        ({"batch_limit": "compute"}, "2; limited by --tflop-per-step"),
    ],
)
def test_the_reasons_follow_the_choice(changes, expected):
    assert expected in "\n".join(explanation(replace(CHOICE, **changes), ""))


def test_kinds_that_are_not_there_are_zero():
    assert "gradients 0.00 GiB" in memory_parts(CHOICE.estimate)


def test_small_counts_keep_two_digits():
    assert (tflop(23.77e12), tflop(0.034e12)) == ("23.8 TFLOP", "0.03 TFLOP")


def test_the_reserve_is_stated():
    assert "1 GiB and 10% are kept in reserve" in NOT_MEASURED


def test_without_tokens_and_without_an_estimate(otherlab):
    step = TrainingStep("Line", "base", (16, 32, 32), 2, (3.0, 1.0, 1.0), (), 1, 3)
    choice = replace(CHOICE, step=step, estimate=None)
    line = "3d_fullres: patch 16 x 32 x 32, batch 2, memory not predicted, as it cannot be traced"
    assert summary("3d_fullres", choice) == line
    text = "\n".join(explanation(choice, "as I like it"))
    assert "token" not in text
    assert "a multiple of 8 x 16 x 16, as Line wants it" in text
    assert "--verify measures a step on this machine" in text
