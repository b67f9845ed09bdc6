"""The tables of figures: models, organs, and every metric of every organ."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean
from typing import Any

from markupsafe import Markup

from unetr_nnunet.evaluation.model_results import ModelResults
from unetr_nnunet.evaluation.statistics import by_fold, describe, spread
from unetr_nnunet.organs import label_colours
from unetr_nnunet.report.answer import pairs_of
from unetr_nnunet.report.figures import Row, caption_of, distribution_figure, mean_figure
from unetr_nnunet.report.names import organ_label
from unetr_nnunet.report.paper_tables import (
    Table,
    difference_table,
    is_best,
    organ_table,
    score_table,
    to_latex,
    to_markdown,
)
from unetr_nnunet.report.study import Study

PLAIN = "#8a949c"


@dataclass(frozen=True)
class Measure:
    """A column of the tables of metrics.

    Attributes:
        title: with the unit.
        meaning: one sentence.
        needs: metrics of the evaluation that it is made of.
        make: of their values, the figure.
        digits: after the decimal point.
    """

    title: str
    meaning: str
    needs: tuple[str, ...]
    make: Callable[..., float] = lambda value: value
    digits: int = 3


MEASURES = (
    Measure("Dice", "twice the overlap over the sum of both volumes; 1 is best", ("dice",)),
    Measure("IoU", "overlap over union; 1 is best", ("iou",)),
    Measure("precision", "share of the predicted voxels that are right", ("precision",)),
    Measure("recall", "share of the true voxels that are found", ("recall",)),
    Measure(
        "HD95, mm", "95 % of each surface lies within this distance of the other one; 0 is best", ("hd95_mm",), digits=1
    ),
    Measure("ASSD, mm", "mean distance between the two surfaces; 0 is best", ("assd_mm",), digits=2),
    Measure("NSD", "share of both surfaces within the tolerance of the other one; 1 is best", ("nsd",)),
    Measure(
        "volume, %",
        "predicted less true volume, in per cent of the true one, without its sign",
        ("relative_volume_error",),
        lambda value: 100 * abs(value),
        1,
    ),
    Measure(
        "pieces too many",
        "connected parts of the prediction less those of the truth",
        ("components", "true_components"),
        lambda found, true: found - true,
        1,
    ),
    Measure(
        "swapped, %",
        "of a paired organ, the true voxels that carry its partner's label, in per cent",
        ("swapped",),
        lambda value: 100 * value,
        1,
    ),
)


def measures(study: Study) -> list[Measure]:
    """Return the measures that every model has the metrics for."""
    return [measure for measure in MEASURES if all(metric in study.metrics for metric in measure.needs)]


def measured(model: ModelResults, column: str, measure: Measure) -> list[float]:
    """Return a measure of every case that has it."""
    rows = (columns.get(column, {}) for columns in model.evaluation["cases"].values())
    needed = ([row.get(metric) for metric in measure.needs] for row in rows)
    return [measure.make(*each) for each in needed if all(value is not None and isfinite(value) for value in each)]


def mean_and_count(values: Iterable[float]) -> tuple[float, int]:
    """Return the mean and the number of values."""
    listed = list(values)
    return (fmean(listed) if listed else math.nan), len(listed)


def model_rows(study: Study) -> list[dict[str, Any]]:
    """Return one row for each model, best first."""
    ranking = {row["model"]: row for row in (study.comparison or {}).get("ranking", [])}
    rows = []
    for model in study.models:
        means = study.case_means(model)
        worst = min(means, key=lambda case: means[case]) if means else None
        rows.append(
            {
                "model": model,
                "name": study.short(model),
                "figures": study.overall[model.name],
                "worst": worst,
                "worst_value": math.nan if worst is None else means[worst],
                "rank": ranking.get(model.name),
                "folds": fold_spread(study, model),
                "seeds": [each.seed for each in study.seeds.get(model.name, [model]) if each.seed is not None],
            }
        )
    return rows


def fold_spread(study: Study, model: ModelResults) -> dict[str, Any] | None:
    """Return mean Dice of each fold and its spread; None where the cases belong to no folds."""
    if not model.fold_of:
        return None
    return spread(by_fold(study.scores(model), model.fold_of))


def seed_spreads(study: Study) -> list[dict[str, Any]]:
    """Return the spread over seeds of each model that has several."""
    return [
        {"name": study.names[name], **spread(_shared_scores(study, study.seeds[name]))}
        for name in (model.name for model in study.models)
        if name in study.seeds
    ]


def _shared_scores(study: Study, models: Sequence[ModelResults]) -> dict[str, dict[str, dict[str, float]]]:
    """Return Dice by seed on the cases that all of these models have."""
    shared = set.intersection(*(set(model.evaluation["cases"]) for model in models))
    return {
        str(model.seed): {
            column: {case: value for case, value in values.items() if case in shared}
            for column, values in study.scores(model).items()
        }
        for model in models
    }


def metric_rows(study: Study) -> list[dict[str, Any]]:
    """Return for each model every measure: the mean over organs of their means, with the number of values behind."""
    rows = []
    for model in study.models:
        cells = []
        for measure in measures(study):
            by_column = [mean_and_count(measured(model, column, measure)) for column in study.columns]
            known = [(mean, count) for mean, count in by_column if count]
            cells.append((fmean(mean for mean, _ in known) if known else math.nan, sum(count for _, count in known)))
        rows.append({"name": study.short(model), "model": model, "cells": cells})
    return rows


def organ_metric_tables(study: Study) -> list[dict[str, Any]]:
    """Return for each model a table of organs by measures."""
    return [
        {
            "name": study.short(model),
            "rows": [
                (
                    organ_label(column),
                    [mean_and_count(measured(model, column, measure)) for measure in measures(study)],
                )
                for column in study.columns
            ],
        }
        for model in study.models
    ]


def organ_rows(study: Study) -> list[dict[str, Any]]:
    """Return for each organ the description of every model's Dice; best only where every comparison supports it."""
    rows = []
    for column in study.columns:
        cells = [describe(study.column_values(model, column).values()) for model in study.models]
        winner = supported_winner(study, column)
        rows.append({"name": organ_label(column), "cells": list(zip(study.models, cells, strict=True)), "best": winner})
    return rows


