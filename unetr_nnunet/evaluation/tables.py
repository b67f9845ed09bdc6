"""What an evaluation leaves behind: a table for the terminal, ``metrics.csv`` and ``metrics.json``."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unetr_nnunet.atomic import atomic_path

CSV_COLUMNS = ("case", "organ", "dice", "truth_voxels", "prediction_voxels")


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
        writer = csv.DictWriter(stream, CSV_COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for case, organs in evaluation["cases"].items():
            for organ, scores in organs.items():
                writer.writerow({"case": case, "organ": organ, **scores, "dice": _csv_number(scores["dice"])})


def _csv_number(value: float) -> float | str:
    return "" if math.isnan(value) else value


def format_table(evaluation: dict[str, Any]) -> str:
    """Return the organ table as text, with the rule it follows."""
    foreground = evaluation["foreground_mean"]
    rows: list[Sequence[str]] = [("organ", "Dice", "median", "worst", "n", "truth", "prediction", "both", "worst case")]
    for organ, summary in evaluation["organs"].items():
        figures = (_number(summary["mean"]), _number(summary["median"]), _number(summary["worst"]))
        absent = (summary["absent_in_truth"], summary["absent_in_prediction"], summary["absent_in_both"])
        rows.append((organ, *figures, str(summary["n_cases"]), *map(str, absent), summary["worst_case"] or "-"))
    count = f"{foreground['n_organs']} of {len(evaluation['organs'])} organs"
    rows.append((f"mean of {count}", _number(foreground["dice"]), *[""] * 7))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [_align(row, widths) for row in rows]
    absent_at = sum(widths[:5]) + 2 * 5
    rule = "-" * max(map(len, lines))
    return "\n".join(
        [
            " " * absent_at + "cases without the organ in",
            lines[0],
            rule,
            *lines[1:-1],
            rule,
            lines[-1],
            "",
            f"{foreground['n_cases']} case(s) scored; n = cases behind the organ's Dice. Labels: "
            f"{evaluation['label_source']}.",
            f"Rule {evaluation['rule']['name']!r}: {evaluation['rule']['statement']}.",
        ]
    )


def _align(row: Sequence[str], widths: Sequence[int]) -> str:
    """Names to the left, figures to the right."""
    last = len(row) - 1
    cells = (
        cell.ljust(width) if column in (0, last) else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(cells).rstrip()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
