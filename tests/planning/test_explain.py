from dataclasses import replace

import pytest

from tests.planning.conftest import linear_memory
from unetr_nnunet.planning.explain import NOT_MEASURED, explanation, memory_parts, summary
from unetr_nnunet.planning.sizing import Choice
from unetr_nnunet.planning.training_step import TrainingStep

STEP = TrainingStep("Modified", "base", (48, 192, 192), 2, (3.0, 0.76, 0.76), (4, 16, 16), 1, 14)
CHOICE = Choice(STEP, linear_memory(STEP), (130, 512, 512), (132, 512, 512), 4, patch_given=False, batch_given=False)


def test_the_summary_is_one_line():
    assert summary("3d_fullres", CHOICE) == (
        "3d_fullres: patch 48 x 192 x 192, token 4 x 16 x 16, batch 2, 3.64 GiB predicted"
    )


def test_every_figure_is_explained():
    text = "\n".join(explanation(CHOICE, "as I like it", 24))
    for expected in (
        "3.000 x 0.760 x 0.760 mm, as I like it",
        "4 x 16 x 16 voxels = 12.0 x 12.2 x 12.2 mm",
        "48 x 192 x 192 voxels = 144 x 146 x 146 mm, 5% of the median image (130 x 512 x 512)",
        "12 x 12 x 12 = 1728 tokens",
        "the largest with a batch of 2 in 24 GiB less 15% in reserve; without the limit it would be 132 x 512 x 512",
        "memory goes to the batch only once",
        "3.64 GiB at the peak: parameters 0.10 GiB, optimizer state 0.20 GiB, saved activations 3.30 GiB",
        "0 GFLOP a step",
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"largest": STEP.patch_size}, "it covers the median image"),
        ({"largest": STEP.patch_size}, "the largest that fits; at most 4, 5% of the training voxels"),
        ({"patch_given": True}, "as you asked"),
        ({"batch_given": True}, "2; as you asked"),
    ],
)
def test_the_reasons_follow_the_choice(changes, expected):
    assert expected in "\n".join(explanation(replace(CHOICE, **changes), "", 24))


def test_kinds_that_are_not_there_are_zero():
    assert "gradients 0.00 GiB" in memory_parts(CHOICE.estimate)


def test_the_uncertainty_is_stated():
    assert "15% more are kept in reserve" in NOT_MEASURED
