import pytest

from unetr_nnunet.planning.budget import TFLOP, Budget
from unetr_nnunet.planning.memory import GIB, MemoryEstimate, with_reserve

BUDGET = Budget(12, 5 * TFLOP)  # 10 GiB for the predicted peak: 12 GiB less 1 GiB, less a tenth of what is predicted


def estimate(gib, tflop=1.0, fixed_gib=0.0):
    at_peak = {"parameters": int(fixed_gib * GIB / 3), "optimizer state": int(fixed_gib * GIB * 2 / 3)}
    return MemoryEstimate(0, at_peak, int(gib * GIB), int(tflop * TFLOP))


def test_the_reserve_is_left_free():
    assert BUDGET.memory == pytest.approx(10 * GIB)
    assert with_reserve(BUDGET.memory) == pytest.approx(12 * GIB)


@pytest.mark.parametrize(
    ("gib", "tflop", "limit"),
    [(9.99, 4.99, ""), (10.01, 1, "memory"), (1, 5.01, "compute"), (10.01, 5.01, "memory"), (9.99, 5, "")],
)
def test_either_limit_can_be_exceeded(gib, tflop, limit):
    assert BUDGET.exceeded(estimate(gib, tflop)) == limit
    assert (BUDGET.used(estimate(gib, tflop)) > 1) == bool(limit)


def test_weights_are_taken_off_before_the_share_is_reckoned():
    """So that twice the batch uses twice the share."""
    assert BUDGET.used(estimate(6, fixed_gib=2)) == pytest.approx(0.5)
    assert BUDGET.used(estimate(10, fixed_gib=2)) == pytest.approx(1)
    assert BUDGET.used(estimate(2.1, tflop=4, fixed_gib=2)) == pytest.approx(0.8)


def test_weights_that_do_not_fit_at_all_exceed_the_memory():
    assert BUDGET.exceeded(estimate(11, fixed_gib=10.5)) == "memory"
    assert Budget(0.5, TFLOP).exceeded(estimate(0.1, tflop=0.1)) == "memory", "less than the reserve"
