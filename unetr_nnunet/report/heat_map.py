"""Cases by organs, coloured by Dice, worst case first."""

import math
from dataclasses import dataclass
from typing import Any

from matplotlib import colormaps

from unetr_nnunet.evaluation.model_results import ModelResults
from unetr_nnunet.report.answer import DASH, number
from unetr_nnunet.report.names import organ_label
from unetr_nnunet.report.study import Study

MOST_ROWS = 100
"""Of one model; the rest is in ``metrics.csv``."""
RAMP = colormaps["YlOrBr_r"]
"""Dark where it is bad; one hue, so that lightness alone tells the order."""
PALEST = 0.97


@dataclass(frozen=True)
class Cell:
    """One figure: its text, its value for sorting (None where there is none), its colours."""

    text: str
    value: float | None
    background: str
    ink: str


def cell(value: float) -> Cell:
    """Return a coloured cell of a Dice between 0 and 1."""
    if not math.isfinite(value):
        return Cell(DASH, None, "#f1f3f5", "#5b6770")
    red, green, blue, _ = RAMP(min(max(value, 0), 1) * PALEST)
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]  # relative luminance of WCAG 2
    background = "#" + "".join(f"{round(255 * part):02x}" for part in (red, green, blue))
    return Cell(number(value, 2), round(value, 6), background, "#000" if luminance > 0.179 else "#fff")


def context(study: Study) -> dict[str, Any]:
    """Return what the template needs."""
    return {
        "columns": [organ_label(column) for column in study.columns],
        "maps": [_map(study, model) for model in study.models],
        "ramp": [cell(step / 10) for step in range(11)],
        "most": MOST_ROWS,
    }


def _map(study: Study, model: ModelResults) -> dict[str, Any]:
    means = {case: study.case_mean(model, case) for case in model.evaluation["cases"]}
    ordered = sorted(means, key=lambda case: (math.isnan(means[case]), means[case], case))
    return {
        "name": study.short(model),
        "total": len(ordered),
        "rows": [
            {
                "case": case,
                "fold": model.fold_of.get(case),
                "mean": cell(means[case]),
                "cells": [cell(study.value(model, case, column)) for column in study.columns],
            }
            for case in ordered[:MOST_ROWS]
        ],
    }
