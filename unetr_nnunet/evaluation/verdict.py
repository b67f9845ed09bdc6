"""The difference between two models, and its verdict in a sentence that claims no more than the figures."""

import math
from dataclasses import dataclass, replace
from enum import Enum

from unetr_nnunet.evaluation.metrics import METRICS, p_value

ALPHA = 0.05


class Outcome(Enum):
    """What a comparison comes to."""

    NO_CASE = "no case has a value from both"
    NO_DIFFERENCE = "every difference is 0"
    TOO_FEW = "no result on so few cases could be significant"
    NO_EVIDENCE = "the test finds nothing"
    RANKS_ONLY = "the test finds a difference, but the interval of the mean does not lie on the same side of 0"
    BETTER = "one model is better"


@dataclass(frozen=True)
class Difference:
    """The first model less the second, over the cases that have a value from both. NaN where there is no figure.

    Attributes:
        metric: name of what is compared.
        cases: with a value from both.
        difference: of the means.
        low: lower end of its 95 % interval.
        high: upper end.
        p: of the signed-rank test.
        p_holm: corrected for the other tests of the family.
        effect: rank-biserial correlation, positive where the first is higher.
        tests: tests of the family.
        cases_needed: so many must all favour one model for ``p_holm`` to be below `ALPHA`, other tests being as they
            are.
    """

    metric: str
    cases: int
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    p_holm: float = math.nan
    effect: float = math.nan
    tests: int = 1
    cases_needed: int = 0

    @property
    def outcome(self) -> Outcome:
        """The outcome of the comparison. A significant result counts with any number of cases."""
        if not self.cases:
            return Outcome.NO_CASE
        if self.difference == 0 and self.effect == 0 and self.p == 1:
            return Outcome.NO_DIFFERENCE
        if self.p_holm >= ALPHA:
            return Outcome.TOO_FEW if self.cases < self.cases_needed else Outcome.NO_EVIDENCE
        settled = self.low > 0 if self.effect > 0 else self.high < 0
        return Outcome.BETTER if settled else Outcome.RANKS_ONLY

    @property
    def favours_first(self) -> bool:
        """Whether the ranks favour the first model."""
        return (self.effect > 0) == METRICS[self.metric].best

    def better(self, first: str, second: str) -> str | None:
        """Return the name of the model that is shown to be better; None where neither is."""
        if self.outcome is not Outcome.BETTER:
            return None
        return first if self.favours_first else second

    def turned(self) -> "Difference":
        """Return the second model less the first."""
        return replace(self, difference=-self.difference, low=-self.high, high=-self.low, effect=-self.effect)

    def verdict(self, first: str, second: str, column: str | None = None) -> str:
        """Describe the comparison in a sentence.

        Args:
            first: name of the first model.
            second: name of the second model.
            column: what was measured; None for the mean over columns.
        """
        sentence = self._sentence(first, second, "mean " if column is None else "")
        return sentence if column is None else f"{column}: {sentence}"

    def _sentence(self, first: str, second: str, which: str) -> str:
        metric, outcome = METRICS[self.metric], self.outcome
        if outcome is Outcome.NO_CASE:
            return f"no case has a value from both {first} and {second}"
        if outcome is Outcome.NO_DIFFERENCE:
            return f"no difference between {first} and {second} ({count(self.cases, 'case')}, mean difference 0)"
        ahead, behind = (first, second) if self.favours_first else (second, first)
        if outcome is Outcome.BETTER:
            amount = self if self.effect > 0 else self.turned()
            by = f"{metric.amount(amount.difference)} {which}{metric.title}"
            return f"{ahead} is better than {behind} by {by} ({amount.uncertainty()})"
        estimate = f"{which}{metric.title} of {first} less {second} is {metric.amount(self.difference)}"
        if outcome is Outcome.TOO_FEW:
            family = "one test" if self.tests == 1 else f"{self.tests} tests"
            why = f"{count(self.cases, 'case')}, where {family} at 5 % need {self.cases_needed}"
            return f"too few cases to tell {first} and {second} apart: {why} ({estimate})"
        details = f"{estimate}; {self.uncertainty()}"
        if outcome is Outcome.NO_EVIDENCE:
            return f"no evidence of a difference between {first} and {second} ({details})"
        return f"ranks favour {ahead} over {behind}, but the mean difference is not settled ({details})"

    def uncertainty(self) -> str:
        """Return interval, cases and p as text."""
        metric = METRICS[self.metric]
        ends = f"95 % interval {metric.interval(self.low, self.high)} {metric.unit}".rstrip()
        interval = "no interval" if math.isnan(self.low) else ends
        return f"{interval}; {count(self.cases, 'case')}; {p_equation(self.p_holm)} after correction"


def smallest_p(cases: int) -> float:
    """Return the smallest two-sided p of the signed-rank test for so many cases: all differences have one sign."""
    return min(1.0, math.ldexp(2.0, -cases))


def p_equation(p: float) -> str:
    """Return "p < 0.001" or "p = ..."."""
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 case" or "2 cases"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
