"""Trainings that differ in their seed alone are one model, whose figures are means over them.

Compared as rivals they would crowd the page, and each test would be corrected for comparisons that nobody asked for.
A mean takes only values that every seed has: where an organ is absent from truth, the seeds that rightly leave it out
have no Dice under nnU-Net's rule, and the 0 of the one that paints it would stand for all of them.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from unetr_nnunet.evaluation.model_results import ModelResults


def known_values(values: Iterable[float | None]) -> list[float]:
    """Return the values that are there."""
    return [value for value in values if value is not None and math.isfinite(value)]


def name_without_seed(model: ModelResults) -> str:
    """Return the name that all seeds of a model share."""
    return model.name if model.seed is None else re.sub(rf"(_|, )?seed ?{model.seed}(?!\d)", "", model.name)


def pool_seeds(trainings: Sequence[ModelResults]) -> tuple[list[ModelResults], dict[str, list[ModelResults]]]:
    """Put the seeds of each model together.

    Args:
        trainings: what was read, one for each seed.

    Returns:
        The models, and the trainings of each that has several by its name, in the order of their seeds. Trainings that
        share no case (each seed has other folds), or of which one has no seed, stay models of their own. The notes of
        the means say how many values of Dice were dropped because not every seed has them.
    """
    groups: dict[str, list[ModelResults]] = {}
    for training in trainings:
        groups.setdefault(name_without_seed(training), []).append(training)
    models: list[ModelResults] = []
    seeds: dict[str, list[ModelResults]] = {}
    for name, group in groups.items():
        different = {training.seed for training in group} - {None}
        if len(different) == len(group) > 1 and _shared_cases(group):
            seeds[name] = sorted(group, key=lambda training: training.seed or 0)
            models.append(_mean_model(name, seeds[name]))
        else:
            models += group
    return models, seeds


def _shared_cases(trainings: Sequence[ModelResults]) -> list[str]:
    """Return the cases that every training has, in the order of the first."""
    first, *others = (training.evaluation["cases"] for training in trainings)
    return [case for case in first if all(case in other for other in others)]


def _mean_model(name: str, trainings: Sequence[ModelResults]) -> ModelResults:
    """Return the mean over trainings, case by case; masks are those of the first."""
    first = trainings[0]
    rows_of = {case: [each.evaluation["cases"][case] for each in trainings] for case in _shared_cases(trainings)}
    cases = {case: _mean_case(rows) for case, rows in rows_of.items()}
    columns = [column for column in first.columns if all(column in each.columns for each in trainings)]
    listed = [each.evaluation.get("metrics", ["dice"]) for each in trainings]
    evaluation = {
        **{key: value for key, value in first.evaluation.items() if key != "foreground_mean"},
        "cases": cases,
        "organs": {column: {} for column in columns},
        "metrics": [metric for metric in listed[0] if all(metric in others for others in listed)],
    }
    dropped = sum(_is_dropped(_values(rows, column, "dice")) for rows in rows_of.values() for column in columns)
    note = (
        f"{dropped} Dice value(s), each a case's organ, that not every one of the {len(trainings)} seeds has are left "
        "out of the mean over seeds"
    )
    return replace(first, name=name, evaluation=evaluation, seed=None, notes=(note,) if dropped else ())


def _mean_case(rows: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, float]]:
    """Return every figure of a case, the mean over the seeds; NaN where one has no value."""
    return {
        column: {metric: _mean(_values(rows, column, metric)) for metric in figures}
        for column, figures in rows[0].items()
    }


def _values(rows: Sequence[Mapping[str, Mapping[str, Any]]], column: str, metric: str) -> list[float | None]:
    return [row.get(column, {}).get(metric) for row in rows]


def _mean(values: Sequence[float | None]) -> float:
    known = known_values(values)
    return fmean(known) if len(known) == len(values) else math.nan


def _is_dropped(values: Sequence[float | None]) -> bool:
    return 0 < len(known_values(values)) < len(values)