def supported_winner(study: Study, column: str) -> str | None:
    """Return the model that is better than every other one on a column, each shown; None where none is."""
    if not study.comparison:
        return None
    family = [pair["columns"][column] for pair in study.comparison["pairs"]]
    names = (model.name for model in study.models if is_best(model.name, family, len(study.models)))
    return next(names, None)


def organ_table_for_papers(study: Study) -> Table:
    """Return the table of organs: of all models on the cases that all have, or of the only one."""
    protocol = str(study.protocol()["name"])
    scores = {study.short(model): study.scores(model) for model in study.models}
    if len(scores) > 1:
        return score_table(scores, protocol=protocol)
    return organ_table(*next(iter(scores.items())), protocol=protocol)


def tables_for_papers(study: Study) -> list[tuple[str, str]]:
    """Return (form, text) of the table of organs, to be copied."""
    table = organ_table_for_papers(study)
    return [("Markdown", to_markdown(table)), ("LaTeX", to_latex(table))]


def all_tables_for_papers(study: Study) -> list[Table]:
    """Return the table of organs, and the paired differences between the first model and each other one."""
    first = study.models[0]
    differences = [
        {
            "first": study.short(first),
            "second": study.names[pair["other"]],
            "cases": pair["cases"],
            "columns": {
                column: {**figures, "better": study.names.get(figures["better"])}
                for column, figures in pair["columns"].items()
            },
            "mean": {**pair["mean"], "better": study.names.get(pair["mean"]["better"])},
        }
        for pair in pairs_of(study, first)
    ]
    return [organ_table_for_papers(study), *map(difference_table, differences)]


def first_figure(study: Study) -> Markup:
    """Return the figure of the first screen."""
    rows = [
        Row(study.short(model), list(study.case_means(model).values()), study.overall[model.name])
        for model in study.models
    ]
    return mean_figure(rows, caption_of(rows, "Mean Dice of each model with its 95 % interval"))


def distributions(study: Study) -> list[dict[str, Any]]:
    """Return one figure for each organ, on one scale."""
    by_column = [study.column_values(model, column).values() for model in study.models for column in study.columns]
    every = [value for values in by_column for value in values]
    limits = (min(every, default=0.0), max(every, default=1.0))
    ids = study.models[0].evaluation.get("label_ids") or {}
    colours = label_colours({name: int(label) for name, label in ids.items()})
    figures = []
    for column in study.columns:
        rows = []
        for model in study.models:
            values = list(study.column_values(model, column).values())
            rows.append(Row(study.short(model), values, describe(values)))
        colour = colours.get(int(ids[column])) if column in ids else None
        figures.append(
            {
                "name": organ_label(column),
                "colour": PLAIN if colour is None else "rgb({}, {}, {})".format(*colour),
                "figure": distribution_figure(rows, limits, caption_of(rows, f"Dice of {organ_label(column)}")),
            }
        )
    return figures
