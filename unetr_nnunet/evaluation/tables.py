"""The tables that ``unetr_nnunet evaluate`` prints."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from tabulate import SEPARATING_LINE, tabulate

from unetr_nnunet.evaluation.figures import Evaluation
from unetr_nnunet.evaluation.metrics import DICE, METRICS, NO_VALUE
from unetr_nnunet.evaluation.statistics import Estimate
from unetr_nnunet.evaluation.verdict import count

SURFACE_TABLE = {
    **{"nsd": True, "hd95_mm": False, "assd_mm": True, "true_volume_ml": False, "volume_error_ml": False},
    **{"components": False, "true_components": False, "swapped": True},
}
"""Metrics of the second table, and whether the number of cases follows them."""


def format_table(evaluation: Evaluation) -> str:
    """Return the organ tables as text, with the protocol they follow."""
    tolerances = sorted(set(evaluation.tolerances_mm.values()))
    span = " to ".join(f"{value:g}" for value in dict.fromkeys((tolerances[0], tolerances[-1])))
    return "\n".join(
        [
            _dice_table(evaluation),
            "",
            _surface_table(evaluation),
            "",
            f"{count(len(evaluation.cases), 'case')} scored; n: cases behind the figures on its left; volumes and "
            f"components: of all cases. Labels: {evaluation.label_source}.",
            f"Surface Dice (NSD) at tolerance {evaluation.tolerance!r}, {span} mm. Volume error: predicted less true. "
            "Components: connected parts of the prediction. Swapped: labelled as the organ of the other side.",
            f"Protocol {evaluation.protocol.name!r}: {evaluation.protocol.statement}.",
        ]
    )


def _dice_table(evaluation: Evaluation) -> str:
    absence = ("not in\ntruth", "not in\nprediction", "in\nneither")
    header = ("organ", DICE.title, "median", "worst", "n", *absence, "worst case")
    rows: list[Sequence[str]] = []
    for organ in evaluation.columns:
        dice, absent = evaluation.over_cases(organ), evaluation.absent(organ)
        worst_case, worst = evaluation.worst(organ)
        figures = (DICE.text(value) for value in (dice.mean, dice.median, worst))
        counts = (dice.cases, absent.in_truth, absent.in_prediction, absent.in_both)
        rows.append((organ, *figures, *map(str, counts), worst_case or NO_VALUE))
    mean = evaluation.over_organs()
    last = (f"mean of {mean.columns} of {len(evaluation.columns)} organs", DICE.text(mean.mean))
    return _plain(header, [*rows, SEPARATING_LINE, last], names=(0, len(header) - 1))


def _surface_table(evaluation: Evaluation) -> str:
    header = ["organ"]
    for name, counted in SURFACE_TABLE.items():
        header += [METRICS[name].heading.replace(" ", "\n"), *(["n"] if counted else [])]
    rows: list[Sequence[str]] = [
        _surface_row(organ, {name: evaluation.over_cases(organ, name) for name in SURFACE_TABLE})
        for organ in evaluation.columns
    ]
    over_organs = {name: evaluation.over_organs(name) for name in ("nsd", "hd95_mm", "assd_mm")}
    counts = {name: replace(over, cases=over.columns) for name, over in over_organs.items()}
    return _plain(header, [*rows, SEPARATING_LINE, _surface_row("mean of n organs", counts)])


def _surface_row(title: str, estimates: Mapping[str, Estimate]) -> list[str]:
    row = [title]
    for name, counted in SURFACE_TABLE.items():
        over = estimates.get(name)
        row.append("" if over is None else METRICS[name].text(over.mean))
        row += ["" if over is None else str(over.cases)] if counted else []
    return row


def _plain(header: Sequence[str], rows: Sequence[Sequence[str]], names: Collection[int] = (0,)) -> str:
    """Return an aligned table; columns of names are on the left."""
    align = ["left" if column in names else "right" for column in range(len(header))]
    return tabulate(rows, header, "simple", disable_numparse=True, colalign=align)


def format_protocols(evaluations: Sequence[Evaluation]) -> str:
    """Return one Markdown table: mean Dice (cases behind it) of every organ under every protocol, side by side."""
    columns = dict.fromkeys(column for evaluation in evaluations for column in evaluation.columns)
    header = ("organ", *(evaluation.protocol.name for evaluation in evaluations))
    rows = [(column, *(_cell(evaluation, column) for evaluation in evaluations)) for column in columns]
    means = [evaluation.over_organs() for evaluation in evaluations]
    rows.append(("mean", *(f"{DICE.text(mean.mean)} ({mean.columns} columns)" for mean in means)))
    align = ("left", *("right" for _ in evaluations))
    table = tabulate(rows, header, "pipe", disable_numparse=True, colalign=align)
    notes = [f"- `{evaluation.protocol.name}`: {evaluation.protocol.statement}." for evaluation in evaluations]
    about = f"Dice as mean over cases (how many have a value); {count(len(evaluations[0].cases), 'case')} scored."
    return "\n".join([table, "", about, "", *notes])


def _cell(evaluation: Evaluation, column: str) -> str:
    if column not in evaluation.columns:
        return ""
    dice = evaluation.over_cases(column)
    return f"{DICE.text(dice.mean)} ({dice.cases})"
