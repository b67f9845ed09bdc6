import math
import re

import pytest

from tests.evaluation.made_up import evaluation, score
from tests.report.studies import PROTOCOL, model, random_model
from unetr_nnunet.evaluation.model_results import ModelResults
from unetr_nnunet.evaluation.statistics import Estimate
from unetr_nnunet.report import tables
from unetr_nnunet.report.models import gather
from unetr_nnunet.report.paper_tables import to_markdown


def test_every_metric_on_paper() -> None:
    first = {"hd95_mm": 4.0, "relative_volume_error": -0.5, "components": 3, "true_components": 1, "swapped": 0.25}
    second = {"hd95_mm": math.nan, "relative_volume_error": 0.25, "components": 1, "true_components": 1, "swapped": 0}
    cases = {"a": {"left_kidney": score(0.5, **first)}, "b": {"left_kidney": score(1.0, **second)}}
    reported = gather([ModelResults("m", evaluation(cases, "left_kidney"))])
    assert [metric.heading for metric in reported.metrics] == [
        *("Dice", "HD95 (mm)", "volume off (%)", "extra components", "swapped (%)")
    ]
    ((_, cells),) = tables.model_section(reported)["metrics"]
    assert [(cell.text, cell.small) for cell in cells] == [
        *(("0.750", "2"), ("4.00", "1"), ("37.5", "2"), ("1.0", "2"), ("12.5", "2"))
    ]
    assert tables.organ_section(reported)["metrics"] == [("m", [("left kidney", cells)])]


def test_rows_of_models_with_worst_case_and_folds() -> None:
    folds = {"a": "0", "b": "0", "c": "1"}
    study = gather([model("m", {"liver": {"a": 0.5, "b": 0.7, "c": 0.9}}, fold_of=folds)])
    (row,) = tables.model_section(study)["rows"]
    assert (row["worst"], row["worst_value"]) == ("a", 0.5)
    groups, over = row["folds"]
    assert groups["0"] == Estimate(2, pytest.approx(0.6))
    assert over.sd == pytest.approx(0.3 / math.sqrt(2))
    assert tables.model_section(gather([random_model("m", 3)]))["rows"][0]["folds"] is None


def test_seeds_are_compared_on_the_cases_they_share() -> None:
    one = model("T_seed1", {"liver": {"a": 0.5, "b": 0.7}}, seed=1)
    two = model("T_seed2", {"liver": {"a": 0.6}}, seed=2)
    other = model("X_seed2", {"liver": {"a": 0.6}}, seed=2)
    ((name, groups, over),) = tables.model_section(gather([one, two, other]))["seeds"]
    assert (name, {seed: each.mean for seed, each in groups.items()}) == ("T", {"1": 0.5, "2": 0.6})
    assert over.sd == pytest.approx(0.1 / math.sqrt(2))


def test_bold_only_where_every_comparison_supports_it() -> None:
    clear = [
        random_model("A", 20, mean=0.9),
        random_model("B", 20, mean=0.7, seed=1),
        random_model("C", 20, mean=0.6, seed=2),
    ]
    assert {best for _, best, _ in tables.organ_section(gather(clear))["rows"]} == {"A"}
    close = [*clear, random_model("D", 20, mean=0.9, seed=3)]
    assert {best for _, best, _ in tables.organ_section(gather(close))["rows"]} == {None}
    assert {best for _, best, _ in tables.organ_section(gather(clear[:1]))["rows"]} == {None}


def test_figures_and_paper_tables() -> None:
    study = gather([random_model("A", 8), random_model("B", 8, seed=1)])
    assert [each["name"] for each in tables.distributions(study)] == ["spleen", "liver"]
    assert tables.distributions(study)[1]["colour"] == "rgb(170, 75, 45)", "the liver's own"
    assert tables.first_figure(study).count('class="dots"') == 2
    papers = dict(tables.organ_section(study)["papers"])
    assert papers["Markdown"].count("|") > 8
    assert r"\toprule" in papers["LaTeX"]
    assert PROTOCOL.name in papers["Markdown"]
    assert len(tables.organ_section(gather([random_model("A", 8)]))["papers"]) == 2


def test_paper_tables_as_files_hold_the_differences_too() -> None:
    models = [random_model(f"nnUNetTrainer{name}", 20, mean=mean) for name, mean in (("A", 0.6), ("B", 0.9))]
    organs, difference = map(to_markdown, tables.all_tables_for_papers(gather(models)))
    assert organs.startswith("Mean Dice of 2 models on 20 cases")
    assert difference.startswith("Dice of B less that of A, paired over 20 cases.")
    assert re.search(r"\| mean +\| +20 \| +\*\*\+0\.(29|30)\d\*\* \|.*\| +B \|", difference)
    assert len(tables.all_tables_for_papers(gather(models[:1]))) == 1
    apart = gather([model("A", {"liver": {"a": 0.5}}), model("B", {"liver": {"b": 0.6}})])
    assert "paired over 0 cases" in to_markdown(tables.all_tables_for_papers(apart)[1])


# ---- every case ----


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_worst_case_is_first_and_no_value_last() -> None:
    dice = {"liver": {"a": 0.9, "b": 0.2, "c": math.nan}, "aorta": {"a": 0.8, "b": math.nan, "c": math.nan}}
    content = tables.case_section(gather([model("m", dice, fold_of={"b": "3"})]))
    (shown,) = content["maps"]
    assert [row["case"] for row in shown["rows"]] == ["b", "a", "c"]
    assert [row["fold"] for row in shown["rows"]] == ["3", None, None]
    mean, _, aorta = shown["rows"][0]["cells"]
    assert (mean.text, aorta.text) == ("0.200", "-")
    assert math.isnan(aorta.value)


def test_worse_is_darker_and_text_is_legible() -> None:
    cells = [tables.heat_cell(step / 50) for step in range(51)]
    lightness = [luminance(each.background) for each in cells]
    assert lightness == sorted(lightness)
    for each in cells:
        pair = sorted((luminance(each.background), luminance("#000000" if each.ink == "#000" else "#ffffff")))
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, "WCAG asks for 4.5"


def test_three_thousand_cases_are_cut_to_the_worst() -> None:
    (shown,) = tables.case_section(gather([random_model("m", 3000)]))["maps"]
    assert shown["total"] == 3000
    assert len(shown["rows"]) == tables.MOST_ROWS
