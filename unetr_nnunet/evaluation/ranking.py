"""A ranking of models, and how stable it is: what it would be on other cases like these.

Stability by drawing cases with replacement, after M. Wiesenfarth et al., "Methods and open-source toolkit for analyzing
and visualizing challenge results", Scientific Reports 11, 2021.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import rankdata

from unetr_nnunet.evaluation.statistics import (
    CONFIDENCE,
    LEAST_CASES,
    Scores,
    as_array,
    cases_of,
    mean_over_columns,
    resampled_column_means,
)


def rank_models(models: Mapping[str, Scores], *, higher_is_better: bool = True, seed: int = 0) -> list[dict[str, Any]]:
    """Rank models by the mean of their columns' means, over the cases that all of them have.

    Every model must have a column for it to count, and in a column a case counts that has a value from every model.

    Args:
        models: one metric of each model: {model: {column: {case: value}}}.
        higher_is_better: of that metric.
        seed: of the bootstrap; every model is resampled alike.

    Returns:
        [{"model", "rank" (1 = best; equal means share one), "mean", "cases", "columns", "share_first" (of the
        resamples in which it is first; shared by those that tie), "rank_low", "rank_high" (95 % of the resamples)}],
        best first; empty where no case has a value from every model. The last three are None for fewer than
        `LEAST_CASES` cases.
    """
    common, cases = common_scores(models)
    if not cases:
        return []
    values = np.stack([as_array(common[name], cases) for name in common])
    known = ~np.isnan(values[0])
    sign = -1.0 if higher_is_better else 1.0
    means = np.where(known, values, 0.0).sum(axis=1) / np.maximum(known.sum(axis=0), 1)
    overall = means[:, known.any(axis=0)].mean(axis=1)
    resampled = np.stack([mean_over_columns(resampled_column_means(each, seed)) for each in values])
    resampled = resampled[:, ~np.isnan(resampled[0])]
    ranks = rankdata(_rounded(sign * resampled), method="min", axis=0)
    first = ranks == 1
    share_first = (first / first.sum(axis=0)).mean(axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ranks, [tail, 1 - tail], axis=1, method="inverted_cdf")
    rank = rankdata(_rounded(sign * overall), method="min")
    enough = len(cases) >= LEAST_CASES
    rows = [
        {
            "model": name,
            "rank": int(rank[index]),
            "mean": float(overall[index]),
            "cases": len(cases),
            "columns": int(known.any(axis=0).sum()),
            "share_first": float(share_first[index]) if enough else None,
            "rank_low": int(low[index]) if enough else None,
            "rank_high": int(high[index]) if enough else None,
        }
        for index, name in enumerate(common)
    ]
    return sorted(rows, key=lambda row: (row["rank"], row["model"]))


def common_scores(models: Mapping[str, Scores]) -> tuple[dict[str, Scores], list[str]]:
    """Keep what every model has: like is compared with like.

    Returns:
        The scores of the columns that all models have, without any value that another model lacks; and the cases with
        a value left, sorted.
    """
    first = next(iter(models.values()), {})
    columns = [name for name in first if all(name in scores for scores in models.values())]
    everyone = {}
    for column in columns:
        holders = [set(cases_of({column: scores[column]})) for scores in models.values()]
        everyone[column] = set.intersection(*holders)
    common: dict[str, Scores] = {
        model: {
            column: {case: value for case, value in scores[column].items() if case in everyone[column]}
            for column in columns
        }
        for model, scores in models.items()
    }
    return common, sorted(set().union(*everyone.values()))


def _rounded(values: Any) -> Any:
    """Means of equal values may differ in their last digits, which must not rank them."""
    return np.round(values, 12)
