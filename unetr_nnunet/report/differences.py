"""Paired differences: the leading model against each other one, organ by organ, and all pairs in one table."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from unetr_nnunet.report.answer import oriented, pair_words, pairs_of
from unetr_nnunet.report.figures import difference_axis, difference_cell
from unetr_nnunet.report.names import organ_label
from unetr_nnunet.report.study import Study
from unetr_nnunet.report.svg import Scale, nice_scale

FIGURE_PX = 230.0


def context(study: Study) -> dict[str, Any] | None:
    """Return what the template needs; None for one model."""
    if not study.comparison:
        return None
    leader = study.models[0]
    pairs = pairs_of(study, leader)
    return {
        "leader": study.short(leader),
        "pairs": [_pair(study, pair) for pair in pairs],
        "matrix": _matrix(study),
        "names": [study.short(model) for model in study.models],
        "ranking": [{**row, "name": study.names[row["model"]]} for row in study.comparison["ranking"]],
        "statement": str(study.comparison.get("statement", "")),
    }


def _scale(every: Iterable[Mapping[str, Any]]) -> Scale:
    ends = [
        figures[key]
        for figures in every
        for key in ("difference", "low", "high")
        if figures.get(key) is not None and math.isfinite(figures[key])
    ]
    return nice_scale(min([0.0, *ends]), max([0.0, *ends]), 8, FIGURE_PX, 4)


def _pair(study: Study, pair: Mapping[str, Any]) -> dict[str, Any]:
    scale = _scale((pair["mean"], *pair["columns"].values()))
    leader = study.models[0].name
    rows = [("mean of organs", pair["mean"]), *((organ_label(name), each) for name, each in pair["columns"].items())]
    return {
        "other": study.names[pair["other"]],
        "cases": pair["cases"],
        "mean": pair["mean"],
        "axis": difference_axis(scale),
        "rows": [
            {
                "organ": organ,
                "figures": figures,
                "picture": difference_cell(figures, scale, f"difference on {organ}"),
                "words": pair_words(study, leader, pair, figures),
                "verdict": study.shorten_text(str(figures.get("verdict", ""))),
            }
            for organ, figures in rows
        ],
    }


def _matrix(study: Study) -> list[dict[str, Any]]:
    """Return for each model its mean difference from every other one: row less column."""
    rows = []
    for model in study.models:
        means = {
            pair["other"]: pair["mean"]
            for each in (study.comparison or {})["pairs"]
            if model.name in (each["first"], each["second"])
            for pair in [oriented(each, model.name)]
        }
        rows.append({"name": study.short(model), "cells": [means.get(other.name) for other in study.models]})
    return rows
