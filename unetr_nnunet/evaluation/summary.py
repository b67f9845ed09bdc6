"""Means over cases and organs. No figure without the number of cases or organs behind it."""

import math
from collections.abc import Iterable, Mapping
from statistics import fmean, median
from typing import Any

CaseScores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Values by case, column (an organ, or organs that a protocol joins) and metric, as ``case_metrics`` gives them."""


def summarise(cases: CaseScores, organs: Iterable[str]) -> dict[str, Any]:
    """Summarise every metric over cases, then over organs; Dice in most detail.

    Args:
        cases: ``dice``, ``truth_voxels``, ``prediction_voxels`` and any other metrics, by case and organ.
        organs: names of the organs (or columns of a protocol), in the order wanted.

    Returns:
        ``organs``: by organ ``n_cases`` (those with a value) and over them the ``mean``, ``median``, ``worst`` Dice and
        the ``worst_case`` (None without any case), and the number of cases ``absent_in_both``, ``absent_in_truth``
        (only) and ``absent_in_prediction`` (only); and ``metrics``: by metric its ``mean`` and ``median`` over the
        ``n_cases`` that have a value (None without any).
        ``foreground_mean``: ``dice``, the mean of the organ means, over the ``n_organs`` that have one. Where every
        organ has one this is nnU-Net's ``foreground_mean``, which is NaN otherwise. ``metrics``: by metric the same,
        ``mean`` and ``n_organs``.
    """
    summaries = {organ: _summarise_organ({case: scores[organ] for case, scores in cases.items()}) for organ in organs}
    means = [summary["mean"] for summary in summaries.values() if summary["n_cases"]]
    names = dict.fromkeys(name for summary in summaries.values() for name in summary["metrics"])
    return {
        "organs": summaries,
        "foreground_mean": {
            "dice": fmean(means) if means else None,
            "n_organs": len(means),
            "n_cases": len(cases),
            "metrics": {name: _mean_over_organs(name, summaries.values()) for name in names},
        },
    }


def _summarise_organ(scores: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    dice = {case: score["dice"] for case, score in scores.items() if not math.isnan(score["dice"])}
    worst_case = min(dice, key=lambda case: dice[case]) if dice else None
    present = [(score["truth_voxels"] > 0, score["prediction_voxels"] > 0) for score in scores.values()]
    names = dict.fromkeys(name for score in scores.values() for name in score)
    return {
        "n_cases": len(dice),
        "mean": fmean(dice.values()) if dice else None,
        "median": median(dice.values()) if dice else None,
        "worst": dice[worst_case] if worst_case is not None else None,
        "worst_case": worst_case,
        "absent_in_both": present.count((False, False)),
        "absent_in_truth": present.count((False, True)),
        "absent_in_prediction": present.count((True, False)),
        "metrics": {name: _summarise_metric(score.get(name, math.nan) for score in scores.values()) for name in names},
    }


def _summarise_metric(values: Iterable[float]) -> dict[str, Any]:
    known = [value for value in values if not math.isnan(value)]
    return {
        "n_cases": len(known),
        "mean": fmean(known) if known else None,
        "median": median(known) if known else None,
    }


def _mean_over_organs(name: str, summaries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    metrics = [summary["metrics"].get(name, {"mean": None}) for summary in summaries]
    means = [metric["mean"] for metric in metrics if metric["mean"] is not None]
    return {"mean": fmean(means) if means else None, "n_organs": len(means)}
