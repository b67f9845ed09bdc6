"""Is one model better than another? Paired over cases, organ by organ, in words that say no more than the figures.

Wilcoxon's signed-rank test (F. Wilcoxon, Biometrics Bulletin 1(6), 1945), exact for few cases.
Holm's correction (S. Holm, Scandinavian Journal of Statistics 6(2), 1979). Effect size: the matched-pairs rank-biserial
correlation (D. S. Kerby, Comprehensive Psychology 3, 2014): the share of the rank sum in favour of the first model less
that in favour of the second, -1..1. The interval of the mean difference: `unetr_nnunet.evaluation.statistics`.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, wilcoxon

from unetr_nnunet.evaluation.metric_kinds import METRIC_KINDS, is_higher_better
from unetr_nnunet.evaluation.ranking import rank_models
from unetr_nnunet.evaluation.statistics import (
    LEAST_CASES,
    RESAMPLES,
    Scores,
    as_array,
    bootstrap_interval,
    cases_of,
    interval,
    mean_over_columns,
    resampled_column_means,
)
from unetr_nnunet.evaluation.verdict import ALPHA, Figures, smallest_p, verdict

MOST_EXACT = 50
"""Cases up to which the test is exact; scipy's own limit."""
DECIMALS = 12
"""Differences smaller than this are rounding, not ranks."""


def compare_models(models: Mapping[str, Scores], *, metric: str = "dice", seed: int = 0) -> dict[str, Any]:
    """Compare every pair of models, and rank them.

    Args:
        models: one metric of each model: {model: {column: {case: value}}}, NaN where there is no value.
        metric: which metric it is, for the words and for which values are better.
        seed: of the bootstrap.

    Returns:
        ``metric``, ``pairs``, ``ranking`` (see ``rank_models``), and ``statement``, in words how this was computed and
        what it does not say. Each pair has ``first``, ``second``, ``cases`` (with a value from both in some column),
        ``only_first`` and ``only_second`` (cases that the other lacks), and these figures, in ``columns`` for each
        column that either has, in ``mean`` for the mean over columns:
        ``cases`` (with a value from both), ``difference`` (mean of first less second), ``low``, ``high`` (its 95 %
        interval; None for fewer than `LEAST_CASES`), ``p``, ``p_holm`` (``columns``: corrected over the columns of the
        pair; ``mean``: over the pairs), ``cases_needed`` (so many must all favour one model for its ``p_holm`` to be
        below `ALPHA`, the other p values of the family being what they are), ``effect`` (positive: first is higher),
        ``better`` (name of the better model, None where that is not shown) and ``verdict`` (one sentence). Figures are
        None without a case.

    Raises:
        ValueError: the metric is unknown, or neither more nor less of it is better.
    """
    higher = is_higher_better(metric)
    pairs = [_compare(first, second, models, seed) for first, second in combinations(models, 2)]
    _correct([pair["mean"] for pair in pairs])
    for pair in pairs:
        _correct(list(pair["columns"].values()))
        _conclude(pair, metric, len(pairs))
    return {
        "metric": metric,
        "pairs": pairs,
        "ranking": rank_models(models, higher_is_better=higher, seed=seed),
        "statement": statement(metric, seed),
    }


def statement(metric: str, seed: int = 0) -> str:
    """Return how models are compared, and what that does not say, for a footnote."""
    missing = " A case in which a model misses the organ has no distance and is left out: read them with Dice."
    return (
        f"{METRIC_KINDS[metric].title}, paired over the cases that both models have. Differences, first less second, "
        f"have 95 % intervals from {RESAMPLES} bootstrap resamples of the cases (percentiles corrected for few cases; "
        f"seed {seed}; none for fewer than {LEAST_CASES} cases). p: Wilcoxon signed-rank test, two-sided, corrected by "
        "Holm over the organs of a pair, and for the mean over the pairs. Effect: rank-biserial correlation, -1 to 1. "
        f"A model is called better where the corrected p is below {ALPHA} and the interval lies on its side of 0."
        f"{missing if METRIC_KINDS[metric].unit == 'mm' else ''} The cases stand for others like them; how much "
        "another training of the same model would differ is not in these figures: see the spread over seeds and folds."
    )


def _compare(first: str, second: str, models: Mapping[str, Scores], seed: int) -> dict[str, Any]:
    left, right = models[first], models[second]
    columns = list(dict.fromkeys([*left, *right]))
    own = set(cases_of(left)), set(cases_of(right))
    cases = sorted(own[0] & own[1])
    aligned = [as_array({name: scores.get(name, {}) for name in columns}, cases) for scores in (left, right)]
    differences = aligned[0] - aligned[1]
    by_column = {name: _figures(differences[:, index], seed) for index, name in enumerate(columns)}
    counted = int((~np.isnan(differences)).any(axis=1).sum())
    return {
        "first": first,
        "second": second,
        "cases": counted,
        "only_first": sorted(own[0] - own[1]),
        "only_second": sorted(own[1] - own[0]),
        "columns": by_column,
        "mean": _mean_figures(differences, seed),
    }


def _figures(differences: NDArray[np.float64], seed: int) -> Figures:
    """Return the figures of one column's differences (N,), not yet corrected for the number of columns."""
    known = differences[~np.isnan(differences)]
    if not len(known):
        return {"cases": 0, **dict.fromkeys(("difference", "low", "high", "p", "p_holm", "cases_needed", "effect"))}
    low, high = bootstrap_interval(known, seed)
    return {
        "cases": len(known),
        "difference": float(known.mean()),
        "low": low,
        "high": high,
        "p": signed_rank_p(known),
        "p_holm": None,
        "cases_needed": None,
        "effect": rank_biserial(known),
    }


def _mean_figures(differences: NDArray[np.float64], seed: int) -> Figures:
    """Return the figures of the mean over columns (N, C): tested by case, estimated by the mean of column means."""
    by_case = mean_over_columns(differences)
    figures = _figures(by_case, seed)
    if figures["cases"]:
        known = differences[~np.isnan(by_case)]
        held = ~np.isnan(known)
        means = np.where(held, known, 0.0).sum(axis=0)[held.any(axis=0)] / held.sum(axis=0)[held.any(axis=0)]
        figures["difference"] = float(means.mean())
        figures["low"], figures["high"] = interval(
            mean_over_columns(resampled_column_means(known, seed)), figures["cases"]
        )
    return figures


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
    for done, index in enumerate(sorted(range(len(p_values)), key=lambda each: p_values[each])):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - done)))
        corrected[index] = highest
    return corrected


def _correct(family: Sequence[Figures]) -> None:
    tested = [figures for figures in family if figures["p"] is not None]
    p_values = [figures["p"] for figures in tested]
    for index, (figures, p) in enumerate(zip(tested, holm(p_values), strict=True)):
        figures["p_holm"] = p
        figures["cases_needed"] = _cases_needed(p_values, index)


def _cases_needed(p_values: Sequence[float], index: int) -> int:
    """Return how many cases one of several tests needs at least, the other tests being as they are."""
    cases = 1
    while holm([*p_values[:index], smallest_p(cases), *p_values[index + 1 :]])[index] >= ALPHA:
        cases += 1
    return cases


def _conclude(pair: dict[str, Any], metric: str, pairs: int) -> None:
    names = pair["first"], pair["second"]
    tests = sum(figures["p"] is not None for figures in pair["columns"].values())
    for column, figures in pair["columns"].items():
        figures["better"], figures["verdict"] = verdict(names, figures, metric, tests, column.replace("_", " "))
    mean = pair["mean"]
    mean["better"], mean["verdict"] = verdict(names, mean, metric, pairs)
