"""Compare models: paired tests over cases, organ by organ, and their intervals.

Wilcoxon's signed-rank test (F. Wilcoxon, Biometrics Bulletin 1(6), 1945), exact for few cases.
Holm's correction (S. Holm, Scandinavian Journal of Statistics 6(2), 1979). Effect size: the matched-pairs rank-biserial
correlation (D. S. Kerby, Comprehensive Psychology 3, 2014): the share of the rank sum in favour of the first model less
that in favour of the second, -1..1. The interval of the mean difference: `unetr_nnunet.evaluation.statistics`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, wilcoxon

from unetr_nnunet.evaluation.metrics import HIGHER, METRICS, comparable
from unetr_nnunet.evaluation.ranking import DECIMALS, Rank, rank_by_mean
from unetr_nnunet.evaluation.statistics import (
    LEAST_CASES,
    RESAMPLES,
    SEED,
    Scores,
    as_array,
    cases_of,
    interval_of_column_means,
    mean_along,
    training_deviations,
)
from unetr_nnunet.evaluation.verdict import ALPHA, Difference, smallest_p

MOST_EXACT = 50
"""Cases up to which the test is exact; scipy's own limit."""


@dataclass(frozen=True)
class Pair:
    """Two models on the cases that both have.

    Attributes:
        first: name of a model.
        second: name of the other one.
        cases: with a value from both in some column.
        columns: differences, first less second, by column; ``p_holm`` is corrected over the columns.
        mean: difference of the means over columns; ``p_holm`` is corrected over the pairs.
    """

    first: str
    second: str
    cases: int
    columns: Mapping[str, Difference]
    mean: Difference

    def turned(self) -> "Pair":
        """Return the second model less the first."""
        columns = {column: difference.turned() for column, difference in self.columns.items()}
        return Pair(self.second, self.first, self.cases, columns, self.mean.turned())

    def better(self, column: str | None) -> str | None:
        """Return the model that is shown to be better in a column, or in the mean (None); None where neither is."""
        difference = self.mean if column is None else self.columns[column]
        return difference.better(self.first, self.second)


@dataclass(frozen=True)
class Comparison:
    """Every pair of models, and their ranking.

    Attributes:
        metric: name of the metric compared.
        pairs: of models.
        ranking: best first; empty where the models have no case in common.
        statement: how this was computed, and what it does not say.
    """

    metric: str
    pairs: tuple[Pair, ...]
    ranking: tuple[Rank, ...]
    statement: str

    def pairs_of(self, model: str) -> list[Pair]:
        """Return the pairs of a model with all others, turned so that it is the first."""
        pairs = [pair for pair in self.pairs if model in (pair.first, pair.second)]
        return [pair if pair.first == model else pair.turned() for pair in pairs]

    def best(self, column: str | None) -> str | None:
        """Return the model that is shown to be better than every other in a column, or in the mean; else None."""
        names = dict.fromkeys(name for pair in self.pairs for name in (pair.first, pair.second))
        return next((name for name in names if all(p.better(column) == name for p in self.pairs_of(name))), None)


def compare_models(
    models: Mapping[str, Scores], trainings: Mapping[str, Sequence[Scores]] | None = None, *, metric: str = "dice"
) -> Comparison:
    """Compare every pair of models, and rank them.

    Args:
        models: one metric of each model: {model: {column: {case: value}}}, NaN where there is no value.
        trainings: of a model whose values are means over several trainings, the scores of each; their spread is then in
            the intervals.
        metric: name of the metric, for titles and for which values are better.

    Raises:
        ValueError: the metric is unknown, or neither more nor less of it is better.
    """
    higher = comparable(metric).best is HIGHER
    pairs = [_compare(first, second, models, trainings or {}, metric) for first, second in combinations(models, 2)]
    means = _correct([pair.mean for pair in pairs])
    pairs = [replace(pair, mean=mean) for pair, mean in zip(pairs, means, strict=True)]
    ranking = rank_by_mean(models, higher_is_better=higher)
    return Comparison(metric, tuple(pairs), tuple(ranking), statement(metric))


def statement(metric: str) -> str:
    """Return how models are compared, and what that does not say, for a footnote."""
    missing = " A case in which a model misses the organ has no distance and is left out: read them with Dice."
    return (
        f"{METRICS[metric].title}, paired over the cases that both models have. Differences, first less second, have "
        f"95 % intervals from {RESAMPLES} bootstrap resamples of the cases, and of the seeds where a model has several "
        f"(corrected for few cases and seeds; seed {SEED}; none for fewer than {LEAST_CASES} cases). p: Wilcoxon "
        "signed-rank test, two-sided, corrected by Holm over the organs of a pair, and for the mean over the pairs. "
        f"Effect: rank-biserial correlation, -1 to 1. A model is called better where the corrected p is below {ALPHA} "
        "and the interval lies on its side of 0."
        f"{missing if METRICS[metric].unit == 'mm' else ''} The cases represent others like them; how much another "
        "training of the same model would differ is in the intervals only of models with several seeds."
    )


