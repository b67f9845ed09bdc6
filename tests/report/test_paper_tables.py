"""Tables as a reader, and LaTeX, would take them."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from unetr_nnunet.evaluation.comparison import compare_models
from unetr_nnunet.evaluation.statistics import Scores, describe
from unetr_nnunet.report.paper_tables import (
    Cell,
    Table,
    difference_table,
    organ_table,
    score_table,
    to_latex,
    to_markdown,
    write_tables,
)

ORGANS = ("liver", "gallbladder", "my_organ")


def model(shift: tuple[float, float, float], seed: int, cases: int = 30) -> dict[str, dict[str, float]]:
    base = np.random.default_rng(0).beta(18, 3, (cases, 3))
    values = base + np.random.default_rng(seed).normal(shift, 0.01, base.shape)
    return {organ: {f"c{case}": values[case, index] for case in range(cases)} for index, organ in enumerate(ORGANS)}


@pytest.fixture
def models() -> dict[str, Scores]:
    """B is best in the liver; in the gallbladder A and B are both better than C, but not than each other."""
    return {"A": model((0, 0.05, 0), 1), "B_2": model((0.05, 0.05, 0), 2), "C": model((-0.05, 0, 0), 3)}


def cells(markdown: str) -> list[list[str]]:
    rows = [line.strip("|").split(" | ") for line in markdown.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows if "---" not in row[0]]


def test_best_is_bold_only_where_every_comparison_supports_it(models: dict[str, Scores]) -> None:
    header, first, second, third, count = cells(to_markdown(score_table(models, protocol="nnunet")))
    assert header == ["model", "Liv", "Gall", "my organ", "mean", "95 % interval"]
    assert [row[0] for row in (first, second, third)] == [r"B\_2", "A", "C"]
    assert first[1] == f"**{np.mean(list(models['B_2']['liver'].values())):.3f}**"
    assert first[4].startswith("**")
    assert not any("**" in cell for row in (second, third) for cell in row)
    assert "**" not in first[2] + first[3]
    assert count == ["cases", "30", "30", "30", "30", ""]
    low, high = first[5].split(" to ")
    assert float(low) < float(first[4].strip("*")) < float(high)


def test_the_largest_figure_of_too_few_cases_is_not_bold() -> None:
    models = {"A": model((0, 0, 0), 1, cases=5), "B": model((0.2, 0.2, 0.2), 2, cases=5)}
    table = score_table(models)
    assert not any(cell.bold for row in table.rows for cell in row)
    assert table.caption == "Mean Dice of 2 models on 5 cases."


def test_one_model_is_not_the_best() -> None:
    table = score_table({"A": model((0, 0, 0), 1)})
    assert not any(cell.bold for row in table.rows for cell in row)
    assert not any("Bold" in note for note in table.notes)


def test_only_cases_of_every_model_count(models: dict[str, Scores]) -> None:
    del models["C"]["liver"]["c7"]
    count = score_table(models).rows[-1]
    assert [cell.text for cell in count] == ["cases", "29", "30", "30", "30", ""]
    apart = score_table({"A": {"liver": {"a": 1.0}}, "B": {"liver": {"b": 1.0}}})
    assert [[cell.text for cell in row] for row in apart.rows] == [
        ["A", "-", "-", "-"],
        ["B", "-", "-", "-"],
        ["cases", "0", "0", ""],
    ]


def test_differences(models: dict[str, Scores]) -> None:
    pair = compare_models(models).pairs[0]
    table = difference_table(pair)
    liver, *_, mean = ([cell.text for cell in row] for row in table.rows)
    figures = pair.columns["liver"]
    assert liver[:4] == [
        "liver",
        "30",
        f"{figures.difference:+.3f}",
        f"{figures.low:+.3f} to {figures.high:+.3f}",
    ]
    assert liver[4:] == ["< 0.001", "-1.00", "B_2"]
    assert mean[0] == "mean"
    assert table.caption == "Dice of A less that of B_2, paired over 30 cases."
    renamed = difference_table(pair, {"A": "one", "B_2": "two"})
    assert renamed.caption == "Dice of one less that of two, paired over 30 cases."
    assert [row[-1].text for row in renamed.rows] == ["two", "-", "-", "two"]
    none = compare_models({"A": {"liver": {"a": 1.0}}, "B": {"liver": {"b": 1.0}}}).pairs[0]
    assert [cell.text for cell in difference_table(none).rows[0]] == ["liver", "0", *"-----"]


def test_one_model_organ_by_organ() -> None:
    scores = {"liver": {"a": 0.5, "b": 0.25, "c": 1.0}, "aorta": {"a": float("nan")}}
    table = organ_table("A", scores, protocol="nnunet")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["liver", "3", "0.583", "-", "0.500", "0.382", "0.250", "b"],
        ["aorta", "0", "-", "-", "-", "-", "-", "-"],
        ["mean of 1 organ", "3", "0.583", "-", "", "", "", ""],
    ]
    assert table.caption == "Dice of A on 3 cases under the protocol 'nnunet'."
    assert describe(scores["liver"].values()).sd == pytest.approx(0.38188130791)


def test_distances_are_in_mm_and_what_they_leave_out_is_said() -> None:
    models = {"A": model((0, 0, 0), 1), "B": model((0.2, 0.2, 0.2), 2)}
    table = score_table(models, metric="hd95_mm")
    assert table.rows[0][0].text == "A"  # less is better
    assert table.caption.startswith("Mean HD95 (mm)")
    assert any("misses an organ" in note for note in table.notes)
    worst = organ_table("A", models["A"], metric="hd95_mm").rows[0][6].text
    assert worst == f"{max(models['A']['liver'].values()):.2f}"


NASTY = "50% of A_1 & B$ #2 {x} ~^ \\ <b> |c| *d* -1 a-b"


def test_markup_in_names_does_no_harm() -> None:
    table = Table(NASTY, ("a", "b"), ((Cell(NASTY), Cell("-1.5", bold=True)), (Cell("n"), Cell("2"))))
    markdown = to_markdown(table)
    assert re.search(r"\\<b\\> \\\|c\\\| \\\*d\\\* -1 a-b \| +\*\*-1\.5\*\* \|", markdown)
    latex = to_latex(table)
    assert r"50\% of A\_1 \& B\$ \#2 \{x\} \textasciitilde{}\textasciicircum{} \textbackslash{}" in latex
    assert r"\textbar{}c\textbar{} *d* $-$1 a-b & \textbf{$-$1.5} \\" in latex


def test_every_row_of_the_latex_has_all_columns(models: dict[str, Scores]) -> None:
    latex = to_latex(score_table(models))
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert [row.count("&") for row in rows] == [5] * 5
    assert r"\begin{tabular}{lrrrrr}" in latex
    assert "resizebox" not in latex
    assert latex.count("{") == latex.count("}")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex here")
def test_latex_takes_them(models: dict[str, Scores], tmp_path: Path) -> None:
    wide = Table(NASTY, tuple("abcdefghijkl"), ((Cell(NASTY), *[Cell("-1.5")] * 11),) * 2, (NASTY,))
    tables = [score_table(models), difference_table(compare_models(models).pairs[0]), wide]
    write_tables(tables, tmp_path / "tables.tex")
    document = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}\input{tables}\end{document}"
    (tmp_path / "all.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_files(models: dict[str, Scores], tmp_path: Path) -> None:
    tables = [score_table(models), organ_table("A", models["A"])]
    for name, form in (("tables.md", to_markdown), ("tables.tex", to_latex)):
        write_tables(tables, tmp_path / name)
        assert (tmp_path / name).read_text() == form(tables[0]) + "\n" + form(tables[1])
