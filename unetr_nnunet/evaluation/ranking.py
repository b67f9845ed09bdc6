"""Rank models by their mean, and show how stable the ranking would be on other cases like these.

Stability by drawing cases with replacement, after M. Wiesenfarth et al., "Methods and open-source toolkit for analyzing
and visualizing challenge results", Scientific Reports 11, 2021.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from unetr_nnunet.evaluation.statistics import (
    CONFIDENCE,
    LEAST_CASES,
    Scores,
    as_array,
    cases_of,
    mean_along,
    resampled_column_means,
    select_cases,
)

DECIMALS = 12
"""Means of equal values may differ beyond these, which must not rank them."""


@dataclass(frozen=True)
class Rank:
    """A model's place among others.

    Attributes:
        model: its name.
        rank: 1 is best; equal means share one.
        mean: of the columns' means.
        cases: behind it.
        share_first: of the resamples in which it is first, shared by those that tie; NaN for fewer than `LEAST_CASES`.
        low: best rank in 95 % of the resamples; None for fewer than `LEAST_CASES`.
        high: worst rank in 95 % of the resamples; None for fewer than `LEAST_CASES`.
    """

    model: str
    rank: int
    mean: float
    cases: int
    share_first: float = math.nan
    low: int | None = None
    high: int | None = None


def rank_by_mean(models: Mapping[str, Scores], *, higher_is_better: bool = True) -> list[Rank]:
    """Rank models by the mean of their columns' means, over the cases that all of them have.

    Every model must have a column for it to count, and in a column a case counts that has a value from every model.

    Args:
        models: one metric of each model: {model: {column: {case: value}}}.
        higher_is_better: of that metric.

    Returns:
        Best first; empty where no case has a value from every model.
    """
    common, cases = common_scores(models)
    if not cases:
        return []
    values = np.stack([as_array(scores, cases) for scores in common.values()])
    sign = -1.0 if higher_is_better else 1.0
    means = mean_along(mean_along(values, 1), -1)
    ranks = rankdata(np.round(sign * means, DECIMALS), method="min")
    rows = [Rank(*row, len(cases)) for row in zip(common, map(int, ranks), means.tolist(), strict=True)]
    if len(cases) >= LEAST_CASES:
        resampled = np.stack([mean_along(resampled_column_means(model_values), -1) for model_values in values])
        resampled = resampled[:, ~np.isnan(resampled[0])]
        resampled_ranks = rankdata(np.round(sign * resampled, DECIMALS), method="min", axis=0)
        first = resampled_ranks == 1
        share = (first / first.sum(axis=0)).mean(axis=1).tolist()
        tail = (1 - CONFIDENCE) / 2
        ends = np.quantile(resampled_ranks, [tail, 1 - tail], axis=1, method="inverted_cdf").astype(int).tolist()
        rows = [
            Rank(row.model, row.rank, row.mean, row.cases, *stability)
            for row, *stability in zip(rows, share, *ends, strict=True)
        ]
    return sorted(rows, key=lambda row: (row.rank, row.model))


def common_scores(models: Mapping[str, Scores]) -> tuple[dict[str, Scores], list[str]]:
    """Keep what every model has: like is compared with like.

    Returns:
        The scores of the columns that all models have, without any value that another model lacks; and the cases with
        a value left, sorted.
    """
    first = next(iter(models.values()), {})
    columns = [name for name in first if all(name in scores for scores in models.values())]
    shared = {
        column: set.intersection(*(set(cases_of({column: scores[column]})) for scores in models.values()))
        for column in columns
    }
    common: dict[str, Scores] = {
        model: {column: select_cases({column: scores[column]}, shared[column])[column] for column in columns}
        for model, scores in models.items()
    }
    return common, sorted(set().union(*shared.values()))
