import math
from dataclasses import replace

import pytest

from unetr_nnunet.evaluation.verdict import Difference, Outcome, count, p_equation, smallest_p

CLEAR = Difference("dice", 30, 0.012, 0.004, 0.02, p=0.001, p_holm=0.004, effect=0.6, tests=13, cases_needed=10)


@pytest.mark.parametrize(
    ("changes", "better", "words"),
    [
        (
            {},
            "A",
            "A is better than B by 0.012 Dice (95 % interval 0.004 to 0.020; 30 cases; p = 0.004 after correction)",
        ),
        (
            {"difference": -0.012, "low": -0.02, "high": -0.004, "effect": -0.6, "p_holm": 0.0004},
            "B",
            "B is better than A by 0.012 Dice (95 % interval 0.004 to 0.020; 30 cases; p < 0.001 after correction)",
        ),
        (
            {"p_holm": 0.05},
            None,
            "no evidence of a difference between A and B (Dice of A less B is 0.012; 95 % interval 0.004 to 0.020; "
            "30 cases; p = 0.050 after correction)",
        ),
        (
            {"low": -0.00012},
            None,
            "ranks favour A over B, but the mean difference is not settled (Dice of A less B is 0.012; "
            "95 % interval -0.00012 to 0.020; 30 cases; p = 0.004 after correction)",
        ),
        (
            {"effect": -0.6},
            None,
            "ranks favour B over A, but the mean difference is not settled (Dice of A less B is 0.012; "
            "95 % interval 0.004 to 0.020; 30 cases; p = 0.004 after correction)",
        ),
        (
            {"cases": 9, "p_holm": 0.051},
            None,
            "too few cases to tell A and B apart: 9 cases, where 13 tests at 5 % need 10 (Dice of A less B is 0.012)",
        ),
        ({"cases": 0, "difference": math.nan}, None, "no case has a value from both A and B"),
        (
            {"difference": 0.0, "effect": 0.0, "p": 1.0},
            None,
            "no difference between A and B (30 cases, mean difference 0)",
        ),
    ],
)
def test_words_follow_the_figures(changes: dict[str, float], better: str | None, words: str) -> None:
    difference = replace(CLEAR, **changes)
    assert (difference.better("A", "B"), difference.verdict("A", "B", "liver")) == (better, f"liver: {words}")
    assert difference.turned().better("B", "A") == better


def test_of_the_mean_and_with_a_unit() -> None:
    difference = replace(CLEAR, metric="hd95_mm", low=3.0, high=25.25, difference=12.0)
    assert difference.better("A", "B") == "B"
    assert difference.verdict("A", "B") == (
        "B is better than A by 12.00 mm mean HD95 "
        "(95 % interval 3.00 to 25.25 mm; 30 cases; p = 0.004 after correction)"
    )


def test_six_cases_are_needed_for_one_test() -> None:
    def words(cases: int) -> str:
        return replace(CLEAR, cases=cases, p_holm=smallest_p(cases), cases_needed=6, tests=1).verdict("A", "B")

    assert words(5).startswith("too few cases to tell A and B apart: 5 cases, where one test at 5 % need 6")
    assert words(6).startswith("A is better")
    assert smallest_p(6) == 2 / 2**6
    assert smallest_p(0) == 1


def test_a_significant_result_stands_on_few_cases() -> None:
    assert replace(CLEAR, cases=8, p_holm=0.008).outcome is Outcome.BETTER
    assert replace(CLEAR, cases=8, p_holm=0.008, low=-0.1).outcome is Outcome.RANKS_ONLY
    assert replace(CLEAR, low=math.nan, high=math.nan).outcome is Outcome.RANKS_ONLY, "no interval settles nothing"


def test_words() -> None:
    assert [p_equation(p) for p in (0.0001, 0.0123, 0.2, 1.0)] == ["p < 0.001", "p = 0.012", "p = 0.200", "p = 1.000"]
    assert [count(number, "case") for number in (0, 1, 2)] == ["0 cases", "1 case", "2 cases"]
