import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from tests.report.studies import write_log
from unetr_nnunet.evaluation.statistics import Estimate
from unetr_nnunet.evaluation.verdict import Difference
from unetr_nnunet.nnunet.training_log import read_fold_logs
from unetr_nnunet.report import figures
from unetr_nnunet.report.figures import (
    Row,
    distribution_figure,
    evenly,
    fit,
    learning_figure,
    mean_figure,
    name_lines,
)
from unetr_nnunet.report.svg import Scale

MARKUP = "<img src=x onerror=alert(1)>"
SURE = Estimate(3, 0.5, low=0.4, high=0.6)
UNSURE = Estimate(1, 0.9)


def test_means_intervals_and_cases_are_where_they_belong() -> None:
    rows = [Row("a", [0.0, 0.5, 1.0], SURE), Row(MARKUP, [0.9], UNSURE)]
    drawn = ElementTree.fromstring(mean_figure(rows, "caption"))
    circles = drawn.findall(".//circle")
    lines = [each for each in drawn.iter("line") if each.get("stroke") == figures.ACCENT]
    dots = drawn.find(".//path[@class='dots']")
    assert len(circles) == 2
    assert len(lines) == 1, "no interval, no line"
    assert dots is not None
    places = [float(x) for x in re.findall(r"M([\d.]+)", dots.get("d", ""))]
    middle = (places[0] + places[2]) / 2
    assert abs(float(circles[0].get("cx", 0)) - middle) < 0.1
    width = places[2] - places[0]
    assert abs(float(lines[0].get("x2", 0)) - float(lines[0].get("x1", 0)) - 0.2 * width) < 0.1
    assert "0.400" in "".join(drawn.itertext())
    assert MARKUP in [title.text for title in drawn.iter("title")]


def test_many_cases_stay_few_dots() -> None:
    assert evenly(list(range(3000)), 120)[0] == 0
    assert evenly(list(range(3000)), 120)[-1] == 2999
    row = Row("a", [case / 3000 for case in range(3000)], SURE)
    assert distribution_figure([row], (0, 1), "x").count("M") == figures.MOST_DOTS


def test_an_organ_without_values_says_so() -> None:
    drawn = distribution_figure([Row("a", [], UNSURE)], (0, 1), "x")
    assert "no case has a value" in drawn


def test_long_names_are_cut_in_the_middle() -> None:
    assert fit("a" * 50 + "z" * 50, 100).startswith("aaa")
    assert fit("a" * 50 + "z" * 50, 100).endswith("zzz")
    assert fit("short", 100) == "short"
    assert len(fit("A" * 50, 100)) < len(fit("a" * 50, 100)), "capitals are wide"


def test_names_of_relatives_stay_different_in_two_lines() -> None:
    assert name_lines("UNETR_CNNStem_4epochs_seed0", 126) == ["UNETR_CNNStem_", "4epochs_seed0"]
    assert name_lines("a_b", 126) == ["a_b"]
    assert name_lines("a" * 50, 126) == [fit("a" * 50, 126)]
    rows = [Row(f"UNETR_{part}_4epochs_seed{seed}", [0.5], SURE) for part in ("Modified", "FPN") for seed in (0, 1)]
    drawn = [distribution_figure(rows, (0, 1), "x"), mean_figure(rows, "x")]
    for each in drawn:
        labels = ["".join(part.text or "" for part in group.iter("text")) for group in _groups(each)]
        assert labels == [row.name for row in rows]


def _groups(figure: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(figure).iter("g"))


def test_a_difference_is_filled_only_where_it_is_shown() -> None:
    scale = Scale(-1, 1, 0, 200)
    shown = Difference("dice", 9, 0.5, 0.25, 0.75, p=0.01, p_holm=0.01, effect=1)
    hollow = ElementTree.fromstring(figures.difference_cell(replace(shown, p_holm=0.2), scale, "x"))
    filled = ElementTree.fromstring(figures.difference_cell(shown, scale, "x"))
    circle, full = hollow.find("circle"), filled.find("circle")
    assert circle is not None
    assert full is not None
    assert circle.get("cx") == full.get("cx") == "150"
    assert (circle.get("fill"), full.get("fill")) == ("#fff", figures.ACCENT)
    assert "circle" not in figures.difference_cell(Difference("dice", 0), scale, "x")


def test_learning_curves_of_all_folds(tmp_path: Path) -> None:
    for fold in ("0", "1"):
        write_log(tmp_path, fold)
    logs = read_fold_logs(tmp_path)
    drawn = ElementTree.fromstring(learning_figure(logs, 2, (-2, 0.5), "x"))
    curves = list(drawn.iter("polyline"))
    assert len(curves) == 2 * 3
    titles = [title.text or "" for title in drawn.iter("title")]
    assert any("fold 1, val loss" in title for title in titles)
    one = read_fold_logs(write_log(tmp_path / "one", epochs=1))
    assert "circle" in learning_figure(one, 0, (0, 1), "x"), "a single epoch is a dot"
