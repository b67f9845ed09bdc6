"""Tables for a paper, in Markdown and LaTeX: scores of models, differences between two, one model by organ.

A figure is bold only where it is shown to be better than that of every other model (see ``compare_models``): the
largest figure of a column is often luck. Every table says how many cases it is based on. LaTeX is written here, as
tabulate's and pandas' writers know neither notes below a table nor its width.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.evaluation.comparison import Pair, compare_models
from unetr_nnunet.evaluation.metrics import METRICS, NO_VALUE, Metric, comparable, number, p_value
from unetr_nnunet.evaluation.ranking import common_scores
from unetr_nnunet.evaluation.statistics import Scores, describe, describe_overall, known
from unetr_nnunet.evaluation.verdict import ALPHA, count
from unetr_nnunet.organs import find_organ

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


def score_table(
    models: Mapping[str, Scores],
    trainings: Mapping[str, Sequence[Scores]] | None = None,
    *,
    metric: str = "dice",
    protocol: str = "",
) -> Table:
    """Return one row for each model, best first, one column for each organ, and the mean with its interval.

    All figures are over the same cases: those with a value from every model.

    Args:
        models: one metric of each model: {model: {column: {case: value}}}.
        trainings: of models with several seeds, the scores of each.
        metric: which metric it is.
        protocol: under which it was scored, for the caption.
    """
    kind = METRICS[metric]
    trainings = trainings or {}
    common, cases = common_scores(models)
    comparison = compare_models(common, trainings, metric=metric)
    columns = list(next(iter(common.values()), {}))
    names = [row.model for row in comparison.ranking] or list(models)
    best = {column: comparison.best(column) for column in columns}
    best_mean = comparison.best(None)
    rows = []
    for name in names:
        overall = describe_overall(common[name], trainings.get(name, ()))
        means = [describe(common[name][column].values()).mean for column in columns]
        cells = [Cell(kind.text(mean), best[column] == name) for column, mean in zip(columns, means, strict=True)]
        interval = Cell(kind.interval(overall.low, overall.high))
        rows.append((Cell(name), *cells, Cell(kind.text(overall.mean), best_mean == name), interval))
    counts = [len(known(next(iter(common.values()))[column].values())) for column in columns]
    rows.append(tuple(map(Cell, ("cases", *map(str, counts), str(len(cases)), ""))))
    return Table(
        f"Mean {kind.heading} of {count(len(names), 'model')} on {count(len(cases), 'case')}{_under(protocol)}.",
        ("model", *(_short(column) for column in columns), "mean", "95 % interval"),
        tuple(rows),
        (*_bold_note(len(names)), *_missing_note(kind), *_abbreviations(columns)),
    )


def difference_table(pair: Pair, names: Mapping[str, str] | None = None) -> Table:
    """Return one row for each organ: how far the first model of a pair is from the second, and how sure that is.

    Args:
        pair: of models that were compared.
        names: what to call the models; None for their own names.
    """
    kind = METRICS[pair.mean.metric]
    first, second = ((names or {}).get(name, name) for name in (pair.first, pair.second))
    named = [
        *((column.replace("_", " "), difference) for column, difference in pair.columns.items()),
        ("mean", pair.mean),
    ]
    rows = []
    for name, difference in named:
        better = difference.better(first, second)
        cells = (
            Cell(name),
            Cell(str(difference.cases)),
            Cell(kind.text(difference.difference, signed=True), better is not None),
            Cell(kind.interval(difference.low, difference.high, signed=True)),
            Cell(p_value(difference.p_holm)),
            Cell(number(difference.effect, 2, signed=True)),
            Cell(better or NO_VALUE),
        )
        rows.append(cells)
    return Table(
        f"{kind.heading} of {first} less that of {second}, paired over {count(pair.cases, 'case')}.",
        ("organ", "cases", "difference", "95 % interval", "p (Holm)", "effect", "better"),
        tuple(rows),
        (
            "p: Wilcoxon signed-rank test, corrected by Holm. Effect: rank-biserial correlation. "
            f"Bold: p < {ALPHA:g} and the interval on one side of 0.",
            *_missing_note(kind),
        ),
    )


def organ_table(
    name: str, scores: Scores, trainings: Sequence[Scores] = (), *, metric: str = "dice", protocol: str = ""
) -> Table:
    """Return one row for each organ of one model: cases, mean, interval, spread, and the worst case.

    Args:
        name: of the model.
        scores: one metric by column and case.
        trainings: of a model with several seeds, the scores of each.
        metric: which metric it is.
        protocol: under which it was scored, for the caption.
    """
    kind = comparable(metric)
    rows = []
    for column, values in scores.items():
        over = describe(values.values())
        figures = (kind.text(over.mean), kind.interval(over.low, over.high), kind.text(over.median), kind.text(over.sd))
        rows.append((column.replace("_", " "), str(over.cases), *figures, *_worst(values, kind)))
    overall = describe_overall(scores, trainings)
    mean = (kind.text(overall.mean), kind.interval(overall.low, overall.high))
    rows.append((f"mean of {count(overall.columns, 'organ')}", str(overall.cases), *mean, "", "", "", ""))
    return Table(
        f"{kind.heading} of {name} on {count(overall.cases, 'case')}{_under(protocol)}.",
        ("organ", "cases", "mean", "95 % interval", "median", "SD", "worst", "worst case"),
        tuple(tuple(map(Cell, row)) for row in rows),
    )


def _worst(values: Mapping[str, float], kind: Metric) -> tuple[str, str]:
    """Return the worst value and its case, the first by name of equals."""
    valued = sorted((value, case) for case, value in values.items() if known([value]))
    if not valued:
        return NO_VALUE, NO_VALUE
    worst = valued[0][0] if kind.best else valued[-1][0]
    return kind.text(worst), next(case for value, case in valued if value == worst)


def _under(protocol: str) -> str:
    return f" under the protocol {protocol!r}" if protocol else ""


def to_markdown(table: Table) -> str:
    """Return a table in GitHub's Markdown."""
    rows = [[_markdown(cell) for cell in row] for row in table.rows]
    header = [_markdown(Cell(name)) for name in table.header]
    align = ["left", *["right"] * (len(header) - 1)]
    text = tabulate(rows, header, "pipe", disable_numparse=True, colalign=align)
    return "\n".join([table.caption, "", text, "", *table.notes]).rstrip() + "\n"


def _markdown(cell: Cell) -> str:
    text = re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", cell.text)
    return f"**{text}**" if cell.bold else text


def to_latex(table: Table) -> str:
    """Return a table in LaTeX; the preamble needs ``booktabs``, and for wide tables ``graphicx``."""

    def line(cells: Sequence[Cell]) -> str:
        return " & ".join(_latex(cell) for cell in cells) + r" \\"

    wide = len(table.header) > WIDE
    notes = _escape(" ".join(table.notes))
    lines = [
        r"\begin{table}",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{_escape(table.caption)}}}",
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
    return "\n".join(filter(None, lines)) + "\n"


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


def _short(column: str) -> str:
    organ = find_organ(column)
    return organ.short_name if organ else column.replace("_", " ")


def _abbreviations(columns: Sequence[str]) -> list[str]:
    known = [(organ.short_name, column.replace("_", " ")) for column in columns if (organ := find_organ(column))]
    return ["; ".join(f"{short}: {name}" for short, name in known) + "."] if known else []


def _missing_note(kind: Metric) -> list[str]:
    if kind.unit != "mm":
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
