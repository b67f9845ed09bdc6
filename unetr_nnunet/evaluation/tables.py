"""What an evaluation leaves behind: tables for the terminal, ``metrics.csv`` and ``metrics.json``."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unetr_nnunet.atomic import atomic_path


def write_json(evaluation: dict[str, Any], path: Path) -> None:
    """Write an evaluation as strict JSON (a missing value is ``null``); the file is whole or absent."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(_without_nan(evaluation), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def write_csv(evaluation: dict[str, Any], path: Path) -> None:
    """Write one row for each case and organ (a missing value is empty); the file is whole or absent."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ("case", "organ", *evaluation["metrics"]))
        writer.writeheader()
        for case, organs in evaluation["cases"].items():
            for organ, values in organs.items():
                cells = {name: "" if math.isnan(value) else value for name, value in values.items()}
                writer.writerow({"case": case, "organ": organ, **cells})


def format_table(evaluation: dict[str, Any]) -> str:
    """Return the organ tables as text, with the protocol they follow."""
    lines = [*_dice_table(evaluation), "", *_surface_table(evaluation)]
    foreground = evaluation["foreground_mean"]
    tolerances = sorted(set(evaluation["tolerance"]["mm"].values()))
    span = f"{tolerances[0]:g}" + (f" to {tolerances[-1]:g}" if len(tolerances) > 1 else "")
    return "\n".join(
        [
            *lines,
            "",
            f"{foreground['n_cases']} case(s) scored; n = cases behind the figures to its left; volumes and parts: all "
            f"cases. Labels: {evaluation['label_source']}.",
            f"Surface Dice (NSD) at tolerance {evaluation['tolerance']['name']!r}, {span} mm. Volume: true, and the "
            "prediction less it. Parts: connected components, predicted and true. Swapped: labelled as the other side.",
            f"Protocol {evaluation['protocol']['name']!r}: {evaluation['protocol']['statement']}.",
        ]
    )


def _dice_table(evaluation: dict[str, Any]) -> list[str]:
    foreground = evaluation["foreground_mean"]
    rows: list[Sequence[str]] = [("organ", "Dice", "median", "worst", "n", "truth", "prediction", "both", "worst case")]
    for organ, summary in evaluation["organs"].items():
        figures = (_number(summary["mean"]), _number(summary["median"]), _number(summary["worst"]))
        absent = (summary["absent_in_truth"], summary["absent_in_prediction"], summary["absent_in_both"])
        rows.append((organ, *figures, str(summary["n_cases"]), *map(str, absent), summary["worst_case"] or "-"))
    count = f"{foreground['n_organs']} of {len(evaluation['organs'])} organs"
    rows.append((f"mean of {count}", _number(foreground["dice"]), *[""] * 7))
    lines, widths = _lines(rows)
    return [" " * (sum(widths[:5]) + 2 * 5) + "cases without the organ in", *_ruled(lines)]


def _surface_table(evaluation: dict[str, Any]) -> list[str]:
    heads = ("NSD", "n", "HD95 mm", "ASSD mm", "n", "volume ml", "error ml", "parts", "true", "swapped", "n")
    rows: list[Sequence[str]] = [("organ", *heads)]
    for organ, summary in evaluation["organs"].items():
        rows.append((organ, *_surface_figures(summary["metrics"])))
    metrics = evaluation["foreground_mean"]["metrics"]
    nsd, hd95, assd = (metrics.get(name, {"mean": None, "n_organs": 0}) for name in ("nsd", "hd95_mm", "assd_mm"))
    means = (_number(nsd["mean"]), str(nsd["n_organs"]), _number(hd95["mean"], 2), _number(assd["mean"], 2))
    rows.append(("mean of n organs", *means, str(hd95["n_organs"]), *[""] * 6))
    return _ruled(_lines(rows, last_left=False)[0])


def _surface_figures(metrics: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    def mean(name: str, digits: int) -> str:
        return _number(metrics[name]["mean"], digits) if name in metrics else "-"

    def count(name: str) -> str:
        return str(metrics[name]["n_cases"]) if name in metrics else ""

    swapped = metrics.get("swapped", {"mean": None})["mean"]
    return (
        mean("nsd", 4),
        count("nsd"),
        mean("hd95_mm", 2),
        mean("assd_mm", 2),
        count("hd95_mm"),
        mean("true_volume_ml", 1),
        mean("volume_error_ml", 1),
        mean("components", 1),
        mean("true_components", 1),
        "-" if swapped is None else f"{swapped:.1%}",
        count("swapped"),
    )


def format_protocols(evaluations: Sequence[dict[str, Any]]) -> str:
    """Return one Markdown table: mean Dice (cases behind it) of every organ under every protocol, side by side."""
    organs = dict.fromkeys(organ for evaluation in evaluations for organ in evaluation["organs"])
    rows: list[Sequence[str]] = [("organ", *(evaluation["protocol"]["name"] for evaluation in evaluations))]
    for organ in organs:
        cells = [_cell(evaluation["organs"].get(organ)) for evaluation in evaluations]
        rows.append((organ, *cells))
    means = [evaluation["foreground_mean"] for evaluation in evaluations]
    rows.append(("mean", *(f"{_number(mean['dice'])} ({mean['n_organs']} columns)" for mean in means)))
    lines, widths = _lines(rows, last_left=False, separator=" | ")
    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    table = [f"| {lines[0]} |", f"|{rule}|", *(f"| {line} |" for line in lines[1:])]
    notes = [f"- `{each['protocol']['name']}`: {each['protocol']['statement']}." for each in evaluations]
    scored = evaluations[0]["foreground_mean"]["n_cases"]
    return "\n".join(
        [*table, "", f"Dice as mean over cases (how many have a value) of {scored} case(s) scored.", "", *notes]
    )


def _cell(summary: dict[str, Any] | None) -> str:
    return "" if summary is None else f"{_number(summary['mean'])} ({summary['n_cases']})"


def _lines(
    rows: Sequence[Sequence[str]], *, last_left: bool = True, separator: str = "  "
) -> tuple[list[str], list[int]]:
    """Return aligned rows, names to the left and figures to the right, and the widths of the columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    left = {0, len(widths) - 1} if last_left else {0}
    lines = []
    for row in rows:
        cells = (
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append(separator.join(cells))
    return lines, widths


def _ruled(lines: Sequence[str]) -> list[str]:
    """Set off the first and the last row."""
    rule = "-" * max(map(len, lines))
    return [line.rstrip() for line in (lines[0], rule, *lines[1:-1], rule, lines[-1])]


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
