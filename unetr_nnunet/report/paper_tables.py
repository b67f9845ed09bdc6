"""Tables for a paper, in Markdown and LaTeX: scores of models, the difference between two, one model organ by organ.

A figure is bold only where it is shown to be better than that of every other model (see ``compare_models``): the
largest figure of a column is often luck. Every table says on how many cases it stands.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.evaluation.comparison import compare_models
from unetr_nnunet.evaluation.metric_kinds import METRIC_KINDS, is_higher_better
from unetr_nnunet.evaluation.ranking import common_scores
from unetr_nnunet.evaluation.statistics import Scores, describe, describe_overall, worst_cases
from unetr_nnunet.evaluation.verdict import ALPHA
from unetr_nnunet.organs import find_organ

NO_VALUE = "-"
WIDE = 9
"""More columns than this are scaled to the width of the text in LaTeX."""
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


@dataclass(frozen=True)
class Cell:
    """Plain text, bold or not."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """A table before it takes a form; the first column holds names, the others figures.

    Attributes:
        caption: what is shown.
        header: names of the columns.
        rows: as many cells in each as in the header.
        notes: sentences below.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


def score_table(models: Mapping[str, Scores], *, metric: str = "dice", protocol: str = "", seed: int = 0) -> Table:
    """Return one row for each model, best first, one column for each organ, and the mean with its interval.

    All figures are over the same cases: those with a value from every model.

    Args:
        models: one metric of each model: {model: {column: {case: value}}}.
        metric: which metric it is.
        protocol: under which it was scored, for the caption.
        seed: of the bootstrap.
    """
    common, cases = common_scores(models)
    comparison = compare_models(common, metric=metric, seed=seed)
    columns = list(next(iter(common.values()), {}))
    names = [row["model"] for row in comparison["ranking"]] or list(models)
    rows = []
    for name in names:
        cells = []
        for column in columns:
            figures = describe(common[name][column].values(), seed=seed)
            best = is_best(name, [pair["columns"][column] for pair in comparison["pairs"]], len(names))
            cells.append(Cell(_number(figures["mean"], metric), best))
        overall = describe_overall(common[name], seed=seed)
        best = is_best(name, [pair["mean"] for pair in comparison["pairs"]], len(names))
        mean = Cell(_number(overall["mean"], metric), best)
        rows.append((Cell(name), *cells, mean, Cell(_interval(overall, metric))))
    counts = [describe(next(iter(common.values()))[column].values())["cases"] for column in columns] if common else []
    rows.append((Cell("cases"), *(Cell(str(count)) for count in counts), Cell(str(len(cases))), Cell("")))
    return Table(
        f"Mean {_title(metric)} of {_count(len(names), 'model')} on {_count(len(cases), 'case')}"
        + (f" under the protocol {protocol!r}." if protocol else "."),
        ("model", *(_short(column) for column in columns), "mean", "95 % interval"),
        tuple(rows),
        (*_bold_note(len(names)), *_missing_note(metric), *_abbreviations(columns)),
    )


def difference_table(pair: Mapping[str, Any], *, metric: str = "dice") -> Table:
    """Return one row for each organ: how far the first model of a pair is from the second, and how sure that is.

    Args:
        pair: one of the ``pairs`` of ``compare_models``.
        metric: the metric compared.
    """
    first, second = pair["first"], pair["second"]
    named = [*((column.replace("_", " "), each) for column, each in pair["columns"].items()), ("mean", pair["mean"])]
    rows = tuple(
        (
            Cell(name),
            Cell(str(figures["cases"])),
            Cell(_number(figures["difference"], metric, signed=True), figures["better"] is not None),
            Cell(_interval(figures, metric, signed=True)),
            Cell(_p(figures["p_holm"])),
            Cell(NO_VALUE if figures["effect"] is None else f"{figures['effect']:+.2f}"),
            Cell(figures["better"] or NO_VALUE),
        )
        for name, figures in named
    )
    return Table(
        f"{_title(metric)} of {first} less that of {second}, paired over {_count(pair['cases'], 'case')}.",
        ("organ", "cases", "difference", "95 % interval", "p (Holm)", "effect", "better"),
        rows,
        (
            "p: Wilcoxon signed-rank test, corrected by Holm. Effect: rank-biserial correlation. "
            f"Bold: p < {ALPHA:g} and the interval on one side of 0.",
            *_missing_note(metric),
        ),
    )


def organ_table(name: str, scores: Scores, *, metric: str = "dice", protocol: str = "", seed: int = 0) -> Table:
    """Return one row for each organ of one model: cases, mean, interval, spread, and the worst case.

    Args:
        name: of the model.
        scores: one metric by column and case.
        metric: which metric it is.
        protocol: under which it was scored, for the caption.
        seed: of the bootstrap.
    """
    higher = is_higher_better(metric)
    rows = []
    for column, values in scores.items():
        figures = describe(values.values(), seed=seed)
        worst = worst_cases({column: values}, higher, 1)
        end = (_number(worst[0]["worst"], metric), worst[0]["case"]) if worst else (NO_VALUE, NO_VALUE)
        middle = (_number(figures[key], metric) for key in ("median", "sd"))
        cells = (str(figures["cases"]), _number(figures["mean"], metric), _interval(figures, metric), *middle, *end)
        rows.append((Cell(column.replace("_", " ")), *map(Cell, cells)))
    overall = describe_overall(scores, seed=seed)
    cells = (str(overall["cases"]), _number(overall["mean"], metric), _interval(overall, metric), "", "", "", "")
    rows.append((Cell(f"mean of {_count(overall['columns'], 'organ')}"), *map(Cell, cells)))
    return Table(
        f"{_title(metric)} of {name} on {_count(overall['cases'], 'case')}"
        + (f" under the protocol {protocol!r}." if protocol else "."),
        ("organ", "cases", "mean", "95 % interval", "median", "SD", "worst", "worst case"),
        tuple(rows),
    )


