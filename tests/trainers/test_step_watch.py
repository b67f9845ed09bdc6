import re

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from unetr_nnunet.trainers.precision import PRECISION_VARIABLE
from unetr_nnunet.trainers.step_watch import StepWatch

GOOD = (0.5, 2.0, 1.0)  # loss, norm of the gradients, value of the voxels
BAD = (torch.inf, torch.nan, 1.0)


def note(watch: StepWatch, name: str, facts: tuple[float, float, float]) -> None:
    loss, norm, voxel = map(torch.tensor, facts)
    watch.note(name, ["case_1", "case_7"], voxel.expand(2, 1, 4, 4, 4), loss, norm)


def names(watch: StepWatch, but_last: int) -> list[tuple[str, int]]:
    return [(step.name, step.in_a_row) for step in watch.skipped(but_last)]


def test_a_step_is_looked_at_once_and_one_step_later() -> None:
    watch = StepWatch(None)
    note(watch, "0", BAD)
    assert names(watch, 1) == []
    note(watch, "1", GOOD)
    assert names(watch, 1) == [("0", 1)]
    assert names(watch, 1) == []
    note(watch, "2", BAD)
    assert names(watch, 0) == [("2", 1)]


def test_a_step_that_is_not_skipped_ends_a_row() -> None:
    watch = StepWatch(None)
    for number, facts in enumerate([BAD, BAD, GOOD, BAD, BAD, BAD, GOOD]):
        note(watch, str(number), facts)
    assert names(watch, 0) == [("0", 1), ("1", 2), ("3", 1), ("4", 2), ("5", 3)]


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_noting_does_not_wait_for_the_device(dtype: torch.dtype | None) -> None:
    """Fake tensors have no values to wait for, and say so where they are asked."""
    with FakeTensorMode():
        watch = StepWatch(dtype)
        for number in range(3):
            note(watch, str(number), GOOD)


@pytest.mark.parametrize(
    ("dtype", "several", "facts", "reason", "remedy"),
    [
        (None, False, (torch.nan, torch.nan, torch.nan), "holds NaN or infinite voxels$", "check the preprocessed"),
        (torch.float16, False, (torch.nan, torch.nan, -torch.inf), "holds NaN or infinite voxels$", "check the"),
        (None, False, BAD, "network's output overflowed$", "lower learning rate"),
        (torch.bfloat16, False, (1.0, torch.inf, 1.0), "a gradient overflowed$", "lower learning rate"),
        (torch.float16, False, BAD, "network overflowed in float16$", f"{PRECISION_VARIABLE}=bfloat16"),
        (torch.float16, False, (1.0, torch.inf, 1.0), "float16; the loss is scaled by half as much$", "bfloat16"),
        (None, True, (1.0, torch.nan, 1.0), "a gradient overflowed, here or on another GPU$", "lower"),
    ],
)
def test_the_likely_reason(
    dtype: torch.dtype | None, several: bool, facts: tuple[float, float, float], reason: str, remedy: str
) -> None:
    watch = StepWatch(dtype, several)
    note(watch, "Epoch 0, iteration 3", facts)
    (step,) = watch.skipped(0)
    assert re.search(reason, step.reason)
    assert remedy in step.remedy
    assert str(step).startswith(f"Epoch 0, iteration 3 was skipped, loss {facts[0]:g}, cases case_1, case_7: ")