def _compare(
    first: str, second: str, models: Mapping[str, Scores], trainings: Mapping[str, Sequence[Scores]], metric: str
) -> Pair:
    sides = models[first], models[second]
    columns = list(dict.fromkeys([*sides[0], *sides[1]]))
    cases = sorted(set(cases_of(sides[0])) & set(cases_of(sides[1])))
    aligned = [as_array({name: scores.get(name, {}) for name in columns}, cases) for scores in sides]
    differences = aligned[0] - aligned[1]
    deviations = [  # in the order of their names, so that the same seeds are drawn whichever model comes first
        sign * training_deviations(differences, trainings.get(model, ()), columns, cases)
        for model, sign in sorted(((first, 1), (second, -1)))
    ]
    by_column = _correct([_difference(differences, deviations, [index], metric) for index in range(len(columns))])
    shared = int((~np.isnan(differences)).any(axis=1).sum())
    mean = _difference(differences, deviations, list(range(len(columns))), metric)
    return Pair(first, second, shared, dict(zip(columns, by_column, strict=True)), mean)


def _difference(
    differences: NDArray[np.float64], deviations: Sequence[NDArray[np.float64]], columns: Sequence[int], metric: str
) -> Difference:
    """Return the figures of the mean over columns, not yet corrected for the number of tests.

    It is tested by case, and estimated by the mean of column means.

    Args:
        differences: (N, C).
        deviations: of both sides' trainings, each (K, N, C).
        columns: which of them count.
        metric: its name.
    """
    by_case = mean_along(differences[:, columns], -1)
    there = ~np.isnan(by_case)
    if not there.any():
        return Difference(metric, 0)
    tested = by_case[there]
    known = differences[there][:, columns]
    low, high = interval_of_column_means(known, [each[:, there][:, :, columns] for each in deviations])
    p, effect = signed_rank_p(tested), rank_biserial(tested)
    estimate = float(mean_along(mean_along(known, 0), -1))
    return Difference(metric, len(tested), estimate, low, high, p=p, effect=effect)


def signed_rank_p(differences: NDArray[np.float64]) -> float:
    """Return the two-sided p of Wilcoxon's test of differences (N,), zeros left out; 1 where all are 0.

    Exact up to `MOST_EXACT` cases, also where differences tie, for which scipy permutes (seconds each) or approximates:
    the number of sign patterns for every rank sum is counted by adding one rank after the other.
    """
    apart = _apart(differences)
    if len(apart) > MOST_EXACT:
        return float(wilcoxon(apart, method="asymptotic").pvalue)
    doubled = np.rint(2 * rankdata(np.abs(apart))).astype(int)  # ties share a rank that may end in .5
    patterns = np.zeros(doubled.sum() + 1)
    patterns[0] = 1
    for rank in doubled:
        patterns[rank:] += patterns[: len(patterns) - rank].copy()
    positive = doubled[apart > 0].sum()
    extreme = min(patterns[: positive + 1].sum(), patterns[positive:].sum())
    return float(min(1.0, 2 * extreme / patterns.sum()))


def rank_biserial(differences: NDArray[np.float64]) -> float:
    """Return the matched-pairs rank-biserial correlation of differences (N,), zeros left out; 0 where all are 0."""
    apart = _apart(differences)
    ranks = rankdata(np.abs(apart))
    return float((ranks * np.sign(apart)).sum() / ranks.sum()) if len(apart) else 0.0


def _apart(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    rounded = np.round(differences, DECIMALS)
    return rounded[rounded != 0]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected by Holm's step-down procedure, in the order given."""
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for done, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - done)))
        corrected[index] = highest
    return corrected


def _correct(family: Sequence[Difference]) -> list[Difference]:
    """Correct the p-values of a family of tests by Holm; members without a case are no tests."""
    corrected = list(family)
    tested = [index for index, member in enumerate(family) if member.cases]
    p_values = [family[index].p for index in tested]
    for place, (index, p) in enumerate(zip(tested, holm(p_values), strict=True)):
        needed = _cases_needed(p_values, place)
        corrected[index] = replace(family[index], p_holm=p, tests=len(tested), cases_needed=needed)
    return corrected


def _cases_needed(p_values: Sequence[float], index: int) -> int:
    """Return how many cases one of several tests needs at least, the other tests being as they are."""
    cases = 1
    while holm([*p_values[:index], smallest_p(cases), *p_values[index + 1 :]])[index] >= ALPHA:
        cases += 1
    return cases