def is_best(name: str, family: Sequence[Mapping[str, Any]], models: int) -> bool:
    """Return whether a model is shown to be better than every other.

    Args:
        name: the model.
        family: figures of one column from every pair of models (see ``compare_models``).
        models: how many models there are.
    """
    return models > 1 and sum(figures["better"] == name for figures in family) == models - 1


def to_markdown(table: Table) -> str:
    """Return a table in GitHub's Markdown."""

    def line(cells: Sequence[Cell]) -> str:
        return "| " + " | ".join(_markdown(cell) for cell in cells) + " |"

    rule = "|".join(["", " --- ", *[" ---: "] * (len(table.header) - 1), ""])
    lines = [line([Cell(name) for name in table.header]), rule, *(line(row) for row in table.rows)]
    return "\n".join([table.caption, "", *lines, "", *table.notes]).rstrip() + "\n"


def _markdown(cell: Cell) -> str:
    text = re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", cell.text)
    return f"**{text}**" if cell.bold else text


def to_latex(table: Table, label: str = "") -> str:
    """Return a table in LaTeX; the preamble needs ``booktabs``, and for wide tables ``graphicx``.

    Args:
        table: what to show.
        label: to refer to it; empty for none.
    """

    def line(cells: Sequence[Cell]) -> str:
        return " & ".join(_latex(cell) for cell in cells) + r" \\"

    wide = len(table.header) > WIDE
    notes = _escape(" ".join(table.notes))
    lines = [
        r"\begin{table}",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{_escape(table.caption)}}}",
        rf"\label{{{label}}}" if label else "",
        r"\resizebox{\linewidth}{!}{%" if wide else "",
        rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        r"\toprule",
        line([Cell(name) for name in table.header]),
        r"\midrule",
        *(line(row) for row in table.rows[:-1]),
        r"\midrule",
        *(line(row) for row in table.rows[-1:]),
        r"\bottomrule",
        r"\end{tabular}}" if wide else r"\end{tabular}",
        rf"\par\smallskip\parbox{{\linewidth}}{{{notes}}}" if notes else "",
        r"\end{table}",
    ]
    return "\n".join(each for each in lines if each) + "\n"


def _latex(cell: Cell) -> str:
    text = re.sub(r"(?<![\w.])-(?=[\d.])", "$-$", _escape(cell.text))
    return rf"\textbf{{{text}}}" if cell.bold else text


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def write_tables(tables: Sequence[Table], path: Path) -> None:
    """Write tables, in LaTeX where the file is called ``.tex``, else in Markdown; the file is whole or absent."""
    form = to_latex if path.suffix == ".tex" else to_markdown
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(form(table) for table in tables), encoding="utf-8")


def _title(metric: str) -> str:
    kind = METRIC_KINDS[metric]
    return f"{kind.title} ({kind.unit or '%'})"


def _number(value: float | None, metric: str, *, signed: bool = False) -> str:
    """Return shares in per cent, all else in its unit; one decimal: more would not be known from tens of cases."""
    if value is None:
        return NO_VALUE
    shown = value if METRIC_KINDS[metric].unit else 100 * value
    return f"{shown:+.1f}" if signed else f"{shown:.1f}"


def _interval(figures: Mapping[str, Any], metric: str, *, signed: bool = False) -> str:
    if figures["low"] is None:
        return NO_VALUE
    return f"{_number(figures['low'], metric, signed=signed)} to {_number(figures['high'], metric, signed=signed)}"


def _p(value: float | None) -> str:
    return NO_VALUE if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _short(column: str) -> str:
    organ = find_organ(column)
    return organ.short_name if organ else column.replace("_", " ")


def _abbreviations(columns: Sequence[str]) -> list[str]:
    known = [(organ.short_name, column.replace("_", " ")) for column in columns if (organ := find_organ(column))]
    return ["; ".join(f"{short}: {name}" for short, name in known) + "."] if known else []


def _missing_note(metric: str) -> list[str]:
    if METRIC_KINDS[metric].unit != "mm":
        return []
    return ["Where a model misses an organ there is no distance, and the case is left out: read this beside Dice."]


def _bold_note(models: int) -> list[str]:
    if models < 2:
        return []
    return [
        "All figures are over the values that every model has.",
        "Bold: better than every other model, each paired difference with a 95 % interval on one side of 0 and "
        f"p < {ALPHA:g} (Wilcoxon signed-rank, Holm); no bold, no evidence of a best model.",
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
