import math
import re

import pytest

from tests.report.studies import PROTOCOL, model, random_model
from unetr_nnunet.report import tables
from unetr_nnunet.report.paper_tables import to_markdown
from unetr_nnunet.report.study import gather


def test_every_measure_on_paper() -> None:
    metrics = {
        "a": {
            "dice": 0.5,
            "hd95_mm": 4.0,
            "relative_volume_error": -0.5,
            "components": 3,
            "true_components": 1,
            "swapped": 0.25,
        },
        "b": {
            "dice": 1.0,
            "hd95_mm": math.nan,
            "relative_volume_error": 0.25,
            "components": 1,
            "true_components": 1,
            "swapped": 0,
        },
    }
    only = model("m", {"left_kidney": {"a": 0.5, "b": 1.0}}, metrics=list(metrics["a"]))
    only.evaluation["cases"] = {case: {"left_kidney": values} for case, values in metrics.items()}
    study = gather([only])
    titles = [measure.title for measure in tables.measures(study)]
    assert titles == ["Dice", "HD95, mm", "volume, %", "pieces too many", "swapped, %"]
    (row,) = tables.metric_rows(study)
    assert row["cells"] == [(0.75, 2), (4.0, 1), (37.5, 2), (1.0, 2), (12.5, 2)]
    assert tables.organ_metric_tables(study)[0]["rows"] == [("left kidney", row["cells"])]


def test_rows_of_models_with_worst_case_and_folds() -> None:
    folds = {"a": "0", "b": "0", "c": "1"}
    study = gather([model("m", {"liver": {"a": 0.5, "b": 0.7, "c": 0.9}}, fold_of=folds)])
    (row,) = tables.model_rows(study)
    assert (row["worst"], row["worst_value"]) == ("a", 0.5)
    assert row["folds"]["groups"]["0"] == {"mean": pytest.approx(0.6), "cases": 2}
    assert row["folds"]["sd"] == pytest.approx(0.3 / math.sqrt(2))
    assert tables.model_rows(gather([random_model("m", 3)]))[0]["folds"] is None


def test_seeds_are_compared_on_the_cases_they_share() -> None:
    one = model("T_seed1", {"liver": {"a": 0.5, "b": 0.7}}, seed=1)
    two = model("T_seed2", {"liver": {"a": 0.6}}, seed=2)
    other = model("X_seed2", {"liver": {"a": 0.6}}, seed=2)
    (group,) = tables.seed_spreads(gather([one, two, other]))
    assert {seed: each["mean"] for seed, each in group["groups"].items()} == {"1": 0.5, "2": 0.6}
    assert group["sd"] == pytest.approx(0.1 / math.sqrt(2))


def test_bold_only_where_every_comparison_supports_it() -> None:
    clear = [
        random_model("A", 20, mean=0.9),
        random_model("B", 20, mean=0.7, seed=1),
        random_model("C", 20, mean=0.6, seed=2),
    ]
    assert {row["best"] for row in tables.organ_rows(gather(clear))} == {"A"}
    close = [*clear, random_model("D", 20, mean=0.9, seed=3)]
    assert {row["best"] for row in tables.organ_rows(gather(close))} == {None}
    assert {row["best"] for row in tables.organ_rows(gather(clear[:1]))} == {None}


def test_figures_and_paper_tables() -> None:
    study = gather([random_model("A", 8), random_model("B", 8, seed=1)])
    assert [each["name"] for each in tables.distributions(study)] == ["spleen", "liver"]
    assert tables.distributions(study)[1]["colour"] == "rgb(170, 75, 45)", "the liver's own"
    assert tables.first_figure(study).count('class="dots"') == 2
    papers = dict(tables.tables_for_papers(study))
    assert papers["Markdown"].count("|") > 8
    assert r"\toprule" in papers["LaTeX"]
    assert PROTOCOL["name"] in papers["Markdown"]
    assert len(tables.tables_for_papers(gather([random_model("A", 8)]))) == 2


def test_paper_tables_as_files_hold_the_differences_too() -> None:
    models = [random_model(f"nnUNetTrainer{name}", 20, mean=mean) for name, mean in (("A", 0.6), ("B", 0.9))]
    organs, difference = map(to_markdown, tables.all_tables_for_papers(gather(models)))
    assert organs.startswith("Mean Dice (%) of 2 models on 20 cases")
    assert difference.startswith("Dice (%) of B less that of A, paired over 20 cases.")
    assert re.search(r"\| mean \| 20 \| \*\*\+(29|30)\.\d\*\* \|.*\| B \|", difference)
    assert len(tables.all_tables_for_papers(gather(models[:1]))) == 1
    apart = gather([model("A", {"liver": {"a": 0.5}}), model("B", {"liver": {"b": 0.6}})])
    assert "paired over 0 cases" in to_markdown(tables.all_tables_for_papers(apart)[1])
