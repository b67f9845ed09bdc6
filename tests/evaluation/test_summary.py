import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetr_nnunet.evaluation.summary import summarise


def score(dice: float, truth_voxels: int = 5, prediction_voxels: int = 5) -> dict[str, float]:
    return {"dice": dice, "truth_voxels": truth_voxels, "prediction_voxels": prediction_voxels}


def figures(summary: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in summary.items() if name != "metrics"}


def test_means_are_over_the_cases_that_have_a_value_and_say_how_many() -> None:
    cases = {
        "a": {"liver": score(0.5), "gallbladder": score(math.nan, 0, 0)},
        "b": {"liver": score(0.75), "gallbladder": score(0.0, 0, 7)},
        "c": {"liver": score(1.0), "gallbladder": score(0.0, 7, 0)},
        "d": {"liver": score(0.25), "gallbladder": score(0.75)},
        "e": {"liver": score(math.nan, 0, 0), "gallbladder": score(0.0, 0, 1)},
    }
    summary = summarise(cases, ["liver", "gallbladder"])
    assert figures(summary["organs"]["liver"]) == {
        "n_cases": 4,
        "mean": 0.625,
        "median": 0.625,
        "worst": 0.25,
        "worst_case": "d",
        "absent_in_both": 1,
        "absent_in_truth": 0,
        "absent_in_prediction": 0,
    }
    assert figures(summary["organs"]["gallbladder"]) == {
        "n_cases": 4,
        "mean": 0.1875,
        "median": 0.0,
        "worst": 0.0,
        "worst_case": "b",
        "absent_in_both": 1,
        "absent_in_truth": 2,
        "absent_in_prediction": 1,
    }
    assert figures(summary["foreground_mean"]) == {"dice": 0.40625, "n_organs": 2, "n_cases": 5}


def test_every_metric_has_a_mean_and_the_number_behind_it() -> None:
    cases = {
        "a": {"liver": score(0.5) | {"hd95_mm": 4.0}, "aorta": score(0.5) | {"hd95_mm": math.nan}},
        "b": {"liver": score(0.5) | {"hd95_mm": math.nan}, "aorta": score(0.5) | {"hd95_mm": math.nan}},
        "c": {"liver": score(0.5) | {"hd95_mm": 1.0, "swapped": 0.25}, "aorta": score(0.5) | {"hd95_mm": math.nan}},
        "d": {"liver": score(0.5) | {"hd95_mm": 10.0}, "aorta": score(0.5) | {"hd95_mm": math.nan}},
    }
    summary = summarise(cases, ["liver", "aorta"])
    assert summary["organs"]["liver"]["metrics"]["hd95_mm"] == {"n_cases": 3, "mean": 5.0, "median": 4.0}
    assert summary["organs"]["liver"]["metrics"]["swapped"] == {"n_cases": 1, "mean": 0.25, "median": 0.25}
    assert summary["organs"]["aorta"]["metrics"]["hd95_mm"] == {"n_cases": 0, "mean": None, "median": None}
    assert summary["foreground_mean"]["metrics"]["hd95_mm"] == {"mean": 5.0, "n_organs": 1}
    assert summary["foreground_mean"]["metrics"]["dice"] == {"mean": 0.5, "n_organs": 2}


def test_an_organ_absent_everywhere_leaves_the_mean_over_organs_standing() -> None:
    summary = summarise({"a": {"liver": score(0.5), "aorta": score(math.nan, 0, 0)}}, ["liver", "aorta"])
    assert figures(summary["foreground_mean"]) == {"dice": 0.5, "n_organs": 1, "n_cases": 1}
    assert summary["organs"]["aorta"]["mean"] is None


def test_no_case_at_all() -> None:
    assert figures(summarise({}, ["liver"])["foreground_mean"]) == {"dice": None, "n_organs": 0, "n_cases": 0}


@given(st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1, max_size=6), st.randoms())
def test_the_order_of_cases_does_not_matter(values: list[float], random: object) -> None:
    names = [f"case_{index}" for index in range(len(values))]
    shuffled = list(zip(names, values, strict=True))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = (
        summarise({name: {"liver": score(value)} for name, value in pairs}, ["liver"])
        for pairs in (zip(names, values, strict=True), shuffled)
    )
    for figure in ("mean", "median", "worst", "n_cases"):
        assert first["organs"]["liver"][figure] == pytest.approx(second["organs"]["liver"][figure])
    assert first["foreground_mean"]["n_organs"] == (not all(map(math.isnan, values)))
