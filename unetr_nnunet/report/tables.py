"""The tables of a report: models, organs, every metric of every organ, and every case."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib import colormaps

from unetr_nnunet.evaluation.metrics import DICE, Metric
from unetr_nnunet.evaluation.model_results import ModelResults
from unetr_nnunet.evaluation.statistics import Estimate, by_fold, describe, mean, select_cases, spread
from unetr_nnunet.organs import label_colours
from unetr_nnunet.report.figures import Row, caption_of, distribution_figure, mean_figure
from unetr_nnunet.report.models import ReportedModels, organ_label
from unetr_nnunet.report.paper_tables import Table, difference_table, organ_table, score_table, to_latex, to_markdown

PLAIN = "#8a949c"
MOST_ROWS = 100
"""Cases of one model; the others are in ``metrics.csv``."""
RAMP = colormaps["YlOrBr_r"]
"""Dark where it is bad; one hue, so that lightness alone tells the order."""
PALEST = 0.97


@dataclass(frozen=True)
class Cell:
    """One figure: its text, its value for sorting (NaN if missing), its colours and what is in small print."""

    text: str
    value: float
    background: str = ""
    ink: str = ""
    small: str = ""


def model_section(reported: ReportedModels) -> dict[str, Any]:
    """Return what the template of the models needs."""
    return {
        "rows": [_model_row(reported, model) for model in reported.models],
        "has_folds": any(model.fold_of for model in reported.models),
        "has_seeds": any(model.seed is not None for model in reported.trainings),
        "metrics": [
            (model, [_metric_cell(model, reported.columns, metric) for metric in reported.metrics])
            for model in reported.models
        ],
        "seeds": [
            (reported.names[model.name], *_seed_spread(reported, model))
            for model in reported.models
            if model.name in reported.seeds
        ],
    }


def _model_row(reported: ReportedModels, model: ModelResults) -> dict[str, Any]:
    means = reported.case_means(model)
    worst = min(means, key=means.__getitem__, default=None)
    return {
        "model": model,
        "name": reported.short(model),
        "dice": reported.overall[model.name],
        "worst": worst,
        "worst_value": math.nan if worst is None else means[worst],
        "folds": spread(by_fold(reported.scores(model), model.fold_of)) if model.fold_of else None,
        "seeds": [training.seed for training in reported.seeds.get(model.name, [model]) if training.seed is not None],
    }


def _seed_spread(reported: ReportedModels, model: ModelResults) -> tuple[dict[str, Estimate], Estimate]:
    """Return Dice by seed, on the cases that all of its trainings have, and how far it moves."""
    trainings = reported.seeds[model.name]
    shared = set.intersection(*(set(training.evaluation.cases) for training in trainings))
    return spread({str(training.seed): select_cases(reported.scores(training), shared) for training in trainings})


def _metric_cell(model: ModelResults, columns: Sequence[str], metric: Metric) -> Cell:
    """Return the mean over organs of a metric's means over cases, with the number of values behind it."""
    over = [model.evaluation.over_cases(column, metric.name) for column in columns]
    average = mean(estimate.mean for estimate in over)
    return Cell(metric.text(average), average, small=str(sum(estimate.cases for estimate in over)))


def organ_section(reported: ReportedModels) -> dict[str, Any]:
    """Return what the template of the organs needs."""
    table = organ_table_for_papers(reported)
    return {
        "figures": distributions(reported),
        "rows": [
            (
                organ_label(column),
                reported.comparison.best(column) if reported.comparison else None,
                [(model, describe(reported.values(model, column))) for model in reported.models],
            )
            for column in reported.columns
        ],
        "metrics": [
            (
                reported.short(model),
                [
                    (organ_label(column), [_metric_cell(model, [column], metric) for metric in reported.metrics])
                    for column in reported.columns
                ],
            )
            for model in reported.models
        ],
        "papers": [("Markdown", to_markdown(table)), ("LaTeX", to_latex(table))],
    }


def organ_table_for_papers(reported: ReportedModels) -> Table:
    """Return the table of organs: of all models on the cases that all have, or of the only one."""
    protocol = reported.models[0].evaluation.protocol.name
    scores = {reported.short(model): reported.scores(model) for model in reported.models}
    trainings = {reported.short(model): reported.scores_of_seeds(model) for model in reported.models}
    if len(scores) > 1:
        return score_table(scores, trainings, protocol=protocol)
    name = next(iter(scores))
    return organ_table(name, scores[name], trainings[name], protocol=protocol)


def all_tables_for_papers(reported: ReportedModels) -> list[Table]:
    """Return the table of organs, and the paired differences between the first model and each other one."""
    return [organ_table_for_papers(reported), *(difference_table(pair, reported.names) for pair in reported.pairs)]


def first_figure(reported: ReportedModels) -> Markup:
    """Return the figure of the first screen."""
    rows = [
        Row(reported.short(model), list(reported.case_means(model).values()), reported.overall[model.name])
        for model in reported.models
    ]
    return mean_figure(rows, caption_of(rows, "Mean Dice of each model with its 95 % interval"))


def distributions(reported: ReportedModels) -> list[dict[str, Any]]:
    """Return one figure for each organ, on one scale."""
    dice = {
        column: {model.name: reported.values(model, column) for model in reported.models} for column in reported.columns
    }
    every = [value for by_model in dice.values() for values in by_model.values() for value in values]
    limits = (min(every, default=0.0), max(every, default=1.0))
    ids = reported.models[0].evaluation.label_ids
    colours = label_colours(ids)
    figures = []
    for column, by_model in dice.items():
        rows = [Row(reported.names[name], values, describe(values)) for name, values in by_model.items()]
        colour = colours.get(ids[column]) if column in ids else None
        figures.append(
            {
                "name": organ_label(column),
                "colour": PLAIN if colour is None else "rgb({}, {}, {})".format(*colour),
                "figure": distribution_figure(rows, limits, caption_of(rows, f"Dice of {organ_label(column)}")),
            }
        )
    return figures


def case_section(reported: ReportedModels) -> dict[str, Any]:
    """Return what the template of all cases needs: cases by organs, coloured by Dice, worst case first."""
    return {
        "columns": [organ_label(column) for column in reported.columns],
        "maps": [_heat_map(reported, model) for model in reported.models],
        "ramp": [heat_cell(step / 10) for step in range(11)],
    }


def _heat_map(reported: ReportedModels, model: ModelResults) -> dict[str, Any]:
    means = {case: reported.case_mean(model, case) for case in model.evaluation.cases}
    ordered = sorted(means, key=lambda case: (math.isnan(means[case]), means[case], case))
    return {
        "name": reported.short(model),
        "total": len(ordered),
        "rows": [
            {
                "case": case,
                "fold": model.fold_of.get(case),
                "cells": [
                    heat_cell(means[case]),
                    *(heat_cell(model.evaluation.figure(case, column, "dice")) for column in reported.columns),
                ],
            }
            for case in ordered[:MOST_ROWS]
        ],
    }


def heat_cell(value: float) -> Cell:
    """Return a coloured cell of a Dice between 0 and 1."""
    if math.isnan(value):
        return Cell(DICE.text(value), value, "#f1f3f5", "#5b6770")
    red, green, blue, _ = RAMP(min(max(value, 0), 1) * PALEST)
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]  # relative luminance of WCAG 2
    background = "#" + "".join(f"{round(255 * part):02x}" for part in (red, green, blue))
    return Cell(DICE.text(value), value, background, "#000" if luminance > 0.179 else "#fff")
