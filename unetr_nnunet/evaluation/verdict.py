"""The figures of a comparison as one sentence that says no more than they do."""

import math
from enum import Enum
from typing import Any

from unetr_nnunet.evaluation.metric_kinds import METRIC_KINDS

Figures = dict[str, Any]
"""Figures of a comparison, as ``compare_models`` returns them: ``cases``, ``difference``, ``p_holm`` and so on."""

ALPHA = 0.05


class Outcome(Enum):
    """What a comparison comes to."""

    NO_CASE = "no case has a value from both"
    NO_DIFFERENCE = "every difference is 0"
    TOO_FEW = "no result on so many cases could be significant"
    NO_EVIDENCE = "the test finds nothing"
    RANKS_ONLY = "the test finds a difference, but the interval of the mean does not lie on the same side of 0"
    BETTER = "one model is better"


def outcome(figures: Figures) -> Outcome:
    """Return what one comparison comes to. A significant result stands, however few the cases are."""
    if not figures["cases"]:
        return Outcome.NO_CASE
    if figures["difference"] == 0 and figures["effect"] == 0 and figures["p"] == 1:
        return Outcome.NO_DIFFERENCE
    if figures["p_holm"] >= ALPHA:
        return Outcome.TOO_FEW if figures["cases"] < figures["cases_needed"] else Outcome.NO_EVIDENCE
    return Outcome.BETTER if _settled(figures) else Outcome.RANKS_ONLY


def verdict(
    names: tuple[str, str], figures: Figures, metric: str, tests: int, column: str | None = None
) -> tuple[str | None, str]:
    """Put one comparison in words.

    Args:
        names: the first and the second model.
        figures: of the comparison, the difference being first less second.
        metric: which metric it is.
        tests: number of tests that the p was corrected for.
        column: what was measured; None for the mean over columns.

    Returns:
        Name of the model that is shown to be better (None where none is), and the sentence.
    """
    better, words = _words(names, figures, metric, tests, "mean " if column is None else "")
    return better, words if column is None else f"{column}: {words}"


def _words(names: tuple[str, str], figures: Figures, metric: str, tests: int, which: str) -> tuple[str | None, str]:
    first, second = names
    cases, difference = figures["cases"], figures["difference"]
    if outcome(figures) is Outcome.NO_CASE:
        return None, f"no case has a value from both {first} and {second}"
    if outcome(figures) is Outcome.NO_DIFFERENCE:
        return None, f"no difference between {first} and {second} ({_cases(cases)}, mean difference 0)"
    what = f"{which}{METRIC_KINDS[metric].title}"
    estimate = f"{what} of {first} less {second} is {_amount(difference, metric)}"
    details = f"{estimate}; {_uncertainty(figures, metric)}"
    found = outcome(figures)
    if found is Outcome.TOO_FEW:
        family = "one test" if tests == 1 else f"{tests} tests"
        why = f"{_cases(cases)}, where {family} at 5 % need {figures['cases_needed']}"
        return None, f"too few cases to tell {first} and {second} apart: {why} ({estimate})"
    if found is Outcome.NO_EVIDENCE:
        return None, f"no evidence of a difference between {first} and {second} ({details})"
    ahead, behind = names if (figures["effect"] > 0) == METRIC_KINDS[metric].higher_is_better else names[::-1]
    if found is Outcome.RANKS_ONLY:
        return None, f"ranks favour {ahead} over {behind}, but the mean difference is not settled ({details})"
    amount = _amount(abs(difference), metric)
    return ahead, f"{ahead} is better than {behind} by {amount} {what} ({_uncertainty(_positive(figures), metric)})"


def _positive(figures: Figures) -> Figures:
    """Return the figures with the settled difference as an amount."""
    low, high = sorted((abs(figures["low"]), abs(figures["high"])))
    return {**figures, "low": low, "high": high}


def _settled(figures: Figures) -> bool:
    """Return whether the interval lies on the side of 0 that the ranks are on."""
    if figures["low"] is None:
        return False
    return figures["low"] > 0 if figures["effect"] > 0 else figures["high"] < 0


def smallest_p(cases: int) -> float:
    """Return the smallest two-sided p of the signed-rank test for so many cases: all differences have one sign."""
    return min(1.0, math.ldexp(2.0, -cases))


def _uncertainty(figures: Figures, metric: str) -> str:
    low, high, p = figures["low"], figures["high"], figures["p_holm"]
    interval = "no interval" if low is None else f"95 % interval {_number(low, metric)} to {_amount(high, metric)}"
    return f"{interval}; {_cases(figures['cases'])}; {p_words(p)} after correction"


def p_words(p: float) -> str:
    """Return a p-value as papers write it."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}" if p < 0.1 else f"p = {p:.2f}"


def _cases(count: int) -> str:
    return "1 case" if count == 1 else f"{count} cases"


def _amount(value: float, metric: str) -> str:
    unit = METRIC_KINDS[metric].unit
    return f"{_number(value, metric)} {unit}" if unit else _number(value, metric)


def _number(value: float, metric: str) -> str:
    """Return three decimals (two with a unit), or two digits of a smaller value: what is not 0 must not read so."""
    digits = 2 if METRIC_KINDS[metric].unit else 3
    return f"{value:.{digits}f}" if value == 0 or abs(value) >= 0.5 * 10**-digits else f"{value:.2g}"
